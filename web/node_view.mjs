// From a node on the canvas to what its panel shows. Knows the pack's nodes; asks the server through `host`.

export const NODES = new Set(["SkrrApply", "SkrrCLIPLoader", "SkrrLoadPlan", "SkrrSavePlan", "SkrrSearch"])
const AUTO = "auto"
const NONE = "none"
const PIN_WIDGET = { SkrrSearch: "pinned", SkrrLoadPlan: "text" }
const WITH_SPARSITY = new Set(["SkrrApply", "SkrrCLIPLoader"])
// What decides, beside the CLIP that comes in, what goes free.
const FREE_WIDGETS = {
  SkrrApply: ["pictures", "text_generation"],
  SkrrCLIPLoader: ["pictures", "text_generation", "file1", "file2", "file3", "file4", "type"],
}
const MAX_STEPS = 32

/** The widget that a node keeps a pinned plan in; null for nodes without. */
export function pinWidget(node) {
  return node.widget(PIN_WIDGET[node.type] ?? "")
}

/** Where `node`'s plan comes from: {owner, ask} with `ask` for POST /skrr/plan or null, and the node whose state to
 * ask for otherwise; `chosen` where the node chooses the plan by itself: the value of its `source`.
 * `node` is the adapter's face of a node: type, widget(name), upstream(input), linked(input), values(). */
export function planSource(node) {
  let owner = node
  const own = node.type === "SkrrApply" ? node.widget("source") : null
  if (own && !linked(node)) return ownSource(node, String(own.value))
  if (!(node.type in PIN_WIDGET)) {
    owner = node.upstream("plan")
    if (!owner) return { owner: null, ask: null }
  }
  const text = owner.widget(PIN_WIDGET[owner.type] ?? "")
  if (text?.value?.trim?.()) return { owner, ask: { text: text.value } }
  if (owner.type !== "SkrrLoadPlan") return { owner, ask: null }
  const source = owner.widget("source")
  if (!source || text === null) return { owner, ask: null }
  if (source.value !== AUTO) return { owner, ask: { source: String(source.value) } }
  const kind = clipKind(owner)
  return { owner, ask: kind ? { kind } : null }
}

function ownSource(node, chosen) {
  if (chosen === NONE) return { owner: null, ask: null }
  if (chosen !== AUTO) return { owner: node, ask: { source: chosen }, chosen }
  const kind = clipKind(node)
  return { owner: node, ask: kind ? { best: kind } : null, chosen }
}

/** The kind of CLIP connected to `node`, as far as the loader's widgets tell; null otherwise. */
export function clipKind(node) {
  let loader = node.upstream("clip")
  for (let step = 0; loader && step < MAX_STEPS; step++) {
    if (loader.type === "TripleCLIPLoader") return "sd3"
    const type = loader.widget("type")?.value
    if (type) return { chroma: "pixart" }[type] ?? (["flux", "sd3", "pixart"].includes(type) ? type : null)
    loader = loader.upstream("clip")
  }
  return null
}

/** What the server's memory of a plan hangs on, as one string: for `auto` what brings the CLIP, for a plan through nodes
 * of other packs the last of them (a switch, say); "" where it hangs on nothing that the page would see changed. */
export function basis({ owner, ask, chosen }) {
  const auto = chosen === AUTO
  if (!owner || (ask && !auto) || owner.type === "SkrrSearch") return ""
  if (owner.type !== "SkrrLoadPlan" && !auto) return owner.values()
  let loader = owner.upstream("clip")
  for (let step = 0; step < MAX_STEPS; step++) {
    const before = loader?.upstream("clip")
    if (!before) break
    loader = before
  }
  return loader?.values() ?? ""
}

/** What the free parts of a run hang on, as one string: the node's own switches and all that brings its CLIP; null where
 * a node takes none out. */
export function freeBasis(node) {
  if (!(node.type in FREE_WIDGETS)) return null
  const said = FREE_WIDGETS[node.type].map((name) => String(node.widget(name)?.value))
  let before = node.upstream("clip")
  for (let step = 0; before && step < MAX_STEPS; step++) {
    said.push(before.values())
    before = before.upstream("clip")
  }
  return JSON.stringify(said)
}

/** Whether the page sees the node that makes the plan. */
export function seesPlan({ owner }) {
  return Boolean(owner) && owner.type in PIN_WIDGET
}

/** Whether the node's plan comes by a link, through whatever it may come. */
export function linked(node) {
  return !(node.type in PIN_WIDGET) && node.linked("plan")
}

/** Whether the node takes one level of its plan (a search's plan ends where its target was reached). */
export function choosesLevel(node) {
  return WITH_SPARSITY.has(node.type)
}

/** The `sparsity` that a node takes a level by; null where it takes none or a link brings what cannot be read. */
export function sparsityOf(node) {
  if (!WITH_SPARSITY.has(node.type)) return null
  const value = node.widget("sparsity")?.value
  return typeof value === "number" ? value : null
}

/** What the user sees when no plan can be shown yet. */
export function emptyNote(node, source) {
  if (source.chosen && sparsityOf(node) === 0) {
    return "What no picture reads goes free when this runs. Above a sparsity of 0 the best plan at hand takes out more."
  }
  if (source.chosen) return "auto takes the best plan at hand for this encoder, which is known once this has run."
  if (!source.owner) {
    if (linked(node)) return "The plan is known once this has run."
    return "What no picture reads goes free when this runs, without a plan; a plan takes out more."
  }
  if (source.owner.type === "SkrrSearch") {
    if (source.owner === node) return "Run the workflow once: the search is drawn here as it goes, and its plan can be pinned."
    return "The search has not found a plan yet. Run it once, or pin a plan into it."
  }
  if (source.owner.type === "SkrrLoadPlan") {
    return "auto takes the published plan for the kind of CLIP, which is known once this has run."
  }
  return "The plan is known once this has run."
}
