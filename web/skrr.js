// The pack's one door to ComfyUI's front end: everything that knows app, api, nodes and widgets is in this file.

import { api } from "../../scripts/api.js"
import { app } from "../../scripts/app.js"
import { colourSockets } from "./colours.mjs"
import { NODES } from "./node_view.mjs"
import { Panel } from "./panel.mjs"
import { Keeper } from "./keeper.mjs"
import { setLanguage } from "./words.mjs"

const LEAST_WIDTH = 400
// How often widgets and links are looked at. Callbacks say at once what a person changes; this finds what undo,
// loading and other packs change, alike in both renderers.
const LOOK_EVERY = 400
const PLAIN_VALUES = ["PrimitiveNode", "PrimitiveFloat", "PrimitiveString", "PrimitiveStringMultiline"]

/** Asks a route of the pack; the answer's `error` is a sentence for the user. */
async function ask(path, body) {
  const options = body ? { method: "POST", body: JSON.stringify(body), headers: { "Content-Type": "application/json" } } : {}
  try {
    const answer = await api.fetchApi(path, options)
    return answer.ok ? await answer.json() : { error: `The server answered ${answer.status}.` }
  } catch {
    return { error: "The server cannot be reached." }
  }
}

/** The workflow's id: the same in every tab and after a reload. */
function workflowId() {
  return String((app.rootGraph ?? app.graph)?.id ?? "")
}

/** The ids under which a node may run: its own, or inside subgraphs those of the path to it, as "3:12". */
function executionIds(node, graph = app.rootGraph ?? app.graph, path = "") {
  if (!graph || !node.graph) return []
  if (node.graph === graph) return [`${path}${node.id}`]
  const inner = (graph.nodes ?? []).filter((each) => each.subgraph)
  return inner.flatMap((each) => executionIds(node, each.subgraph, `${path}${each.id}:`))
}

/** What the helpers may know of a node. */
class Face {
  constructor(node) {
    this.node = node
  }

  get type() {
    return this.node.comfyClass ?? this.node.type
  }

  /** {value} of a widget of this name, of a primitive where its input is linked to one; null if unknown. */
  widget(name) {
    const widget = this.node.widgets?.find((each) => each.name === name)
    if (!widget) return null
    const input = this.node.inputs?.find((each) => each.name === name || each.widget?.name === name)
    if (!input || !this.node.isInputConnected(this.node.inputs.indexOf(input))) return widget
    const origin = this.origin(name)
    return origin?.widgets?.length && PLAIN_VALUES.includes(origin.type) ? { value: origin.widgets[0].value } : null
  }

  /** The node that feeds an input, past reroutes; null if there is none. */
  upstream(name) {
    const origin = this.origin(name)
    return origin ? new Face(origin) : null
  }

  origin(name) {
    let node = this.node
    let slot = node.inputs?.findIndex((each) => each.name === name) ?? -1
    for (let step = 0; slot >= 0 && step < 64; step++) {
      if (!node.graph) return null // taken away while something was asked for it
      node = node.getInputNode?.(slot) ?? null
      if (!node || node.type !== "Reroute") return node
      slot = 0
    }
    return null
  }

  /** Whether an input has a link, wherever that comes from: a subgraph's own input has no node to be found. */
  linked(name) {
    const slot = this.node.inputs?.findIndex((each) => each.name === name) ?? -1
    return slot >= 0 && this.node.isInputConnected(slot)
  }

  /** All its values as one string: another one when a person chose something else in it. */
  values() {
    return JSON.stringify([this.node.id, ...(this.node.widgets ?? []).map((each) => String(each.value))])
  }

  places() {
    return executionIds(this.node)
  }

  is(other) {
    return this.node === other?.node
  }

  /** Hides in canvas mode what Vue keeps back by itself, unless a person asked for all or a link comes in there. */
  keepBack() {
    const all = this.all || window.LiteGraph?.vueNodesMode
    for (const each of this.seldom()) each.hidden = !all && !this.linked(each.name)
  }

  seldom() {
    return (this.node.widgets ?? []).filter((each) => each.options?.advanced)
  }

  /** {shown, toggle} where widgets are kept back and the page itself has no button for them: in canvas mode. */
  more() {
    if (window.LiteGraph?.vueNodesMode || !this.seldom().length) return null
    const toggle = () => {
      this.all = !this.all
      this.keepBack()
      this.node.setSize([this.node.size[0], this.node.computeSize()[1]])
      this.node.setDirtyCanvas?.(true, true)
    }
    return { shown: Boolean(this.all), toggle }
  }

  /** Writes a widget as a person would, as one step that can be undone. */
  write(name, value) {
    const widget = this.node.widgets.find((each) => each.name === name)
    app.canvas.emitBeforeChange?.()
    widget.value = value
    widget.callback?.(value)
    app.canvas.emitAfterChange?.()
    this.node.setDirtyCanvas?.(true, true)
  }
}

