// Keeps one node's panel true: looks what the node's plan is, asks the server for it, listens to searches, pins plans.

import { planOfRun } from "./levels.mjs"
import { basis, choosesLevel, emptyNote, freeBasis, linked, pinWidget, planSource, seesPlan, sparsityOf } from "./node_view.mjs"
import { say } from "./words.mjs"

/** What was asked for a plan, as one string: equal for the same question. */
function key(question) {
  return JSON.stringify(question)
}

/** The plan that a running search has so far, or null before its first level. */
function soFar(run) {
  return run.levels.length && run.levels.every((level) => level.order.length) ? planOfRun(run) : null
}

export class Keeper {
  /** `face` is the adapter's face of the node, `host` the adapter's {ask, workflowId}. */
  constructor(face, panel, host) {
    this.face = face
    this.panel = panel
    this.host = host
    this.seen = {}
    this.state = {} // the server's memory of this node: exact bytes, warnings and free parts of its last run
    this.answer = null // {plan} or {error}
    this.run = null
    this.basis = null // the `basis` of the plan when the server's memory was made, as far as the page can see
    this.freed = null // the `freeBasis` of the free parts in that memory
    this.failure = null // {workflow, text} of the last run, if it failed at this node; {workflow, stopped}, if before it
    this.number = 0
    this.last = Promise.resolve() // what was heard of searches is taken in one by one, in order
  }

  /** Looks at widgets and links; asks and draws again where something changed. Cheap when nothing did. */
  look() {
    const places = this.face.places()
    if (!places.length) return
    const source = planSource(this.face)
    const now = {
      workflow: this.host.workflowId(),
      place: places[0],
      owner: source.owner?.places()[0] ?? "",
      text: source.ask?.text ?? "",
      source: source.ask?.source ?? "",
      kind: source.ask?.kind ?? source.ask?.best ?? "",
      basis: basis(source),
      linked: linked(this.face),
      pinned: pinWidget(this.face)?.value ?? "",
      sparsity: sparsityOf(this.face),
      free: freeBasis(this.face),
    }
    const changed = (...names) => names.some((name) => now[name] !== this.seen[name])
    const [moved, other] = [changed("workflow", "place"), changed("owner", "text", "source", "kind", "basis", "linked")]
    const drawn = changed("sparsity", "pinned", "free")
    if (moved) this.freed = null
    if (changed("workflow", "place") || (changed("owner") && seesPlan(source))) this.basis = null
    this.seen = now
    if (moved || other) this.refresh(moved)
    else if (drawn) this.draw()
  }

  /** Asks the server for everything again. */
  async refresh(runs = true) {
    const number = ++this.number
    const { workflow, place, owner } = this.seen
    if (place === undefined) return
    const source = planSource(this.face)
    const [state, answer] = await Promise.all([this.known(place), this.plan(source, owner)])
    if (number !== this.number) return // asked again meanwhile
    this.state = state
    if (state.stopped) this.failure ??= { workflow: this.seen.workflow, stopped: true }
    else {
      this.basis ??= this.seen.basis
      this.freed ??= this.seen.free
    }
    // Where the page cannot see what makes the plan, the server knows what this node was given. Of a plan that hangs on
    // another CLIP or switch than before, it knows nothing yet.
    const given = !seesPlan(source) && linked(this.face) && state.plan ? { plan: state.plan, exact: {} } : null
    this.answer = !source.ask && this.basis !== this.seen.basis ? null : (answer ?? given)
    this.draw()
    if (runs && this.face.type === "SkrrSearch") {
      this.inTurn(async () => {
        await this.findRun()
        this.draw()
      })
    }
  }

  known(place) {
    const query = new URLSearchParams({ workflow: this.seen.workflow, node: place })
    return this.host.ask(`/skrr/node?${query}`)
  }

  async plan(source, owner) {
    if (source.chosen && (this.basis ?? this.seen.basis) === this.seen.basis) {
      const state = await this.known(owner)
      if (state.plan && state.chosen === source.chosen) return { plan: state.plan, exact: state.exact }
    }
    if (source.ask) {
      const page = await this.host.ask("/skrr/plan", source.ask)
      if (page.error) return page
      return page.levels ? { plan: page, exact: {} } : null
    }
    if (source.chosen) return null
    if (!source.owner) return null
    const state = await this.known(owner)
    return state.plan ? { plan: state.plan, exact: state.exact } : null
  }

  async findRun() {
    const { workflow, place } = this.seen
    const query = new URLSearchParams({ workflow, node: place })
    const runs = await this.host.ask(`/skrr/runs?${query}`)
    const last = Array.isArray(runs) ? runs[runs.length - 1] : null
    this.run = last ? await this.host.ask(`/skrr/runs/${last.run}`) : null
    if (this.run?.error) this.run = null
  }

  mine(detail) {
    return detail.workflow === this.seen.workflow && this.face.places().includes(detail.node)
  }

  inTurn(work) {
    this.last = this.last.finally(work)
    return this.last
  }

  /** A search told of itself: a head and the levels from `from` on. What was missed is fetched. */
  heardRun(detail) {
    if (this.face.type === "SkrrSearch" && this.mine(detail)) this.inTurn(() => this.takeIn(detail))
    else if (detail.state !== "running") this.heardNode(detail)
  }

  async takeIn(detail) {
    if (this.run?.run !== detail.run || this.run.levels.length < detail.from) await this.findRun()
    else {
      const levels = [...this.run.levels.slice(0, detail.from), ...detail.levels]
      this.run = { ...this.run, ...detail, from: 0, levels }
    }
    if (detail.state === "running") this.draw()
    else this.refresh(false)
  }

