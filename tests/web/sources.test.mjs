// From widgets and links to the question for the server; and what no script of the pack may do.

import assert from "node:assert/strict"
import { readdirSync, readFileSync } from "node:fs"
import { test } from "node:test"

import { clipKind, planSource, sparsityOf } from "../../web/node_view.mjs"

/** A node as the adapter shows it: widgets by name, upstream nodes by input; the host's own shape, no more. */
function node(type, widgets = {}, upstream = {}) {
  return {
    type,
    widget: (name) => (name in widgets ? { value: widgets[name] } : null),
    upstream: (name) => upstream[name] ?? null,
  }
}

test("a plan comes from the pasted text before the source", () => {
  assert.deepEqual(planSource(node("SkrrLoadPlan", { source: "auto", text: " {} " })).ask, { text: " {} " })
  assert.deepEqual(planSource(node("SkrrLoadPlan", { source: "sd3", text: " " })).ask, { source: "sd3" })
})

test("auto asks by the kind of CLIP of the loader, past nodes that pass it on", () => {
  const loader = node("DualCLIPLoader", { type: "flux" })
  const lora = node("LoraLoader", {}, { clip: loader })
  const load = node("SkrrLoadPlan", { source: "auto", text: "" }, { clip: lora })
  assert.deepEqual(planSource(load).ask, { kind: "flux" })
  assert.equal(clipKind(node("SkrrLoadPlan", {}, { clip: node("TripleCLIPLoader") })), "sd3")
  assert.equal(clipKind(node("SkrrLoadPlan", {}, { clip: node("CLIPLoader", { type: "chroma" }) })), "pixart")
  assert.equal(clipKind(node("SkrrLoadPlan", {}, { clip: node("CLIPLoader", { type: "wan" }) })), null)
  assert.equal(planSource(node("SkrrLoadPlan", { source: "auto", text: "" })).ask, null)
})

test("a loop of links ends", () => {
  const loop = node("LoraLoader")
  loop.upstream = () => loop
  assert.equal(clipKind(loop), null)
})

test("SkrrApply shows the plan of the node before it; a search's only when it is pinned or has run", () => {
  const search = node("SkrrSearch", { pinned: "skrr1.x" })
  const apply = node("SkrrApply", { sparsity: 0.4 }, { plan: search })
  assert.deepEqual(planSource(apply), { owner: search, ask: { text: "skrr1.x" } })
  const fresh = node("SkrrSearch", { pinned: "" })
  assert.deepEqual(planSource(node("SkrrApply", {}, { plan: fresh })), { owner: fresh, ask: null })
  assert.deepEqual(planSource(node("SkrrApply")), { owner: null, ask: null })
})

test("a sparsity that a link brings and nobody can read is unknown, not zero", () => {
  assert.equal(sparsityOf(node("SkrrApply", { sparsity: 0.3 })), 0.3)
  assert.equal(sparsityOf(node("SkrrApply")), null)
  assert.equal(sparsityOf(node("SkrrLoadPlan", { sparsity: 0.3 })), null)
})

const folder = new URL("../../web/", import.meta.url)
const scripts = readdirSync(folder).filter((name) => name.endsWith("js"))

for (const name of scripts) {
  test(`${name} inserts no markup, loads nothing from elsewhere, runs no text`, () => {
    const text = readFileSync(new URL(name, folder), "utf8")
    for (const word of ["innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "new Function", "DOMParser",
      "://", "localStorage", "import("]) {
      const found = text.split("\n").filter((line) => line.includes(word) && !line.includes("http://www.w3.org/2000/svg"))
      assert.deepEqual(found, [], word)
    }
    assert.ok(name === "skrr.js" || !text.includes("/scripts/"), "only skrr.js knows ComfyUI's front end")
  })
}

test("ComfyUI loads every .js file by itself: there is one", () => {
  assert.deepEqual(scripts.filter((name) => name.endsWith(".js")), ["skrr.js"])
})

for (const name of scripts) {
  // The front end says so once, and to whoever asks first; a browser test may miss it.
  test(`${name} asks no slot for its link, which the front end calls deprecated`, () => {
    const lines = readFileSync(new URL(name, folder), "utf8").split("\n")
    assert.deepEqual(lines.filter((line) => /\.links?\b(?!\()/.test(line)), [])
  })
}
