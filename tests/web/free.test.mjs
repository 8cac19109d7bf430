// Free parts in figures and words, on the parts of a FLUX.2 klein 9B as the server hands them to the page.

import assert from "node:assert/strict"
import { test } from "node:test"

import { change, freeLines, short } from "../../web/free.mjs"
import { setLanguage } from "../../web/words.mjs"

const reads = { text: "this CLIP reads layers {read} of {layers}", values: { read: [9, 18, 27], layers: 36 } }
const writing = { text: "only writing text uses it", values: {} }
const part = (kind, bytes, why, count = 1, slot = "qwen3_8b") => ({ slot, kind, count, bytes, why })
const klein = { clip: [16.4e9, 11.7e9, 7.2e9], sparsity: null,
  parts: [part("layers", 3.47e9, reads, 9), part("head", 1.24e9, writing)] }

test("before and after in one line, then each part with its size and why", () => {
  const { head, parts, plan } = freeLines(klein)
  assert.equal(head, "16.4 → 11.7 GB (29 % smaller), no bit of any picture changed")
  assert.deepEqual(parts, [
    { size: "3.47 GB", text: "9 layers: this CLIP reads layers 9, 18 and 27 of 36" },
    { size: "1.24 GB", text: "language-model head: only writing text uses it" },
  ])
  assert.equal(plan, "")
})

test("what the plan made of it is said for the level that was taken only", () => {
  const cut = { ...klein, sparsity: 0.3 }
  assert.equal(freeLines(cut, 0.3).plan, "with the plan: 16.4 → 7.2 GB (56 % smaller)")
  assert.equal(freeLines(cut, 0.4).plan, "")
  assert.equal(freeLines(cut, null).plan, "")
})

test("where several encoders lost something each line names its own", () => {
  const one = { text: "this CLIP reads layer {read} of {layers}", values: { read: 11, layers: 12 } }
  const both = { clip: [2e9, 1.9e9, 1.9e9], sparsity: null,
    parts: [part("layers", 14e6, one, 1, "clip_l"), part("table", 9e7, writing, 1, "clip_g")] }
  const { parts } = freeLines(both)
  assert.equal(parts[0].text, "clip_l, 1 layer: this CLIP reads layer 11 of 12")
  assert.match(parts[1].text, /^clip_g, embedding table, stays in RAM/)
})

test("of a table it is said where it stays", () => {
  const rows = { text: "a prompt needs a few hundred of its rows", values: {} }
  const { parts } = freeLines({ ...klein, parts: [part("table", 1.24e9, rows), part("file_table", 1.24e9, rows)] })
  assert.deepEqual(parts.map(({ text }) => text), [
    "embedding table, stays in RAM, off the card: a prompt needs a few hundred of its rows",
    "embedding table, stays in its file: a prompt needs a few hundred of its rows",
  ])
})

test("a CLIP without free parts says so", () => {
  const { head, parts } = freeLines({ clip: [5e8, 5e8, 5e8], sparsity: null, parts: [] })
  assert.match(head, /^Everything that this CLIP holds is read/)
  assert.deepEqual(parts, [])
})

test("a part and a reason that this page does not know yet are shown as the server says them", () => {
  const [line] = freeLines({ ...klein, parts: [part("gate", 5, { text: "nobody asks {n}", values: { n: 3 } })] }).parts
  assert.equal(line.text, "gate: nobody asks 3")
})

test("in another language reasons are said in it too", () => {
  setLanguage("fr")
  assert.equal(freeLines(klein).parts[0].text, "9 couches : ce CLIP lit les couches 9, 18 et 27 sur 36")
  setLanguage("en")
})

test("sizes as people say them", () => {
  assert.equal(change(9.1e9, 8.8e9), "9.10 → 8.80 GB (3 % smaller)")
  assert.equal(change(1e9, 0.999e9), "1.00 → 1.00 GB (0.1 % smaller)")
  assert.equal(change(9.787e9, 9.786e9), "9.79 → 9.79 GB (< 0.1 % smaller)")
  assert.equal(change(0, 0), "0.00 → 0.00 kB (0.0 % smaller)")
  assert.deepEqual([4.05e9, 11.71e9, 311e6, 20480].map(short), ["4.05 GB", "11.7 GB", "311 MB", "20.5 kB"])
})
