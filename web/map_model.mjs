// The layer map as geometry: two rows (attention, feed-forward) by layers. No DOM here.

import { bytesOf, bytesText, discrepancy, fits, kindOf, parametersOf, percent, removals } from "./levels.mjs"
import { say } from "./words.mjs"

export const GUTTER = 76
const LEAST_PITCH = 9
const MOST_PITCH = 22
const ROW = 20
const BETWEEN = 4
const ARCS = 15
const NO_ARCS = 3
const AXIS = 13

/**
 * The map of one encoder of a plan under one level (null: dense), `width` pixels wide.
 *
 * {width, height, bands: [{first, last, y}], rows: [{y, label}], cells: [{index, x, y, w, h, state, shade, text}],
 *  arcs: [{place, source, path}], ticks: [{x, y, text}]}; `state` is "kept", "skipped" or "re-used"; `shade`, 0 to 1,
 * is the share of the largest sub-block's bytes where kept, the rise in discrepancy where gone (null: not measured).
 */
export function layerMap(plan, slot, level, exact, width) {
  const room = Math.max(60, width - GUTTER)
  const bands = Math.max(1, Math.ceil((slot.layers * LEAST_PITCH) / room))
  const across = Math.ceil(slot.layers / bands)
  const pitch = Math.min(MOST_PITCH, room / across)
  const cut = level?.cuts[slot.slot] ?? { skip: [], reuse: [] }
  const sources = new Map(cut.reuse)
  const above = plan.levels.some((each) => each.cuts[slot.slot]?.reuse.length) ? ARCS : NO_ARCS
  const bandHeight = 2 * above + 2 * ROW + BETWEEN + AXIS
  const map = { width, height: bands * bandHeight, pitch, rows: [], cells: [], arcs: [], ticks: [] }
  const box = (index) => {
    const layer = Math.floor(index / 2)
    const band = Math.floor(layer / across)
    return {
      x: GUTTER + (layer % across) * pitch + 1,
      y: band * bandHeight + above + (index % 2) * (ROW + BETWEEN),
      w: pitch - 2,
      h: ROW,
      band,
    }
  }
  for (let band = 0; band < bands; band++) {
    const y = band * bandHeight + above
    map.rows.push({ y: y + ROW / 2, label: say("attention") }, { y: y + ROW + BETWEEN + ROW / 2, label: say("feed-forward") })
  }
  const gone = removals(plan, slot.slot)
  const skipped = new Set(cut.skip)
  const weight = (index) => (fits(slot, exact) ? exact.sub_blocks[index] : parametersOf(slot, index))
  const indices = Array.from({ length: 2 * slot.layers }, (_, index) => index)
  const heaviest = Math.max(...indices.map(weight))
  const steepest = Math.max(0, ...cut.skip.map((index) => gone.get(index)?.rise ?? 0))
  for (const index of indices) {
    const state = sources.has(index) ? "re-used" : skipped.has(index) ? "skipped" : "kept"
    const rise = gone.get(index)?.rise ?? null
    const shade = state === "kept" ? weight(index) / heaviest : rise === null || !steepest ? null : rise / steepest
    const size = bytesOf(slot, index, exact)
    const text = describe(slot, index, state, sources.get(index), size, gone.get(index), scattered(plan, slot.slot, index))
    map.cells.push({ index, ...box(index), state, shade, text })
  }
  for (const [place, source] of cut.reuse) map.arcs.push({ place, source, path: arc(box(place), box(source), place) })
  const every = pitch >= 18 ? 2 : pitch >= 11 ? 4 : 8
  for (let layer = 0; layer < slot.layers; layer += every) {
    const { x, w, band } = box(2 * layer)
    map.ticks.push({ x: x + w / 2, y: (band + 1) * bandHeight - 3, text: String(layer) })
  }
  return map
}

/** A curve from the source to the place: above the attention row, below the feed-forward row. In two bands, two stubs. */
function arc(place, source, index) {
  const up = index % 2 === 0
  const edge = (box) => (up ? box.y : box.y + box.h)
  const middle = (box) => box.x + box.w / 2
  const bend = (box) => edge(box) + (up ? -1 : 1) * (ARCS - 2) * 1.25
  if (place.band !== source.band) {
    const side = place.band > source.band ? -1 : 1
    const stub = (box, way) => `M ${middle(box)} ${edge(box)} Q ${middle(box)} ${bend(box)} ${middle(box) + way * 9} ${bend(box)}`
    return `${stub(source, -side)} ${stub(place, side)}`
  }
  const a = middle(source)
  const b = middle(place)
  return `M ${a} ${edge(source)} C ${a} ${bend(source)} ${b} ${bend(place)} ${b} ${edge(place)}`
}

/** The levels that skip a sub-block, where a larger one keeps it again; null where each larger one skips it too. */
function scattered(plan, slot, index) {
  const skips = plan.levels.map((level) => level.cuts[slot]?.skip.includes(index) ?? false)
  return skips.slice(skips.indexOf(true)).every(Boolean) ? null : plan.levels.filter((_, number) => skips[number])
}

/** What hovering or focusing a sub-block says. */
function describe(slot, index, state, source, size, gone, apart) {
  const about = { index, source, kind: say(kindOf(index)), layer: Math.floor(index / 2), size: bytesText(size) }
  const parts = [say("Sub-block {index}, {kind} of layer {layer}: ", about)]
  if (state === "re-used") parts.push(say("its own weights are gone, {source} runs here again. ", about))
  else parts.push(say(state === "kept" ? "kept. " : "skipped. "))
  parts.push(say("{size}. ", about))
  if (!gone) return [...parts, say("Kept in every level.")].join("")
  if (apart) {
    const levels = apart.map((level) => percent(level.sparsity)).join(", ")
    return [...parts, say("Removed at these levels only: {levels}.", { levels })].join("")
  }
  const from = { share: percent(gone.level.sparsity) }
  if (gone.rise === null) {
    parts.push(say("Removed from the level of {share} on; discrepancy not measured.", from))
  } else {
    const values = { value: discrepancy(gone.level.discrepancy.value), rise: discrepancy(gone.rise) }
    const text = "Removed from the level of {share} on; discrepancy {value} there, {rise} more than before."
    parts.push(say(text, { ...from, ...values }))
  }
  return parts.join("")
}
