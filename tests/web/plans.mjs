// Plan pages for the tests: an encoder of `layers` layers, attention 100 and feed-forward 200 parameters each.

export function slot(layers = 3) {
  return { slot: "t5xxl", about: "T5 text encoder", layers, attention: 100, feed_forward: 200, total: 2000 }
}

/** Three levels: 5; 5, 2; 5, 2, 0 with 4 run again in place 0. */
export function plan({ discrepancy = [0.1, 0.4, 0.5], layers = 3, name = "made up" } = {}) {
  const cuts = [
    { skip: [5], reuse: [] },
    { skip: [5, 2], reuse: [] },
    { skip: [5, 2, 0], reuse: [[0, 4]] },
  ]
  const levels = cuts.map((cut, n) => ({
    cuts: { t5xxl: cut },
    sparsity: [0.1, 0.15, 0.2][n],
    removed: [200, 300, 400][n],
    discrepancy: discrepancy === null ? null : { value: discrepancy[n] },
    warnings: [],
  }))
  return { name, notes: [], rounding: 5e-5, beyond: 5e-3, slots: [slot(layers)], levels }
}
