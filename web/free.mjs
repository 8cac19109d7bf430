// What went free in a run (see nodes/comfy_host/page/pages_free.py) in figures and words. No DOM here.

import { say } from "./words.mjs"

const NAMES = {
  layers: "{count} layers",
  norm: "last norm",
  projection: "projection of the pooled output",
  head: "language-model head",
  tower: "part for pictures and sounds",
  table: "embedding table, stays in RAM, off the card",
  file_table: "embedding table, stays in its file",
}
// What the server says, word for word: its texts are said in the page's language where they are known here.
export const REASONS = [
  "this CLIP reads layer {read} of {layers}",
  "this CLIP reads layers {read} of {layers}",
  "this CLIP reads all {layers} layers",
  "this CLIP reads layer {read} of {layers} and the last for the pooled output",
  "this CLIP reads no state behind it",
  "this CLIP hands on no projected pooled output",
  "only writing text uses it",
  "this workflow shows the encoder no pictures",
  "a prompt needs a few hundred of its rows",
]

/** The lines of a run without errors: `head`, then `parts` of {size, text}, then `plan`: what a plan made of it, where
 * the level with the sparsity `shown` is the one that was taken; "" elsewhere. */
export function freeLines(free, shown = null) {
  const [before, without, after] = free.clip
  const slots = new Set(free.parts.map((part) => part.slot))
  const parts = free.parts.map((part) => ({ size: short(part.bytes), text: partText(part, slots.size > 1) }))
  const taken = free.sparsity !== null && free.sparsity === shown
  return {
    head: parts.length ? say("{change}, no bit of any picture changed", { change: change(before, without) })
      : say("Everything that this CLIP holds is read: nothing goes free."),
    parts,
    plan: taken ? say("with the plan: {change}", { change: change(before, after) }) : "",
  }
}

/** "9 layers: this CLIP reads layers 9, 18 and 27 of 36", with the encoder's name where there are several. */
function partText({ slot, kind, count, why }, several) {
  const name = kind === "layers" && count === 1 ? say("1 layer") : say(NAMES[kind] ?? kind, { count })
  const values = Object.fromEntries(Object.entries(why.values).map(([key, value]) => [key, listed(value)]))
  const texts = { name: several ? `${slot}, ${name}` : name, why: say(why.text, values) }
  return say("{name}: {why}", texts)
}

function listed(value) {
  if (!Array.isArray(value)) return value
  if (value.length < 2) return value.join()
  return say("{some} and {last}", { some: value.slice(0, -1).join(", "), last: value[value.length - 1] })
}

/** "16.4 → 11.7 GB (29 % smaller)": both in the unit of the first. */
export function change(before, after) {
  const [from, to] = fromTo(before, after, before >= 10 * unitOf(before)[0] ? 1 : 2)
  return say("{from} → {to} ({share} % smaller)", { from, to, share: shareText(before, after) })
}

/** ["9.5", "5.7 GB"]: both in the unit of the first, with so many `digits`. */
export function fromTo(before, after, digits) {
  const [unit, name] = unitOf(before)
  const [from, to] = [before, after].map((size) => (size / unit).toFixed(digits))
  return [from, `${to} ${name}`]
}

/** By how much `after` is smaller, in per cent: "40", "0.4", "< 0.1". */
export function shareText(before, after) {
  const share = before ? (100 * (before - after)) / before : 0
  return share > 0 && share < 0.1 ? "< 0.1" : share.toFixed(share < 1 ? 1 : 0)
}

/** "4.05 GB", "11.7 GB", "310 MB", "0.02 MB". */
export function short(size) {
  const [unit, name] = unitOf(size)
  const number = size / unit
  return `${number.toFixed(number >= 100 ? 0 : number >= 10 ? 1 : 2)} ${name}`
}

function unitOf(size) {
  return size >= 1e9 ? [1e9, "GB"] : size >= 1e6 ? [1e6, "MB"] : [1e3, "kB"]
}
