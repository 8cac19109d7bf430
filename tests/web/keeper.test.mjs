// What a panel shows after a run that failed at its node, and after the next good one.

import assert from "node:assert/strict"
import { test } from "node:test"

import { Keeper } from "../../web/keeper.mjs"
import { plan } from "./plans.mjs"

/** A keeper of a Skrr Apply with the id 3:7 whose plan is known to the server; `views` are what its panel was given. */
async function kept() {
  const views = []
  const load = { type: "SkrrLoadPlan", places: () => ["1"], upstream: () => null,
    widget: (name) => ({ value: name === "source" ? "sd3" : "" }) }
  const face = { type: "SkrrApply", places: () => ["3:7"], upstream: (name) => (name === "plan" ? load : null),
    linked: () => true, widget: (name) => (name === "sparsity" ? { value: 0.1 } : null) }
  const host = { workflowId: () => "w", ask: async (path) => (path === "/skrr/plan" ? plan() : {}) }
  const keeper = new Keeper(face, { show: (view) => views.push(view) }, host)
  keeper.look()
  await keeper.refresh()
  return { keeper, views, last: () => views[views.length - 1] }
}

const FAILURE = { node_id: "3:7", node_type: "SkrrApply", exception_message: "The plan is for T5, not CLIP-L.\n" }

test("a run-time error stands in the panel of its node, without the figures of before", async () => {
  const { keeper, last } = await kept()
  assert.equal(last().plan.name, "made up")
  keeper.heardError(FAILURE, "w")
  assert.equal(last().error, "The plan is for T5, not CLIP-L.")
  assert.equal(last().plan, null)
  assert.equal(last().note, "")
  assert.deepEqual(last().warnings, [])
})

test("the error of another node, or of another kind of node under the same id, is not shown", async () => {
  const { keeper, last } = await kept()
  keeper.heardError({ ...FAILURE, node_id: "7" }, "w")
  keeper.heardError({ ...FAILURE, node_type: "KSampler" }, "w")
  assert.equal(last().error, "")
})

test("the next good run takes the error away and brings the figures back", async () => {
  const { keeper, last } = await kept()
  keeper.heardError(FAILURE, "w")
  keeper.heardSuccess("w")
  assert.equal(last().error, "")
  assert.equal(last().plan.name, "made up")
})

test("the run of another workflow shows no error here and takes none away", async () => {
  const { keeper, last } = await kept()
  keeper.heardError(FAILURE, "other")
  assert.equal(last().error, "")
  keeper.heardError(FAILURE, "w")
  keeper.heardSuccess("other")
  assert.equal(last().error, "The plan is for T5, not CLIP-L.")
})

const BEFORE = "The last run failed before it came to this node."

test("a run that failed in front of a node leaves it no figures of before, until it runs", async () => {
  const { keeper, last } = await kept()
  keeper.heardError({ ...FAILURE, node_id: "1", node_type: "CLIPLoader" }, "w", ["2", "3:7"])
  assert.equal(last().note, BEFORE)
  assert.equal(last().plan, null)
  keeper.heardSuccess("w")
  assert.equal(last().note, "")
  assert.equal(last().plan.name, "made up")
  keeper.heardError({ ...FAILURE, node_id: "1", node_type: "CLIPLoader" }, "w", ["2"])
  keeper.heardError({ ...FAILURE, node_id: "1", node_type: "CLIPLoader" }, "other", ["3:7"])
  assert.equal(last().note, "", "beside the failure, and in another workflow")
})

test("a search that a later run did not come to does not stand there as the last one", async () => {
  const { keeper, last } = await behind(null, {}, "SkrrSearch")
  keeper.run = { state: "done", levels: [] }
  keeper.draw()
  assert.equal(last().run.state, "done")
  keeper.heardError({ ...FAILURE, node_id: "1", node_type: "CLIPLoader" }, "w", ["3:7"])
  assert.equal(last().run, null)
  assert.equal(last().note, BEFORE)
})

/** A keeper of a node, a Skrr Apply if nothing else is said, behind `upstream`, a node or null; `state` is what the server
 * knows, by the node's id. */
async function behind(upstream, state, type = "SkrrApply") {
  const views = []
  const face = { type, places: () => ["3:7"], upstream: () => upstream, linked: () => true,
    widget: (name) => (name === "sparsity" ? { value: 0.1 } : null) }
  const ask = async (path) => state[new URLSearchParams(path.split("?")[1]).get("node")] ?? {}
  const keeper = new Keeper(face, { show: (view) => views.push(view) }, { workflowId: () => "w", ask })
  const settle = () => new Promise((resolve) => setTimeout(resolve))
  keeper.look()
  await settle()
  return { keeper, settle, last: () => views[views.length - 1] }
}

const RAN = { workflow: "w", node: "3:7" }

