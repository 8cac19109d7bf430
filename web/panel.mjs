// What a node shows below its widgets: figures, warnings, layer map, chart and, where a plan can be pinned, buttons.

import { drawChart } from "./chart_view.mjs"
import { html } from "./dom.mjs"
import { freeLines } from "./free.mjs"
import {
  bytes, bytesText, counts, discrepancy, duration, largestLevel, levelFor, percent, qualityText, savedBytes, sizesText,
} from "./levels.mjs"
import { LayerMap } from "./map_view.mjs"
import { LevelSlider } from "./slider_view.mjs"
import { STYLE } from "./style.mjs"
import { say } from "./words.mjs"

const LEAST_WIDTH = 200
const PHASES = { skip: "finding what to skip", "re-use": "finding what to re-use" }
const ENDS = { done: "Search done", cancelled: "Search cancelled", failed: "Search failed" }
const HINT = "Point at a sub-block, or reach it with Tab and the arrow keys."

/** A panel around a shadow root, so that its stylesheet touches nothing else on the page. */
export class Panel {
  /** `resized` is called when the panel needs another height than before. */
  constructor(resized) {
    this.element = html("div", { class: "skrr-panel" })
    const root = this.element.attachShadow({ mode: "open" })
    const sheet = new CSSStyleSheet()
    sheet.replaceSync(STYLE)
    root.adoptedStyleSheets = [sheet]
    this.body = html("div", { class: "panel" })
    root.append(this.body)
    this.maps = new Map()
    this.slider = new LevelSlider()
    this.unfolded = false
    this.detail = html("div", { class: "detail", "aria-live": "polite" }, say(HINT))
    this.view = null
    this.width = 0
    this.resized = resized
    new ResizeObserver(() => this.measure()).observe(this.body)
  }

  /** The height that everything in it takes, in the page's own pixels. */
  get height() {
    return this.body.offsetHeight
  }

  /** Shows `view` (see node_view.mjs). */
  show(view) {
    this.view = view
    this.draw()
  }

  measure() {
    if (this.body.clientWidth && this.body.clientWidth !== this.width) this.draw()
    this.resized()
  }

  draw() {
    this.width = this.body.clientWidth
    if (!this.view || !this.width) return
    const inner = Math.max(LEAST_WIDTH, this.width - 20)
    const { plan, run, error, note, free, warnings, buttons } = this.view
    const focused = this.focused()
    const parts = []
    if (buttons.length) parts.push(html("div", { class: "buttons" }, ...buttons.map((button) => this.button(button))))
    if (run) parts.push(...this.runParts(run, inner))
    if (error) parts.push(failure(error))
    if (free) parts.push(...freeParts(free, plan ? this.level(plan) : null))
    if (note) parts.push(html("div", { class: "quiet" }, note))
    if (plan) parts.push(...this.planParts(plan, inner))
    else parts.push(...warnings.map(warning))
    const cell = this.element.shadowRoot.activeElement // drawn anew, and focused again, by its map
    this.body.replaceChildren(...parts)
    const again = focused?.dataset.action ? this.body.querySelector(`[data-action="${focused.dataset.action}"]`) : focused
    const next = again?.isConnected ? again : cell
    if (next?.isConnected) next.focus({ preventScroll: true })
  }

  focused() {
    return this.element.shadowRoot.activeElement
  }

  button({ action, label, hint, press }) {
    const button = html("button", { type: "button", "data-action": action, title: hint }, label)
    button.addEventListener("click", press)
    return button
  }

  /** The level of `plan` that the node takes; null where it takes none. */
  level(plan) {
    const { sparsity } = this.view
    if (sparsity === 0) return null
    return sparsity === null ? largestLevel(plan) : levelFor(plan, sparsity)
  }

