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
    widget: (name) => (name === "sparsity" ? { value: 0.1 } : null) }
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
  keeper.heardError(FAILURE)
  assert.equal(last().error, "The plan is for T5, not CLIP-L.")
  assert.equal(last().plan, null)
  assert.equal(last().note, "")
  assert.deepEqual(last().warnings, [])
})

test("the error of another node, or of another kind of node under the same id, is not shown", async () => {
  const { keeper, last } = await kept()
  keeper.heardError({ ...FAILURE, node_id: "7" })
  keeper.heardError({ ...FAILURE, node_type: "KSampler" })
  assert.equal(last().error, "")
})

test("the next good run takes the error away and brings the figures back", async () => {
  const { keeper, last } = await kept()
  keeper.heardError(FAILURE)
  keeper.heardSuccess()
  assert.equal(last().error, "")
  assert.equal(last().plan.name, "made up")
})