test("behind a subgraph's input the plan is the one that the node was given when it ran", async () => {
  const state = {}
  const { keeper, settle, last } = await behind(null, state)
  assert.equal(last().note, "The plan is known once this has run.")
  state["3:7"] = { plan: plan(), exact: {} }
  keeper.heardNode(RAN)
  await settle()
  assert.equal(last().plan.name, "made up")
  assert.equal(last().note, "")
})

for (const [how, ran] of [["the node runs", (keeper) => keeper.heardNode(RAN)],
  ["a good run takes it from ComfyUI's memory", (keeper) => keeper.heardSuccess("w")]]) {
  test(`what a failed run has overtaken is known after a reload too, and ends when ${how}`, async () => {
    const state = { "3:7": { stopped: true } }
    const { keeper, settle, last } = await behind(null, state)
    assert.equal(last().note, BEFORE)
    assert.equal(last().error, "")
    state["3:7"] = { plan: plan(), exact: {} }
    ran(keeper)
    await settle()
    assert.equal(last().note, "")
    assert.equal(last().plan.name, "made up")
  })
}

test("behind a switch too, until it is set otherwise", async () => {
  let set = "1"
  const other = { type: "Switch", places: () => ["5"], upstream: () => null, widget: () => null, values: () => set }
  const state = { "3:7": { plan: plan(), exact: {} } }
  const { keeper, settle, last } = await behind(other, state)
  assert.equal(last().plan.name, "made up")
  set = "2"
  keeper.look()
  await settle()
  assert.equal(last().plan, null)
  assert.equal(last().note, "The plan is known once this has run.")
  keeper.heardNode(RAN)
  await settle()
  assert.equal(last().plan.name, "made up")
})

for (const type of ["SkrrSavePlan", "SkrrCLIPLoader"]) {
  test(`${type} shows what it was given when it ran, behind a subgraph's input and behind a switch`, async () => {
    let set = "1"
    const other = { type: "Switch", places: () => ["5"], upstream: () => null, widget: () => null, values: () => set }
    for (const upstream of [null, other]) {
      const state = {}
      const { keeper, settle, last } = await behind(upstream, state, type)
      assert.equal(last().note, "The plan is known once this has run.")
      state["3:7"] = { plan: plan(), exact: {} }
      keeper.heardNode(RAN)
      await settle()
      assert.equal(last().plan.name, "made up")
      set = "2"
      keeper.look()
      await settle()
      assert.equal(last().plan?.name, upstream ? undefined : "made up")
      set = "1"
    }
  })
}

test("the plan that auto took for another CLIP is not shown for the one now loaded", async () => {
  let file = "old"
  const clip = { type: "SomeLoader", places: () => ["1"], upstream: () => null, widget: () => null, values: () => file }
  const load = { type: "SkrrLoadPlan", places: () => ["2"], upstream: () => clip, values: () => "",
    widget: (name) => ({ value: name === "source" ? "auto" : "" }) }
  const { keeper, settle, last } = await behind(load, { 2: { plan: plan(), exact: {} } })
  assert.equal(last().plan.name, "made up")
  file = "new"
  keeper.look()
  await settle()
  assert.equal(last().plan, null)
  assert.match(last().note, /^auto takes/)
  keeper.heardNode({ workflow: "w", node: "2" })
  await settle()
  assert.equal(last().plan.name, "made up")
})

const FREE = { clip: [16.4e9, 11.7e9, 11.7e9], sparsity: null, parts: [] }

/** A keeper of a node with nothing connected to `plan`, Skrr Apply behind a CLIP loader; `set` holds values of widgets. */
async function alone(state, set = {}, type = "SkrrApply") {
  set = { file: "klein", pictures: false, source: "none", sparsity: 0.4, ...set }
  const views = []
  const loader = { type: "CLIPLoader", places: () => ["1"], upstream: () => null, values: () => set.file,
    widget: (name) => (name === "type" ? { value: set.kind } : null) }
  const clip = (name) => type === "SkrrApply" && name === "clip"
  const face = { type, places: () => ["3:7"], upstream: (name) => (clip(name) ? loader : null), linked: clip,
    widget: (name) => ({ value: set[name] }) }
  const published = (asked) => (asked.best === "flux" || asked.source ? plan({ name: asked.source ?? "published" }) : {})
  const ask = async (path, asked) => (path.startsWith("/skrr/node?") ? { ...state } : published(asked))
  const host = { workflowId: () => "w", ask }
  const keeper = new Keeper(face, { show: (view) => views.push(view) }, host)
  const settle = () => new Promise((resolve) => setTimeout(resolve))
  keeper.look()
  await settle()
  return { keeper, settle, set, last: () => views[views.length - 1] }
}

