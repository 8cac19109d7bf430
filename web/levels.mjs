// Plan pages (see nodes/comfy_host/page/pages_plans.py) in figures and words. No DOM here.

import { fromTo, shareText } from "./free.mjs"
import { say } from "./words.mjs"

const FP16 = 2
const FP8 = 1
// What the server says of a level's quality, word for word: said in the page's language where it is known here.
export const QUALITIES = [
  "Quality: not measured for this plan. Compare pictures.",
  "Quality: the text's features stay as they are, to a hundredth of their size.",
  "Quality: about {lost} of 100 right pictures may be lost ({low} to {high}), measured on the pack's small pipeline. Compare pictures.",
]

/** The level that Skrr Apply takes for `sparsity` (0 to 1): the first, in the server's order, that reaches it; the
 * largest for what rounds to it in whole per cents; or null. */
export function levelFor(plan, sparsity) {
  const reached = plan.levels.find((level) => level.sparsity >= sparsity - plan.rounding)
  if (reached) return reached
  const largest = largestLevel(plan).sparsity
  const near = sparsity <= largest + (plan.beyond ?? 0) + 1e-9
  return (near && plan.levels.find((level) => level.sparsity === largest)) || null
}

/** What a running search has found so far, in the form of a plan page. */
export function planOfRun(run) {
  const levels = run.levels.map((level) => ({
    cuts: { [run.slot.slot]: { skip: level.order, reuse: [] } },
    sparsity: level.sparsity,
    removed: level.order.reduce((sum, index) => sum + parametersOf(run.slot, index), 0),
    discrepancy: { value: level.discrepancy },
    warnings: [],
  }))
  return { name: run.name, notes: [], slots: [run.slot], levels, rounding: 0, beyond: 0 }
}

/** The plan's largest level. */
export function largestLevel(plan) {
  return plan.levels[plan.levels.length - 1]
}

/** Whether sub-block `index` is attention (even) or feed-forward (odd). */
export function kindOf(index) {
  return index % 2 === 0 ? "attention" : "feed-forward"
}

/** Parameters of one sub-block. */
export function parametersOf(slot, index) {
  return index % 2 === 0 ? slot.attention : slot.feed_forward
}

/** The bytes of one sub-block: {exact}, where `exact` ({sub_blocks, total}) is of this shape, else {fp16, fp8}. */
export function bytesOf(slot, index, exact) {
  if (fits(slot, exact)) return { exact: exact.sub_blocks[index] }
  const parameters = parametersOf(slot, index)
  return { fp16: FP16 * parameters, fp8: FP8 * parameters }
}

/** Whether measured bytes belong to an encoder of this shape. */
export function fits(slot, exact) {
  return Boolean(exact) && exact.sub_blocks.length === 2 * slot.layers
}

/** What `level` saves, in bytes: {exact} where every encoder it cuts was measured, else {fp16, fp8} (estimates). */
export function savedBytes(plan, level, exact = {}) {
  const cut = plan.slots.filter((slot) => level.cuts[slot.slot])
  if (cut.length && cut.every((slot) => fits(slot, exact[slot.slot]))) {
    let total = 0
    for (const slot of cut) {
      for (const index of level.cuts[slot.slot].skip) total += exact[slot.slot].sub_blocks[index]
    }
    return { exact: total }
  }
  return { fp16: FP16 * level.removed, fp8: FP8 * level.removed }
}

/** ["9.5 → 5.7 GB (40 % smaller)", ""]: the encoders that `level` cuts, before and after; where they were not measured
 * ["9.5 → 5.7 GB in fp16 (40 % smaller)", "4.8 → 2.8 GB in fp8"]. */
export function sizesText(plan, level, exact = {}) {
  const cut = plan.slots.filter((slot) => level.cuts[slot.slot])
  const saved = savedBytes(plan, level, exact)
  if ("exact" in saved) {
    const before = cut.reduce((sum, slot) => sum + exact[slot.slot].total, 0)
    const [from, to] = fromTo(before, before - saved.exact, 1)
    return [say("{from} → {to} ({share} % smaller)", { from, to, share: shareText(before, before - saved.exact) }), ""]
  }
  const parameters = cut.reduce((sum, slot) => sum + slot.total, 0)
  const both = (width) => fromTo(width * parameters, width * (parameters - level.removed), 1)
  const [[from, to], [less, least]] = [both(FP16), both(FP8)]
  const share = shareText(parameters, parameters - level.removed)
  return [say("{from} → {to} in fp16 ({share} % smaller)", { from, to, share }), say("{from} → {to} in fp8", { from: less, to: least })]
}

/** What a level does to quality, in words; "" where nobody can say. */
export function qualityText(level) {
  return level.quality ? say(level.quality.text, level.quality.values) : ""
}

/** Sub-blocks: how many a level skips, re-uses (of the skipped places), and how many there are. */
export function counts(plan, level) {
  const cuts = Object.values(level?.cuts ?? {})
  return {
    skipped: cuts.reduce((sum, cut) => sum + cut.skip.length, 0),
    reused: cuts.reduce((sum, cut) => sum + cut.reuse.length, 0),
    all: plan.slots.reduce((sum, slot) => sum + 2 * slot.layers, 0),
  }
}

/** For each sub-block of `slot` that some level skips: the first such level, and how far the discrepancy rises there. */
export function removals(plan, slot) {
  const found = new Map()
  let before = 0
  plan.levels.forEach((level, number) => {
    const value = level.discrepancy?.value ?? null
    for (const index of level.cuts[slot]?.skip ?? []) {
      if (found.has(index)) continue
      found.set(index, { level, number, rise: value === null || before === null ? null : Math.max(0, value - before) })
    }
    before = value
  })
  return found
}

/** "1.84 GB", "251.7 MB", "12.3 kB". */
export function bytes(size) {
  if (size >= 1e9) return `${(size / 1e9).toFixed(3)} GB`
  if (size >= 1e6) return `${(size / 1e6).toFixed(1)} MB`
  return `${(size / 1e3).toFixed(1)} kB`
}

/** {exact} or {fp16, fp8} in words. */
export function bytesText(size) {
  if ("exact" in size) return bytes(size.exact)
  return say("{half} in fp16, {quarter} in fp8", { half: bytes(size.fp16), quarter: bytes(size.fp8) })
}

/** "41.92 %". */
export function percent(share) {
  return `${(100 * share).toFixed(2)} %`
}

/** A discrepancy: four significant digits, as in the reports. */
export function discrepancy(value) {
  if (value === null) return say("not a number")
  if (value === 0) return "0"
  const text = value < 1e-4 ? value.toExponential(3) : value.toPrecision(4)
  if (text.includes("e")) return text.replace("e+", "e")
  return text.includes(".") ? text.replace(/\.?0+$/, "") : text
}

/** "2 h 5 min", "3 min 20 s", "12 s". */
export function duration(seconds) {
  const whole = Math.max(0, Math.round(seconds))
  const minutes = Math.round(whole / 60)
  if (whole >= 3600) return say("{h} h {min} min", { h: Math.floor(minutes / 60), min: minutes % 60 })
  if (whole >= 60) return say("{min} min {s} s", { min: Math.floor(whole / 60), s: whole % 60 })
  return say("{s} s", { s: whole })
}