const host = { ask, workflowId }
const keepers = new Set()

/** Has `act` called after the method `name` of `owner`, if it has one, and the method's result handed on. */
function after(owner, name, act) {
  const method = owner[name]
  owner[name] = function (...given) {
    const result = method?.apply(this, given)
    act(...given)
    return result
  }
}

/** Gives a node its panel. */
function adorn(node) {
  const panel = new Panel(() => grow(node, panel))
  panel.element.dataset.node = node.comfyClass
  const widget = node.addDOMWidget("skrr_view", "SKRR_VIEW", panel.element, {
    serialize: false,
    hideOnZoom: false,
    getMinHeight: () => panel.height + 20,
    getMaxHeight: () => panel.height + 20,
  })
  widget.serialize = false
  const keeper = new Keeper(new Face(node), panel, host)
  keeper.face.keepBack()
  for (const each of node.widgets) {
    if (each !== widget) after(each, "callback", () => keeper.look())
  }
  after(node, "onConfigure", (saved) => keepMeaning(node, saved))
  after(node, "onAdded", () => keepers.add(keeper))
  after(node, "onRemoved", () => keepers.delete(keeper))
  if (node.size[0] < LEAST_WIDTH) node.setSize([LEAST_WIDTH, node.size[1]])
}

/** A workflow saved before Skrr Apply could choose a plan by itself took what goes free alone, and still does. */
function keepMeaning(node, saved) {
  const widgets = node.widgets.filter((each) => each.serialize !== false)
  const place = node.comfyClass === "SkrrApply" ? widgets.findIndex((each) => each.name === "source") : -1
  if (place >= 0 && Array.isArray(saved?.widgets_values) && saved.widgets_values.length <= place) widgets[place].value = "none"
}

/** Makes room in canvas mode, where a node does not grow with what it holds, and takes it back when what was unfolded is
 * folded again, unless a person has sized the node meanwhile. */
function grow(node, panel) {
  if (!node.graph || !panel.height) return
  const [, least] = node.computeSize()
  const height = node.size[1]
  if (height < least) {
    if (height !== panel.grown) panel.before = height
    panel.grown = least
    node.setSize([node.size[0], least])
  } else if (height === panel.grown && !window.LiteGraph?.vueNodesMode) {
    panel.grown = Math.max(least, panel.before)
    node.setSize([node.size[0], panel.grown])
  }
  node.setDirtyCanvas?.(true, true)
}

/** Vue keeps what it drew for a node that undo builds anew under the same id: the new panel goes in the old one's place. */
function takePlace({ face: { node }, panel }) {
  if (panel.element.isConnected || !node.graph || node.graph !== app.canvas.graph) return
  const old = document.querySelector(`[data-node-id="${CSS.escape(node.id)}"] .skrr-panel`)
  if (old?.dataset.node === node.comfyClass) old.replaceWith(panel.element)
}

/** A run ended: tells every panel with the workflow that it was a run of, which need not be the one that is open. */
async function ended({ prompt_id, node_id }, tell) {
  if (!keepers.size) return
  const failed = node_id === undefined ? "" : `?failed=${encodeURIComponent(node_id)}`
  const { workflow, stopped } = await ask(`/skrr/prompt/${encodeURIComponent(prompt_id)}${failed}`)
  if (workflow) keepers.forEach((keeper) => tell(keeper, workflow, stopped))
}

api.addEventListener("skrr.run", ({ detail }) => keepers.forEach((keeper) => keeper.heardRun(detail)))
api.addEventListener("skrr.node", ({ detail }) => keepers.forEach((keeper) => keeper.heardNode(detail)))
api.addEventListener("execution_error", ({ detail }) => ended(detail, (keeper, ...run) => keeper.heardError(detail, ...run)))
api.addEventListener("execution_success", ({ detail }) => ended(detail, (keeper, workflow) => keeper.heardSuccess(workflow)))
api.addEventListener("reconnected", () => keepers.forEach((keeper) => keeper.refresh()))
/** Again and again, because choosing a palette takes the colours of other packs' sockets away. */
function colour() {
  const canvas = app.canvas
  if (!canvas?.default_connection_color_byType) return
  colourSockets({ byType: canvas.default_connection_color_byType, links: canvas.constructor.link_type_colors, style: document.documentElement.style })
}

setInterval(() => {
  if (document.hidden) return
  colour()
  keepers.forEach(takePlace)
  keepers.forEach((keeper) => keeper.face.keepBack())
  keepers.forEach((keeper) => keeper.look())
}, LOOK_EVERY)

app.registerExtension({
  name: "skrr.view",
  init() {
    setLanguage(app.extensionManager?.setting?.get?.("Comfy.Locale"))
  },
  nodeCreated(node) {
    if (NODES.has(node.comfyClass)) adorn(node)
  },
})
