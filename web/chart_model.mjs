// Discrepancy against bytes saved as geometry. No DOM here.

const LEFT = 60
const RIGHT = 12
const TOP = 8
const BOTTOM = 30
// From this ratio of the largest to the smallest discrepancy on, the scale is logarithmic.
const WIDE = 30

/**
 * The chart of a search. `levels` are [{saved, discrepancy, beams: [[saved, discrepancy], …]}] in bytes; levels
 * without a discrepancy are left out. `target` is in bytes, or null; `chosen` the number of a level, or null.
 *
 * {width, height, log, line, points: [{x, y, level, chosen}], beams: [{x, y}], target (x or null),
 *  xTicks: [{at, text}], yTicks: [{at, text}]}; pixels from the top left.
 */
export function searchChart(levels, { width, height, target = null, chosen = null }) {
  const measured = levels.map((level, number) => ({ ...level, number })).filter((level) => level.discrepancy !== null)
  const all = measured.flatMap((level) => [[level.saved, level.discrepancy], ...(level.beams ?? [])])
  const most = Math.max(1, target ?? 0, ...all.map(([saved]) => saved)) * 1.03
  const values = all.map(([, value]) => value)
  const positive = values.filter((value) => value > 0)
  const log = positive.length > 1 && Math.max(...positive) / Math.min(...positive) > WIDE
  const low = log ? Math.min(...positive) / 1.5 : 0
  const high = Math.max(...values, 0) * (log ? 1.5 : 1.05) || 1
  const x = (saved) => LEFT + (saved / most) * (width - LEFT - RIGHT)
  const share = (value) => (log ? Math.log(Math.max(value, low) / low) / Math.log(high / low) : value / high)
  const y = (value) => height - BOTTOM - share(value) * (height - TOP - BOTTOM)
  const points = measured.map((level) => ({
    x: x(level.saved), y: y(level.discrepancy), level: level.number, chosen: level.number === chosen,
  }))
  return {
    width, height, log, left: LEFT, right: width - RIGHT, top: TOP, bottom: height - BOTTOM,
    points,
    line: points.map((point, n) => `${n ? "L" : "M"} ${round(point.x)} ${round(point.y)}`).join(" "),
    beams: measured.flatMap((level) => (level.beams ?? []).map(([saved, value]) => ({ x: x(saved), y: y(value) }))),
    target: target === null ? null : x(target),
    xTicks: steps(most, 5).map((at) => ({ at: x(at), text: unitText(at, most) })),
    xUnit: unit(most).name,
    yTicks: (log ? decades(low, high) : steps(high, 4)).map((at) => ({ at: y(at), text: tidy(at) })),
  }
}

function round(value) {
  return Math.round(value * 10) / 10
}

/** About `count` round numbers from 0 to `most`. */
export function steps(most, count) {
  const rough = most / count
  const power = 10 ** Math.floor(Math.log10(rough))
  const step = [1, 2, 2.5, 5, 10].map((factor) => factor * power).find((size) => size >= rough)
  const found = []
  for (let n = 0; n * step <= most * (1 + 1e-9); n++) found.push(n * step)
  return found
}

/** Powers of ten from `low` to `high`; with 2 and 5 between them where there are few. */
export function decades(low, high) {
  const found = []
  const few = Math.log10(high / low) < 2.5
  for (let power = Math.floor(Math.log10(low)); power <= Math.ceil(Math.log10(high)); power++) {
    for (const factor of few ? [1, 3] : [1]) {
      const value = factor * 10 ** power
      if (value >= low && value <= high) found.push(value)
    }
  }
  const every = Math.ceil(found.length / 6)
  return found.filter((_, n) => n % every === 0)
}

function unit(most) {
  return most >= 1e9 ? { size: 1e9, name: "GB" } : most >= 1e6 ? { size: 1e6, name: "MB" } : { size: 1e3, name: "kB" }
}

function unitText(at, most) {
  return tidy(at / unit(most).size)
}

/** A short number without noise from adding floats. */
export function tidy(value) {
  if (value === 0) return "0"
  const size = Math.abs(value)
  if (size < 1e-3 || size >= 1e5) return value.toExponential(1).replace(".0e", "e").replace("e+", "e")
  return String(Number(value.toPrecision(3)))
}