  planParts(plan, inner) {
    const { sparsity, exact, warnings, shows, choose } = this.view
    const off = sparsity === 0
    const level = this.level(plan)
    const parts = shows.facts ? [planName(plan)] : []
    if (level && shows.facts) parts.push(...this.figures(plan, level, exact))
    if (choose) parts.push(this.slider.draw(plan, sparsity, exact, inner, choose))
    else if (off) parts.push(html("div", { class: "quiet" }, say("A sparsity of 0 takes nothing of the plan.")))
    if (!off && !level) {
      const most = percent(largestLevel(plan).sparsity)
      parts.push(failure(say("This plan goes to {most} at most. Ask for that or less.", { most })))
    }
    parts.push(...[...(level?.warnings ?? []), ...warnings].map(warning))
    const rest = this.rest(plan, level, inner)
    if (!shows.facts) return [...parts, ...rest]
    parts.push(this.fold(rest))
    return parts
  }

  /** What a person wants to know first: gigabytes, then quality. */
  figures(plan, level, exact) {
    const [sizes, others] = sizesText(plan, level, exact)
    const text = this.view.sparsity === null ? say("up to {change}", { change: sizes }) : sizes
    const quality = qualityText(level)
    const parts = [html("div", { class: "figure", "data-part": "sizes" }, text)]
    if (others) parts.push(html("div", { class: "quiet", "data-part": "other-sizes" }, others))
    if (quality) parts.push(html("div", { "data-part": "quality" }, quality))
    return parts
  }

  /** What is under the fold: how it is done, sub-block by sub-block. */
  rest(plan, level, inner) {
    const { exact, shows } = this.view
    const parts = level && shows.facts ? [this.facts(plan, level, exact)] : []
    for (const slot of plan.slots) parts.push(this.map(plan, slot, level, exact[slot.slot], inner))
    parts.push(legend(plan), this.detail)
    if (shows.chart && plan.levels.some((one) => one.discrepancy)) {
      const levels = plan.levels.map((one) => ({
        saved: midSize(savedBytes(plan, one, exact)), discrepancy: one.discrepancy?.value ?? null,
        skipped: counts(plan, one).skipped,
      }))
      parts.push(drawChart(levels, inner, { chosen: plan.levels.indexOf(level) }))
    }
    if (plan.notes.length && shows.notes) {
      const items = plan.notes.map((text) => html("li", null, text))
      parts.push(html("details", null, html("summary", null, say("Notes ({count})", { count: items.length })), html("ul", null, ...items)))
    }
    return parts
  }

  fold(parts) {
    const summary = html("summary", { "data-action": "fold" }, say("Layers and figures"))
    const fold = html("details", { class: "fold", open: this.unfolded ? "" : null }, summary, ...parts)
    fold.addEventListener("toggle", () => (this.unfolded = fold.open))
    return fold
  }

  facts(plan, level, exact) {
    const { skipped, reused, all } = counts(plan, level)
    const saved = savedBytes(plan, level, exact)
    const measured = level.discrepancy
    const few = reused ? "{skipped} of {all} sub-blocks, {reused} places re-used" : "{skipped} of {all} sub-blocks"
    const size = "exact" in saved ? "{size} (exact, encoder of the last run)" : "{size} (estimate)"
    const rows = [
      ["removed", say(few, { skipped, all, reused }), "removed"],
      ["sparsity", percent(level.sparsity), "sparsity"],
      ["saves", say(size, { size: bytesText(saved) }), "saved"],
      ["discrepancy", measured ? discrepancy(measured.value) : say("not measured"), "discrepancy"],
    ]
    const list = html("dl", { class: "facts" })
    for (const [name, text, part] of rows) list.append(html("dt", null, say(name)), html("dd", { "data-part": part }, text))
    return list
  }

  map(plan, slot, level, exact, inner) {
    if (!this.maps.has(slot.slot)) this.maps.set(slot.slot, new LayerMap((text) => this.say(text)))
    const map = this.maps.get(slot.slot)
    map.draw(plan, slot, level, exact, inner)
    return map.element
  }

  say(text) {
    if (this.detail.textContent !== text) this.detail.textContent = text
  }