test("without a plan the panel says before the run that free parts need none, and after it what went", async () => {
  const state = {}
  const { keeper, settle, last } = await alone(state)
  assert.match(last().note, /^What no picture reads goes free when this runs, without a plan/)
  assert.equal(last().free, null)
  Object.assign(state, { plan: null, exact: {}, warnings: ["2 LoRA patches"], free: FREE })
  keeper.heardNode(RAN)
  await settle()
  assert.deepEqual(last().free, FREE)
  assert.equal(last().note, "")
  assert.deepEqual(last().warnings, ["2 LoRA patches"])
})

for (const [name, value] of [["file", "another"], ["pictures", true]]) {
  test(`figures of a run go when ${name} is set otherwise, and come back with it`, async () => {
    const { keeper, set, last } = await alone({ plan: null, exact: {}, warnings: [], free: FREE })
    const before = set[name]
    assert.deepEqual(last().free, FREE)
    set[name] = value
    keeper.look()
    assert.equal(last().free, null)
    assert.match(last().note, /^What no picture reads/)
    set[name] = before
    keeper.look()
    assert.deepEqual(last().free, FREE)
  })
}

for (const [name, value] of [["file1", "another"], ["type", "wan"], ["text_generation", true]]) {
  test(`Skrr CLIP Loader shows what it did not read until ${name} is set otherwise`, async () => {
    const widgets = { file1: "klein", type: "flux2", text_generation: false }
    const state = { plan: null, exact: {}, warnings: [], free: FREE }
    const { keeper, set, last } = await alone(state, widgets, "SkrrCLIPLoader")
    assert.deepEqual(last().free, FREE)
    assert.equal(last().note, "")
    set[name] = value
    keeper.look()
    assert.equal(last().free, null)
    assert.match(last().note, /^What no picture reads/)
  })
}

test("no figure of a run before stays beside an error, or comes back after it", async () => {
  const state = { plan: null, exact: {}, warnings: ["2 LoRA patches"], free: FREE }
  const { keeper, settle, last } = await alone(state)
  delete state.free // the server forgets a node's figures when it begins to run
  keeper.heardError(FAILURE, "w")
  assert.equal(last().free, null)
  assert.deepEqual(last().warnings, [])
  await settle()
  keeper.heardSuccess("w")
  assert.equal(last().free, null)
  assert.equal(last().error, "")
})

test("after a reload behind a failure, a good run brings the figures although the page saw the failing settings first", async () => {
  const state = { stopped: true }
  const { keeper, settle, set, last } = await alone(state, { file: "broken", pictures: false })
  assert.equal(last().note, BEFORE)
  set.file = "klein"
  keeper.look()
  delete state.stopped
  Object.assign(state, { plan: null, exact: {}, warnings: [], free: FREE })
  keeper.heardSuccess("w")
  await settle()
  assert.deepEqual(last().free, FREE)
  assert.equal(last().note, "")
})

test("with a plan the free parts of the run stand above the plan's own figures", async () => {
  const state = { "3:7": { plan: plan(), exact: {}, warnings: ["one"], free: { ...FREE, sparsity: 0.1 } } }
  const { last } = await behind(null, state)
  assert.equal(last().plan.name, "made up")
  assert.equal(last().free.sparsity, 0.1)
  assert.deepEqual(last().warnings, ["one"])
})

test("a node that chooses by itself shows the published plan at once, and after the run the one that it took", async () => {
  const state = {}
  const { keeper, settle, set, last } = await alone(state, { source: "auto", kind: "flux" })
  assert.equal(last().plan.name, "published")
  Object.assign(state, { plan: plan({ name: "found here" }), exact: {}, chosen: "auto" })
  keeper.heardNode(RAN)
  await settle()
  assert.equal(last().plan.name, "found here")
  set.file = "another"
  keeper.look()
  await settle()
  assert.equal(last().plan.name, "published")
})

test("a plan that was wired or chosen by its name is not taken for auto's choice", async () => {
  for (const chosen of ["", "mine.json"]) {
    const { last } = await alone({ plan: plan({ name: "before" }), exact: {}, chosen }, { source: "auto", kind: "wan" })
    assert.equal(last().plan, null)
    assert.match(last().note, /^auto takes the best plan at hand/)
  }
})

test("the plan chosen by name in the node itself is shown, and none where none is chosen", async () => {
  const { keeper, settle, set, last } = await alone({}, { source: "mine.json" })
  assert.equal(last().plan.name, "mine.json")
  set.source = "none"
  keeper.look()
  await settle()
  assert.equal(last().plan, null)
  assert.match(last().note, /^What no picture reads goes free when this runs, without a plan/)
})

test("at a sparsity of 0 the panel says what goes, and what more would", async () => {
  const { keeper, settle, set, last } = await alone({}, { source: "auto", kind: "flux2", sparsity: 0 })
  assert.match(last().note, /Above a sparsity of 0 the best plan at hand takes out more/)
  set.sparsity = 0.2
  keeper.look()
  await settle()
  assert.match(last().note, /^auto takes the best plan at hand/)
})
