// Figures and words of a plan. Expected numbers are worked out here by hand, on a made-up plan of three layers.

import assert from "node:assert/strict"
import { test } from "node:test"

import {
  bytes, bytesText, counts, discrepancy, duration, fits, largestLevel, levelFor, percent, planOfRun, removals, savedBytes,
} from "../../web/levels.mjs"
import { plan, slot } from "./plans.mjs"

test("a target takes the first level that reaches it, as people round it", () => {
  const three = plan()
  assert.equal(levelFor(three, 0.05), three.levels[0])
  assert.equal(levelFor(three, 0.1), three.levels[0])
  assert.equal(levelFor(three, 0.10004), three.levels[0]) // typed with two decimals of a per cent
  assert.equal(levelFor(three, 0.1001), three.levels[1])
  assert.equal(levelFor(three, 0.205), largestLevel(three)) // a card that rounds to whole per cents
  assert.equal(levelFor(three, 0.206), null)
  assert.equal(largestLevel(three), three.levels[2])
})

test("savings are exact where every encoder was measured, estimates in two formats elsewhere", () => {
  const three = plan()
  const level = three.levels[1]
  assert.deepEqual(savedBytes(three, level), { fp16: 2 * 300, fp8: 300 })
  const exact = { t5xxl: { sub_blocks: [10, 20, 30, 40, 50, 60], total: 1000 } }
  assert.deepEqual(savedBytes(three, level, exact), { exact: 60 + 30 })
  assert.deepEqual(savedBytes(three, level, { t5xxl: { sub_blocks: [1, 2], total: 3 } }), { fp16: 600, fp8: 300 })
  assert.equal(fits(slot(), exact.t5xxl), true)
})

test("what is skipped and what comes again in its place are counted over all encoders", () => {
  const three = plan()
  assert.deepEqual(counts(three, three.levels[2]), { skipped: 3, reused: 1, all: 6 })
  assert.deepEqual(counts(three, null), { skipped: 0, reused: 0, all: 6 })
})

test("a sub-block's rise is that of the level where it first goes", () => {
  const found = removals(plan(), "t5xxl")
  assert.equal(found.get(5).rise, 0.1)
  assert.ok(Math.abs(found.get(2).rise - 0.3) < 1e-12)
  assert.equal(found.get(0).number, 2)
  assert.equal(found.has(1), false)
  const unmeasured = plan({ discrepancy: null })
  assert.equal(removals(unmeasured, "t5xxl").get(5).rise, null)
})

test("a running search is drawn like a plan", () => {
  const run = { name: "fox", slot: slot(), levels: [{ order: [5], sparsity: 0.1, discrepancy: 0.2 }] }
  const found = planOfRun(run)
  assert.deepEqual(found.levels[0].cuts, { t5xxl: { skip: [5], reuse: [] } })
  assert.equal(found.levels[0].removed, 200)
})

test("numbers as text", () => {
  assert.equal(bytes(3_859_000_000), "3.859 GB")
  assert.equal(bytes(251_658_240), "251.7 MB")
  assert.equal(bytes(32_896), "32.9 kB")
  assert.equal(bytesText({ exact: 2e9 }), "2.000 GB")
  assert.equal(bytesText({ fp16: 2e9, fp8: 1e9 }), "2.000 GB in fp16, 1.000 GB in fp8")
  assert.equal(percent(0.4315751), "43.16 %")
  assert.equal(discrepancy(0.076581), "0.07658")
  assert.equal(discrepancy(0.5), "0.5")
  assert.equal(discrepancy(1200), "1200")
  assert.equal(discrepancy(12345.6), "1.235e4")
  assert.equal(discrepancy(0.00001234), "1.234e-5")
  assert.equal(discrepancy(0), "0")
  assert.equal(duration(59.6), "1 min 0 s")
  assert.equal(duration(3599.7), "1 h 0 min")
  assert.equal(duration(7199), "2 h 0 min")
  assert.equal(duration(12), "12 s")
})