  runParts(run, inner) {
    const parts = [html("div", { class: "head", "data-part": "state" }, runTitle(run))]
    if (run.state === "running") {
      const share = run.total ? Math.min(1, run.done / run.total) : 0
      const bar = html("div", { class: "bar" }, html("i", { style: `width: ${(100 * share).toFixed(1)}%` }))
      parts.push(bar, html("div", { class: "quiet", "data-part": "progress" }, progressText(run)))
      if (run.tried) parts.push(html("div", { class: "quiet", "data-part": "tried" }, triedText(run.tried)))
    }
    if (run.sentence) parts.push(html("div", { class: "quiet", "data-part": "sentence" }, run.sentence))
    if (run.levels.length || run.state === "running") {
      const target = Math.max(run.target.bytes, run.target.sparsity * run.exact.total) || null
      parts.push(drawChart(run.levels, inner, { target }), chartLegend(run))
    }
    return parts
  }
}

function planName(plan) {
  return html("div", { class: "head" }, html("span", { class: "quiet" }, say("plan")), " ", html("span", { "data-part": "name" }, plan.name))
}

function warning(text) {
  return html("div", { class: "warning" }, html("span", null, text))
}

function failure(text) {
  return html("div", { class: "error", role: "alert" }, html("span", null, text))
}

function freeParts(free, level) {
  const { head, parts, plan } = freeLines(free, level?.sparsity ?? null)
  const list = html("dl", { class: "facts free", "data-part": "parts" })
  for (const { size, text } of parts) list.append(html("dt", null, size), html("dd", null, text))
  const drawn = [html("div", { class: "head", "data-part": "free" }, head)]
  if (parts.length) drawn.push(list)
  if (plan) drawn.push(html("div", { "data-part": "after" }, plan))
  return drawn
}

function midSize(size) {
  return size.exact ?? size.fp16
}

function runTitle(run) {
  if (run.state !== "running") return say(ENDS[run.state])
  const last = run.levels[run.levels.length - 1]
  const name = say(run.refines ? "Refining" : "Searching")
  if (!last) return name
  const figures = { skipped: last.skipped, share: percent(last.sparsity), size: bytes(last.saved) }
  const found = say("{skipped} skipped, {share}, {size} saved, discrepancy {value}", {
    ...figures, value: discrepancy(last.discrepancy),
  })
  return `${name}: ${found}`
}

function progressText(run) {
  const parts = [say(PHASES[run.phase] ?? (run.phase || "preparing"))]
  const [done, all] = [Math.floor(run.done), Math.round(run.total)]
  if (run.total) parts.push(say("{done} of about {all} measurements", { done, all }))
  if (run.left !== null) parts.push(say("about {time} left", { time: duration(run.left) }))
  return parts.join(" · ")
}

function triedText({ level, levels, candidates, candidates_at_first, prompts, prompts_in_all }) {
  const left = candidates === candidates_at_first ? "{count} sets" : "{count} of {all} sets left"
  const sets = say(left, { count: candidates, all: candidates_at_first })
  const values = { level, levels, sets, prompts, all: prompts_in_all }
  return say("Last tried: {level} of about {levels} sub-blocks skipped, {sets}, {prompts} of {all} prompts.", values)
}

function legend(plan) {
  const parts = [
    html("span", null, html("i", { class: "kept" }), say("kept (stronger: more bytes)")),
    html("span", null, html("i", { class: "skipped" }), say("skipped")),
  ]
  if (plan.levels.some((level) => Object.values(level.cuts).some((cut) => cut.reuse.length))) {
    parts.push(html("span", null, html("i", { class: "re-used" }), say("re-used, arc from its source")))
  }
  if (plan.levels.some((level) => level.discrepancy)) {
    parts.push(html("span", null, html("i", { class: "cost" }), say("rise in discrepancy")))
  }
  return html("div", { class: "legend" }, ...parts)
}

function chartLegend(run) {
  const parts = [say("Line: the best set of each level.")]
  if (run.levels.some((level) => level.beams.length)) parts.push(say("Dots: the other beams."))
  return html("div", { class: "legend" }, html("span", null, [...parts, say("Dashed: the target.")].join(" ")))
}
