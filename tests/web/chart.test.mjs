// The chart's geometry: values land where the axes say.

import assert from "node:assert/strict"
import { test } from "node:test"

import { decades, searchChart, steps, tidy } from "../../web/chart_model.mjs"

const SIZE = { width: 400, height: 170 }
const near = (a, b) => assert.ok(Math.abs(a - b) < 1e-6, `${a} ${b}`)

/** The value at a pixel, by two ticks of a linear axis. */
function read(ticks, pixel, value = Number) {
  const [a, b] = [ticks[0], ticks[ticks.length - 1]]
  return value(a.text) + ((pixel - a.at) / (b.at - a.at)) * (value(b.text) - value(a.text))
}

test("a linear chart is read back by its ticks", () => {
  const levels = [{ saved: 1e9, discrepancy: 0.2, beams: [[2e9, 0.4]] }, { saved: 3e9, discrepancy: 0.5, beams: [] }]
  const chart = searchChart(levels, { ...SIZE, target: 4e9 })
  assert.equal(chart.log, false)
  assert.equal(chart.xUnit, "GB")
  near(read(chart.xTicks, chart.points[0].x), 1)
  near(read(chart.xTicks, chart.points[1].x), 3)
  near(read(chart.yTicks, chart.points[1].y), 0.5)
  near(read(chart.xTicks, chart.beams[0].x), 2)
  near(read(chart.yTicks, chart.beams[0].y), 0.4)
  near(read(chart.xTicks, chart.target), 4)
})

test("a chart over decades is logarithmic and read back by its ticks", () => {
  const levels = [1e-4, 1e-3, 0.1].map((discrepancy, n) => ({ saved: n + 1, discrepancy, beams: [] }))
  const chart = searchChart(levels, SIZE)
  assert.equal(chart.log, true)
  for (const [n, point] of chart.points.entries()) {
    near(read(chart.yTicks, point.y, (text) => Math.log10(Number(text))), Math.log10(levels[n].discrepancy))
  }
})

test("everything stays inside the axes", () => {
  const levels = [[1, 0], [5e8, 3e-9], [7e9, 12345]].map(([saved, discrepancy]) => ({ saved, discrepancy, beams: [[saved, 2 * discrepancy]] }))
  for (const some of [[], levels.slice(0, 1), levels.slice(1), levels]) {
    for (const target of [null, 8e9]) {
      const chart = searchChart(some, { ...SIZE, target })
      for (const { x, y } of [...chart.points, ...chart.beams]) {
        assert.ok(x >= chart.left && x <= chart.right && y >= chart.top - 1e-9 && y <= chart.bottom + 1e-9, `${x} ${y}`)
      }
      for (const tick of chart.xTicks) assert.ok(tick.at <= chart.right && !tick.text.includes("NaN"))
      for (const tick of chart.yTicks) assert.ok(tick.at >= chart.top - 1e-9 && tick.at <= chart.bottom + 1e-9)
      assert.ok(!chart.line.includes("NaN"))
    }
  }
})

test("levels that were not measured are left out, and the others keep their numbers", () => {
  const levels = [{ saved: 1, discrepancy: null }, { saved: 2, discrepancy: 0.1 }]
  const chart = searchChart(levels, { ...SIZE, chosen: 1 })
  assert.deepEqual(chart.points.map(({ level, chosen }) => [level, chosen]), [[1, true]])
})

test("ticks are round and few", () => {
  assert.deepEqual(steps(4.2, 5), [0, 1, 2, 3, 4])
  assert.deepEqual(steps(0.9, 4), [0, 0.25, 0.5, 0.75])
  assert.deepEqual(decades(2e-4, 0.5), [1e-3, 1e-2, 0.1])
  assert.ok(decades(1e-12, 1e6).length <= 6)
  assert.deepEqual([0.30000000000000004, 1e-5, 2.5e-4, 0, 123456].map(tidy), ["0.3", "1e-5", "2.5e-4", "0", "1.2e5"])
})