  /** A node ran: this one, or the one this one's plan comes from. */
  heardNode(detail) {
    const { workflow, place, owner } = this.seen
    if (detail.workflow !== workflow || (detail.node !== place && detail.node !== owner)) return
    this.basis = this.seen.basis
    if (detail.node === place) this.freed = this.seen.free
    if (detail.node === place && this.failure?.stopped) this.failure = null
    this.refresh(false)
  }

  /** A run of `workflow` failed at a node, of which the event has id and class, and did not come to those `behind` it. */
  heardError(detail, workflow, behind = []) {
    if (workflow !== this.host.workflowId()) return
    const places = this.face.places()
    if (places.includes(String(detail.node_id)) && detail.node_type === this.face.type) {
      this.failure = { workflow, text: String(detail.exception_message).trim() }
    } else if (places.some((place) => behind.includes(place))) this.failure = { workflow, stopped: true }
    else return
    this.draw()
    this.refresh(false) // what the node had before is forgotten: it is of no run any more
  }

  /** A run of `workflow` ended well: what failed in it before is mended. */
  heardSuccess(workflow) {
    if (this.failure?.workflow !== workflow) return
    this.failure = null
    this.draw()
    this.refresh(false) // what ComfyUI still had from a run before does not run, and tells of nothing
  }

  /** The sentence of the failed run; "" where there is none, or where the search's own lines say it. */
  failed(run) {
    const { workflow, text = "" } = this.failure ?? {}
    const said = run?.state === "failed" && run.sentence && text?.startsWith(run.sentence)
    return workflow === this.seen.workflow && !said ? text : ""
  }

  /** Whether the last run failed before it came here. */
  stopped() {
    return Boolean(this.failure?.stopped) && this.failure.workflow === this.seen.workflow
  }

  draw() {
    const source = planSource(this.face)
    const answer = this.answer
    const pinned = Boolean(pinWidget(this.face)?.value?.trim?.())
    const searching = this.run?.state === "running"
    const before = !searching && this.stopped() ? say("The last run failed before it came to this node.") : ""
    const run = searching || !(pinned || before) ? this.run : null
    const failed = searching ? "" : this.failed(run)
    const known = answer?.plan ?? null
    const plan = searching ? soFar(this.run) : failed || before ? null : known
    const exact = { ...(answer?.exact ?? {}), ...(this.state.exact ?? {}) }
    const free = searching || failed || before || this.freed !== this.seen.free ? null : (this.state.free ?? null)
    const ran = plan ? this.state.plan?.name === plan.name : free && !this.state.plan
    const long = this.face.type !== "SkrrApply"
    this.panel.show({
      plan,
      run,
      error: searching ? "" : failed || (answer?.error ?? ""),
      note: failed ? "" : before || this.note(plan, run, source, free),
      free,
      exact: searching ? { [run.slot.slot]: run.exact } : exact,
      warnings: ran ? (this.state.warnings ?? []) : [],
      sparsity: searching ? null : sparsityOf(this.face),
      shows: { facts: !searching, chart: long && !run, notes: long && !searching },
      choose: searching ? null : this.chooser(plan),
      buttons: searching ? [] : this.buttons(known, pinned),
    })
  }

  /** What the panel's slider does with a level of `plan`; null where the node takes none, or a link brings it. */
  chooser(plan) {
    if (!plan || !choosesLevel(this.face) || this.face.linked("sparsity") || sparsityOf(this.face) === null) return null
    return (value) => {
      this.face.write("sparsity", value)
      this.look()
    }
  }

  note(plan, run, source, free) {
    if (plan && choosesLevel(this.face) && sparsityOf(this.face) === null) {
      return say("The sparsity comes through a link: the plan's largest level is shown.")
    }
    const lossless = source.chosen ? sparsityOf(this.face) === 0 : !source.owner && !linked(this.face)
    if (free && lossless) return ""
    return plan || run || this.answer?.error ? "" : say(emptyNote(this.face, source))
  }

  /** What canvas mode has no button for. */
  more() {
    const more = this.face.more?.() ?? null
    if (!more) return []
    const press = () => {
      more.toggle()
      this.draw()
    }
    const hint = say("Settings that are seldom needed.")
    return [{ action: "more", label: say(more.shown ? "Fewer settings" : "More settings"), hint, press }]
  }

  buttons(plan, pinned) {
    if (!pinWidget(this.face)) return this.more()
    const found = this.state.plan
    const buttons = this.more()
    const pin = (label, hint) => buttons.push({ action: "pin", label: say(label), hint: say(hint), press: () => this.pin() })
    if (!pinned && (plan || found)) {
      pin("Pin plan into workflow", "Writes the plan into this node, so that the saved workflow runs anywhere without a search.")
    }
    if (pinned && this.face.type === "SkrrSearch" && found && plan && key([found.name, found.levels]) !== key([plan.name, plan.levels])) {
      pin("Replace by the last found plan", "Writes the plan of the last search over the pinned one.")
    }
    if (pinned) {
      buttons.push({ action: "unpin", label: say("Unpin"), hint: say("Empties the node's plan text."), press: () => this.unpin() })
    }
    return buttons
  }

  async pin() {
    const answer = await this.text()
    if (answer.error) return this.complain(answer.error)
    this.face.write(this.face.type === "SkrrSearch" ? "pinned" : "text", answer.text)
    this.look()
  }

  unpin() {
    this.face.write(this.face.type === "SkrrSearch" ? "pinned" : "text", "")
    this.look()
  }

  text() {
    const { workflow, place } = this.seen
    const source = planSource(this.face)
    if (source.ask && !source.ask.text) return this.host.ask("/skrr/plan/text", source.ask)
    return this.host.ask(`/skrr/node/text?${new URLSearchParams({ workflow, node: place })}`)
  }

  complain(error) {
    this.answer = { ...this.answer, error }
    this.draw()
  }
}
