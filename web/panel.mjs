// What a node shows below its widgets: figures, warnings, layer map, chart and, where a plan can be pinned, buttons.

import { drawChart } from "./chart_view.mjs"
import { html } from "./dom.mjs"
import { bytes, bytesText, counts, discrepancy, duration, largestLevel, levelFor, percent, savedBytes } from "./levels.mjs"
import { LayerMap } from "./map_view.mjs"
import { STYLE } from "./style.mjs"

const LEAST_WIDTH = 240
const PHASES = { skip: "finding what to skip", "re-use": "finding what to re-use" }
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
    this.detail = html("div", { class: "detail", "aria-live": "polite" }, HINT)
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
    const { plan, run, error, note, buttons } = this.view
    const kept = this.focusedButton()
    const parts = []
    if (buttons.length) parts.push(html("div", { class: "buttons" }, ...buttons.map((button) => this.button(button))))
    if (run) parts.push(...this.runParts(run, inner))
    if (error) parts.push(html("div", { class: "error", role: "alert" }, error))
    if (note) parts.push(html("div", { class: "quiet" }, note))
    if (plan) parts.push(...this.planParts(plan, inner))
    this.body.replaceChildren(...parts)
    if (kept) this.body.querySelector(`button[data-action="${kept}"]`)?.focus()
  }

  focusedButton() {
    return this.element.shadowRoot.activeElement?.dataset?.action ?? null
  }

  button({ action, label, hint, press }) {
    const button = html("button", { type: "button", "data-action": action, title: hint }, label)
    button.addEventListener("click", press)
    return button
  }

  planParts(plan, inner) {
    const { sparsity, exact, warnings, shows } = this.view
    const parts = shows.facts ? [html("div", { class: "head", "data-part": "name" }, plan.name)] : []
    const off = sparsity === 0
    const level = off ? null : sparsity === null ? largestLevel(plan) : levelFor(plan, sparsity)
    if (off) parts.push(html("div", { class: "quiet" }, "A sparsity of 0 passes the CLIP on unchanged."))
    if (!off && !level) {
      const most = percent(largestLevel(plan).sparsity)
      parts.push(html("div", { class: "error", role: "alert" }, `This plan goes to ${most} at most. Ask for that or less.`))
    }
    if (level && shows.facts) parts.push(this.facts(plan, level, exact))
    for (const text of [...(level?.warnings ?? []), ...warnings]) {
      parts.push(html("div", { class: "warning" }, html("span", null, text)))
    }
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
      parts.push(html("details", null, html("summary", null, `Notes (${items.length})`), html("ul", null, ...items)))
    }
    return parts
  }

  facts(plan, level, exact) {
    const { skipped, reused, all } = counts(plan, level)
    const saved = savedBytes(plan, level, exact)
    const measured = level.discrepancy
    const rows = [
      ["removed", `${skipped} of ${all} sub-blocks${reused ? `, ${reused} places re-used` : ""}`, "removed"],
      ["sparsity", percent(level.sparsity), "sparsity"],
      ["saves", `${bytesText(saved)} (${"exact" in saved ? "exact, encoder of the last run" : "estimate"})`, "saved"],
      ["discrepancy", measured ? discrepancy(measured.value) : "not measured", "discrepancy"],
    ]
    const list = html("dl", { class: "facts" })
    for (const [name, text, part] of rows) list.append(html("dt", null, name), html("dd", { "data-part": part }, text))
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

function midSize(size) {
  return size.exact ?? size.fp16
}

function runTitle(run) {
  if (run.state !== "running") return { done: "Search done", cancelled: "Search cancelled", failed: "Search failed" }[run.state]
  const last = run.levels[run.levels.length - 1]
  const name = run.refines ? "Refining" : "Searching"
  if (!last) return name
  return `${name}: ${last.skipped} skipped, ${percent(last.sparsity)}, ${bytes(last.saved)} saved, discrepancy ${discrepancy(last.discrepancy)}`
}

function progressText(run) {
  const parts = [PHASES[run.phase] ?? (run.phase || "preparing")]
  if (run.total) parts.push(`${Math.floor(run.done)} of about ${Math.round(run.total)} measurements`)
  if (run.left !== null) parts.push(`about ${duration(run.left)} left`)
  return parts.join(" · ")
}

function triedText({ level, levels, candidates, candidates_at_first, prompts, prompts_in_all }) {
  const sets = candidates === candidates_at_first ? `${candidates} sets` : `${candidates} of ${candidates_at_first} sets left`
  return `Last tried: ${level} of about ${levels} sub-blocks skipped, ${sets}, ${prompts} of ${prompts_in_all} prompts.`
}

function legend(plan) {
  const parts = [
    html("span", null, html("i", { class: "kept" }), "kept (stronger: more bytes)"),
    html("span", null, html("i", { class: "skipped" }), "skipped"),
  ]
  if (plan.levels.some((level) => Object.values(level.cuts).some((cut) => cut.reuse.length))) {
    parts.push(html("span", null, html("i", { class: "re-used" }), "re-used, arc from its source"))
  }
  if (plan.levels.some((level) => level.discrepancy)) {
    parts.push(html("span", null, html("i", { class: "cost" }), "rise in discrepancy"))
  }
  return html("div", { class: "legend" }, ...parts)
}

function chartLegend(run) {
  const text = run.levels.some((level) => level.beams.length) ? "Line: the best set of each level. Dots: the other beams." : "Line: the best set of each level."
  return html("div", { class: "legend" }, html("span", null, `${text} Dashed: the target.`))
}
