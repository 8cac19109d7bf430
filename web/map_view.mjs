// Draws a layer map. One cell takes the focus; arrow keys, Home and End move it, and its text is said below the map.

import { html, svg } from "./dom.mjs"
import { layerMap } from "./map_model.mjs"
import { say } from "./words.mjs"

/** The sub-block that a key leads to from `index`; null for other keys. Left and right stay in the row. */
export function nextCell(key, index, count) {
  const row = index % 2
  const within = (to) => (to < 0 || to >= count ? index : to)
  switch (key) {
    case "ArrowLeft":
      return within(index - 2)
    case "ArrowRight":
      return within(index + 2)
    case "ArrowUp":
      return index - row
    case "ArrowDown":
      return index - row + 1
    case "Home":
      return row
    case "End":
      return count - 2 + row
    default:
      return null
  }
}

/** A map of one encoder; `speak(text)` shows what a cell is. Redrawn by `draw`, which keeps the focused cell. */
export class LayerMap {
  constructor(speak) {
    this.speak = speak
    this.element = html("div", { class: "map" })
    this.at = 0
    this.told = null
    this.map = null
  }

  /** Draws `slot` of `plan` under `level` in `width` pixels. */
  draw(plan, slot, level, exact, width) {
    const focused = this.element.contains(this.element.getRootNode().activeElement)
    const map = layerMap(plan, slot, level, exact, width)
    this.map = map
    this.at = Math.min(this.at, map.cells.length - 1)
    const what = { slot: slot.slot, about: slot.about }
    const label = say("Layer map of {slot}: {about}. Arrow keys go from sub-block to sub-block.", what)
    const drawing = svg("svg", {
      width: map.width, height: map.height, viewBox: `0 0 ${map.width} ${map.height}`, role: "group", "aria-label": label,
    })
    for (const row of map.rows) drawing.append(svg("text", { class: "row", x: 0, y: row.y + 3.5 }, row.label))
    for (const tick of map.ticks) drawing.append(svg("text", { class: "tick", x: tick.x, y: tick.y }, tick.text))
    for (const cell of map.cells) drawing.append(this.cell(cell))
    for (const arc of map.arcs) {
      drawing.append(svg("path", { class: "arc", d: arc.path, "data-place": arc.place, "data-source": arc.source }))
    }
    this.element.replaceChildren(drawing)
    if (focused) this.focus(this.at)
    if (this.told !== null && map.cells[this.told]) this.speak(map.cells[this.told].text)
    return map
  }

  cell(cell) {
    const { x, y, w, h, index, state, shade } = cell
    const style = shade === null ? null : `--shade: ${(100 * shade).toFixed(1)}%`
    const group = svg("g", {
      class: `cell ${state}${shade === null ? " unmeasured" : ""}`, role: "img", "aria-label": cell.text, style,
      tabindex: index === this.at ? 0 : -1, "data-index": index, "data-state": state,
    })
    group.append(svg("rect", { x, y, width: w, height: h, rx: Math.min(3, w / 4) }))
    if (state === "skipped") {
      const r = Math.min(w, h) / 5
      const [cx, cy] = [x + w / 2, y + h / 2]
      group.append(svg("path", { class: "cross", d: `M ${cx - r} ${cy - r} L ${cx + r} ${cy + r} M ${cx - r} ${cy + r} L ${cx + r} ${cy - r}` }))
    }
    if (state === "re-used") group.append(svg("circle", { class: "dot", cx: x + w / 2, cy: y + h / 2, r: Math.min(w, h) / 5 }))
    group.addEventListener("pointerenter", () => this.tell(cell))
    group.addEventListener("focus", () => this.tell(cell))
    group.addEventListener("keydown", (event) => this.key(event, index))
    group.addEventListener("click", () => this.focus(index))
    return group
  }

  tell(cell) {
    this.told = cell.index
    this.speak(cell.text)
  }

  key(event, index) {
    const to = nextCell(event.key, index, this.map.cells.length)
    if (to === null) return
    event.preventDefault()
    event.stopPropagation() // the page moves nodes with the same keys
    this.focus(to)
  }

  focus(index) {
    const cells = this.element.querySelectorAll(".cell")
    cells[this.at]?.setAttribute("tabindex", "-1")
    this.at = index
    cells[index].setAttribute("tabindex", "0")
    cells[index].focus()
  }
}
