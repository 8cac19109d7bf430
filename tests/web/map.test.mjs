// The layer map's geometry: every sub-block is there, in its row, inside the drawing, and says the truth.

import assert from "node:assert/strict"
import { test } from "node:test"

import { GUTTER, layerMap } from "../../web/map_model.mjs"
import { nextCell } from "../../web/map_view.mjs"
import { plan, slot } from "./plans.mjs"

const overlap = (a, b) => a.x < b.x + b.w && b.x < a.x + a.w && a.y < b.y + b.h && b.y < a.y + a.h

for (const layers of [1, 3, 12, 24, 32, 48, 64]) {
  for (const width of [300, 380, 700]) {
    test(`${layers} layers in ${width} pixels: each sub-block once, wide enough to point at`, () => {
      const map = layerMap(plan({ layers }), slot(layers), null, null, width)
      assert.deepEqual(map.cells.map((cell) => cell.index), [...Array(2 * layers).keys()])
      for (const cell of map.cells) {
        assert.ok(cell.w >= 6, `${cell.w} pixels wide`)
        assert.ok(cell.x >= GUTTER && cell.x + cell.w <= width && cell.y >= 0 && cell.y + cell.h <= map.height)
      }
      map.cells.forEach((a, i) => map.cells.slice(i + 1).forEach((b) => assert.ok(!overlap(a, b), `${a.index} ${b.index}`)))
      const rows = new Set(map.cells.filter((cell) => cell.index % 2).map((cell) => cell.y))
      assert.ok(map.cells.every((cell) => cell.index % 2 === 1 || !rows.has(cell.y)), "the kinds have rows of their own")
    })
  }
}

test("states, arcs and costs are those of the level", () => {
  const three = plan()
  const map = layerMap(three, slot(), three.levels[2], null, 400)
  assert.deepEqual(map.cells.map((cell) => cell.state), ["re-used", "kept", "skipped", "kept", "kept", "skipped"])
  assert.deepEqual(map.arcs.map(({ place, source }) => [place, source]), [[0, 4]])
  const shades = map.cells.map((cell) => cell.shade)
  assert.equal(shades[4], 0.5) // attention has half the bytes of feed-forward
  assert.equal(shades[1], 1)
  assert.equal(shades[2], 1) // 0.3 more, the steepest
  assert.ok(Math.abs(shades[5] - 1 / 3) < 1e-9)
})

test("the arc leaves its source and ends in its place, above the row of attention", () => {
  const three = plan()
  const map = layerMap(three, slot(), three.levels[2], null, 400)
  const [x1, y1, ...rest] = map.arcs[0].path.match(/-?[\d.]+/g).map(Number)
  const [place, source] = [map.cells[0], map.cells[4]]
  assert.deepEqual([x1, y1], [source.x + source.w / 2, source.y])
  assert.deepEqual(rest.slice(-2), [place.x + place.w / 2, place.y])
  assert.ok(Math.min(...rest.filter((_, n) => n % 2)) < place.y)
})

test("an arc between two bands is two stubs that stay in the drawing", () => {
  const layers = 64
  const far = plan({ layers })
  const level = { ...far.levels[0], cuts: { t5xxl: { skip: [62], reuse: [[62, 64]] } } }
  const map = layerMap({ ...far, levels: [level] }, slot(layers), level, null, 380)
  assert.notEqual(map.cells[62].y, map.cells[64].y)
  assert.equal(map.arcs[0].path.match(/M/g).length, 2)
})

test("nothing measured: no cost is claimed", () => {
  const preset = plan({ discrepancy: null })
  const map = layerMap(preset, slot(), preset.levels[2], null, 400)
  assert.equal(map.cells[5].shade, null)
  assert.match(map.cells[5].text, /^Sub-block 5, feed-forward of layer 2: skipped\. 0\.4 kB in fp16, 0\.2 kB in fp8\. Removed from the level of 10\.00 % on; discrepancy not measured\.$/)
})

test("a cell says its bytes and what it costs", () => {
  const three = plan()
  const exact = { sub_blocks: [1e6, 2e6, 1e6, 2e6, 1e6, 3e9], total: 4e9 }
  const map = layerMap(three, slot(), three.levels[1], exact, 400)
  assert.equal(
    map.cells[5].text,
    "Sub-block 5, feed-forward of layer 2: skipped. 3.000 GB. Removed from the level of 10.00 % on; discrepancy 0.1 there, 0.1 more than before.",
  )
  assert.equal(map.cells[1].text, "Sub-block 1, feed-forward of layer 0: kept. 2.0 MB. Kept in every level.")
})

test("where levels are not nested, a cell says which of them remove it", () => {
  const three = plan()
  three.levels[1].cuts.t5xxl.skip = [2]
  const texts = layerMap(three, slot(), three.levels[2], null, 400).cells.map((cell) => cell.text)
  assert.match(texts[5], /Removed at these levels only: 10\.00 %, 20\.00 %\.$/)
  assert.match(texts[2], /Removed from the level of 15\.00 % on; /)
  assert.match(texts[1], /Kept in every level\.$/)
})

test("keys go along the row, between the rows and to its ends", () => {
  const path = [["ArrowRight", 0, 2], ["ArrowRight", 4, 4], ["ArrowLeft", 1, 1], ["ArrowLeft", 5, 3], ["ArrowDown", 2, 3],
    ["ArrowDown", 3, 3], ["ArrowUp", 3, 2], ["ArrowUp", 2, 2], ["Home", 5, 1], ["End", 0, 4], ["End", 1, 5]]
  for (const [key, from, to] of path) assert.equal(nextCell(key, from, 6), to, `${key} from ${from}`)
  assert.equal(nextCell("Delete", 0, 6), null)
})
