// Draws a plan's slider: a stop a level, the free part marked at its beginning, the end where the plan ends.

import { html, svg } from "./dom.mjs"
import { percent, sizesText } from "./levels.mjs"
import { nextStop, placeOf, stopNear, stopOf, stopsOf } from "./stops.mjs"
import { say } from "./words.mjs"

const HEIGHT = 26
const MIDDLE = 11
const EDGE = 9

/** One slider, redrawn by `draw`; the element stays, and with it the focus. */
export class LevelSlider {
  constructor() {
    this.track = html("div", { class: "track", role: "slider", tabindex: 0, "data-part": "slider" })
    this.says = html("div", { class: "says", "data-part": "slider-says" })
    this.element = html("div", { class: "stops" }, this.track, this.says)
    this.track.addEventListener("keydown", (event) => this.key(event))
    this.track.addEventListener("pointerdown", (event) => this.down(event))
    this.track.addEventListener("pointermove", (event) => this.point(event))
    this.track.addEventListener("pointerup", (event) => this.up(event))
    this.track.addEventListener("pointerleave", () => this.tell(this.at))
  }

  /** Draws the stops of `plan` in `width` pixels, with the knob at `sparsity`; `choose(value)` is called with another. */
  draw(plan, sparsity, exact, width, choose) {
    Object.assign(this, { plan, exact, width, choose, stops: stopsOf(plan) })
    this.at = stopOf(plan, this.stops, sparsity)
    this.paint(this.at)
    const { track, stops } = this
    const now = Math.max(0, this.at)
    const about = { "aria-valuemin": 0, "aria-valuemax": stops.length - 1, "aria-valuenow": now, "aria-valuetext": this.text(this.at) }
    for (const [name, value] of Object.entries(about)) track.setAttribute(name, String(value))
    track.setAttribute("aria-label", say("How much smaller: {count} levels", { count: stops.length - 1 }))
    this.tell(this.at)
    return this.element
  }

  /** The track with the knob at stop `at`. */
  paint(at) {
    const { plan, stops, width } = this
    const x = (stop) => EDGE + placeOf(plan, stop) * (width - 2 * EDGE)
    const drawing = svg("svg", { width, height: HEIGHT, viewBox: `0 0 ${width} ${HEIGHT}`, "aria-hidden": "true" })
    const line = (name, from, to) => svg("line", { class: name, x1: from, x2: to, y1: MIDDLE, y2: MIDDLE })
    drawing.append(line("rail", EDGE, width - EDGE))
    if (at > 0) drawing.append(line("gone", EDGE, x(stops[at])))
    stops.forEach((stop, number) => {
      const shape = number ? `M ${x(stop)} ${MIDDLE - 5} V ${MIDDLE + 5}` : `M ${EDGE} ${MIDDLE - 6} l 6 6 l -6 6 l -6 -6 Z`
      drawing.append(svg("path", { class: number ? "stop" : "stop free-stop", d: shape, "data-stop": number, "data-value": stop.value }))
    })
    if (at >= 0) drawing.append(svg("circle", { class: "knob", cx: x(stops[at]), cy: MIDDLE, r: 6, "data-at": at }))
    this.track.replaceChildren(drawing)
  }

  text(at) {
    if (at < 0) return say("beyond the plan's end, {most}", { most: percent(this.plan.levels[this.plan.levels.length - 1].sparsity) })
    if (at === 0) return say("0: only what goes free")
    const { level } = this.stops[at]
    return `${percent(level.sparsity)}: ${sizesText(this.plan, level, this.exact)[0]}`
  }

  tell(at) {
    this.says.textContent = this.text(at)
  }

  /** The stop under the pointer. In canvas mode the page scales what it shows. */
  under(event) {
    const box = this.track.getBoundingClientRect()
    const place = ((event.clientX - box.left) / box.width) * this.width
    return stopNear(this.plan, this.stops, (place - EDGE) / (this.width - 2 * EDGE))
  }

  down(event) {
    if (event.button !== 0) return
    event.stopPropagation() // the page moves the node otherwise
    this.track.setPointerCapture(event.pointerId)
    this.point(event)
  }

  point(event) {
    const at = this.under(event)
    this.tell(at)
    if (event.buttons & 1) this.paint(at)
  }

  up(event) {
    if (event.button === 0) this.take(this.under(event))
  }

  key(event) {
    const to = nextStop(event.key, this.at, this.stops.length)
    if (to === null) return
    event.preventDefault()
    event.stopPropagation() // the page moves nodes with the same keys
    this.take(to)
  }

  take(to) {
    if (to === this.at) this.paint(to)
    else this.choose(this.stops[to].value)
  }
}
