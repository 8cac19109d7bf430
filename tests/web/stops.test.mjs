// The slider of a plan: its stops, its end, and the figures that stand beside it. Numbers are worked out by hand.

import assert from "node:assert/strict"
import { test } from "node:test"

import { levelFor, qualityText, QUALITIES, sizesText } from "../../web/levels.mjs"
import { nextStop, placeOf, stopNear, stopOf, stopsOf } from "../../web/stops.mjs"
import { plan } from "./plans.mjs"

test("stops are 0 and the plan's levels, each with the shortest number that takes it", () => {
  const three = plan()
  assert.deepEqual(stopsOf(three).map((stop) => stop.value), [0, 0.1, 0.15, 0.2])
  for (const stop of stopsOf(three).slice(1)) assert.equal(levelFor(three, stop.value), stop.level)
  const odd = plan()
  ;[0.40521, 0.4066, 0.4069].forEach((sparsity, n) => (odd.levels[n].sparsity = sparsity))
  assert.deepEqual(stopsOf(odd).map((stop) => stop.value), [0, 0.4, 0.406, 0.4069])
  for (const stop of stopsOf(odd).slice(1)) assert.equal(levelFor(odd, stop.value), stop.level)
})

test("of two levels of one size the better one is the stop", () => {
  const twins = plan()
  twins.levels[1].sparsity = twins.levels[2].sparsity
  assert.deepEqual(stopsOf(twins).map((stop) => stop.level), [null, twins.levels[0], twins.levels[1]])
})

test("the knob stands where the node's number takes its level, and nowhere beyond the end", () => {
  const three = plan()
  const stops = stopsOf(three)
  assert.deepEqual([0, 0.05, 0.1, 0.11, 0.2, 0.204, 0.3].map((each) => stopOf(three, stops, each)), [0, 1, 1, 2, 3, 3, -1])
})

test("a place on the slider takes the nearest stop; the last stop is its end", () => {
  const three = plan()
  const stops = stopsOf(three)
  assert.deepEqual(stops.map((stop) => placeOf(three, stop)), [0, 0.5, 0.75, 1].map((x, n) => [0, 0.1, 0.15, 0.2][n] / 0.2))
  assert.deepEqual([-1, 0.2, 0.3, 0.7, 0.9, 9].map((place) => stopNear(three, stops, place)), [0, 0, 1, 2, 3, 3])
})

test("keys go from stop to stop", () => {
  const keys = ["ArrowLeft", "ArrowRight", "ArrowUp", "ArrowDown", "PageUp", "PageDown", "Home", "End"]
  assert.deepEqual(keys.map((key) => nextStop(key, 3, 20)), [2, 4, 4, 2, 8, 0, 0, 19])
  assert.deepEqual(keys.map((key) => nextStop(key, 0, 4)), [0, 1, 1, 0, 3, 0, 0, 3])
  assert.deepEqual(["ArrowLeft", "ArrowRight"].map((key) => nextStop(key, -1, 4)), [3, 3]) // from beyond the end
  assert.equal(nextStop("Enter", 1, 4), null)
})

test("gigabytes come first: measured where the encoder was, else in the two usual formats", () => {
  const big = plan()
  big.slots[0].total = 4_760_000_000
  big.levels[0].removed = 1_900_000_000
  assert.deepEqual(sizesText(big, big.levels[0]), ["9.5 → 5.7 GB in fp16 (40 % smaller)", "4.8 → 2.9 GB in fp8"])
  const exact = { t5xxl: { sub_blocks: [0, 0, 0, 0, 0, 4e9], total: 9.52e9 } }
  assert.deepEqual(sizesText(big, big.levels[0], exact), ["9.5 → 5.5 GB (42 % smaller)", ""])
})

test("quality is what the server says of the level", () => {
  const text = QUALITIES.at(-1)
  assert.match(qualityText({ quality: { text, values: { lost: "11", low: "3", high: "19" } } }), /about 11 of 100 right/)
  assert.equal(qualityText({}), "")
})
