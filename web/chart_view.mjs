// Draws the chart of a search.

import { html, svg } from "./dom.mjs"
import { searchChart } from "./chart_model.mjs"
import { discrepancy } from "./levels.mjs"
import { say } from "./words.mjs"

const HEIGHT = 170

/** The chart of `levels` as an element `width` pixels wide; `options` as in `searchChart`. */
export function drawChart(levels, width, options = {}) {
  const chart = searchChart(levels, { width, height: HEIGHT, ...options })
  const last = levels[levels.length - 1]
  const label = last
    ? say("Discrepancy against bytes saved: {count} levels, the last at {value}.", {
        count: levels.length, value: discrepancy(last.discrepancy ?? 0),
      })
    : say("Discrepancy against bytes saved: no level yet.")
  const drawing = svg("svg", {
    class: "chart", width: chart.width, height: chart.height, viewBox: `0 0 ${chart.width} ${chart.height}`,
    role: "img", "aria-label": label, "data-levels": levels.length, "data-log": chart.log,
  })
  for (const tick of chart.yTicks) {
    drawing.append(svg("line", { class: "grid", x1: chart.left, x2: chart.right, y1: tick.at, y2: tick.at }))
    drawing.append(svg("text", { class: "tick y", x: chart.left - 5, y: tick.at + 3 }, tick.text))
  }
  for (const tick of chart.xTicks) {
    drawing.append(svg("line", { class: "grid", x1: tick.at, x2: tick.at, y1: chart.bottom, y2: chart.bottom + 3 }))
    drawing.append(svg("text", { class: "tick", x: tick.at, y: chart.bottom + 13 }, tick.text))
  }
  drawing.append(svg("line", { class: "axis", x1: chart.left, x2: chart.right, y1: chart.bottom, y2: chart.bottom }))
  const middle = (chart.left + chart.right) / 2
  drawing.append(svg("text", { class: "tick name", x: middle, y: chart.height - 4 }, say("{unit} saved", { unit: chart.xUnit })))
  const up = (chart.top + chart.bottom) / 2
  drawing.append(svg("text", { class: "tick name", x: 0, y: 0, transform: `translate(9 ${up}) rotate(-90)` }, say("discrepancy")))
  if (chart.target !== null) {
    drawing.append(svg("line", { class: "target", x1: chart.target, x2: chart.target, y1: chart.top, y2: chart.bottom }))
  }
  for (const beam of chart.beams) drawing.append(svg("circle", { class: "beam", cx: beam.x, cy: beam.y, r: 2 }))
  drawing.append(svg("path", { class: "line", d: chart.line }))
  for (const point of chart.points) {
    const level = levels[point.level]
    const figures = { value: discrepancy(level.discrepancy), skipped: level.skipped }
    const title = svg("title", null, say("{value} with {skipped} sub-blocks skipped", figures))
    const shape = { class: point.chosen ? "best chosen" : "best", cx: point.x, cy: point.y, r: point.chosen ? 5 : 3 }
    drawing.append(svg("circle", { ...shape, "data-level": point.level, "data-discrepancy": level.discrepancy }, title))
  }
  return html("div", { class: "chart-box" }, drawing)
}
