"""A search as it is seen: it grows, survives a reload and a second tab, is cancelled, pinned, saved and run again."""

import json
import os
import uuid

from playwright.sync_api import expect

from skrr_engine.plans.plan_json import dumps, loads

PREVIEW = "app.rootGraph.nodes.find((n) => n.type === 'PreviewAny').widgets.map((w) => String(w.value))"
# The search stops far beyond what is waited for; after the cancel the target is lowered to what it has found.
FAR, NEAR, APPLIED = 0.09, 0.02, 0.01
# Long enough that the page can be loaded twice while it searches.
PAUSE = int(os.environ.get("SKRR_BROWSER_PAUSE", "60"))


def searching(workflow, seed, name):
    """A file with a slow search on the testing pack's tiny PixArt encoder, and SkrrApply behind it."""
    graph = workflow(f"search {uuid.uuid4()}")
    models = graph.node("SkrrTestModels", (0, 0), family="pixart", seed=seed, pause=PAUSE)
    links = {"clip": models[1], "model": models[0]}
    prompts = graph.node("SkrrCalibrate", (0, 200), **links, limit=4)
    settings = {"calibration": prompts[0], "beam": 3, "sparsity": FAR, "mode": "exact", "name": name}
    found = graph.node("SkrrSearch", (360, 0), 400, **links, **settings)
    smaller = graph.node("SkrrApply", (800, 0), 400, clip=models[1], plan=found[0], sparsity=APPLIED)
    graph.node("PreviewAny", (800, 520), source=smaller[1])
    return graph.json()


def drawn_is_known(tab, run):
    """The points drawn begin with the levels that the server knew a moment ago."""
    known = [level["discrepancy"] for level in run["levels"]]
    kind = "SkrrSearch"
    tab.page.wait_for_function(
        """count => {
          const panel = document.querySelector(".skrr-panel[data-node=SkrrSearch]")
          return panel.shadowRoot.querySelectorAll(".best").length >= count
        }""",
        arg=len(known),
    )
    assert tab.points(kind)[: len(known)] == known


def wait_for_levels(tab, run, count):
    """Until a running search has `count` levels; what the server knows then."""
    for _ in range(900):
        run = tab.ask(f"/skrr/runs/{run['run']}")
        assert run["state"] == "running", f"the search ended ({run['state']}) before it could be watched"
        if len(run["levels"]) >= count:
            return run
        tab.page.wait_for_timeout(200)
    raise AssertionError(f"no {count} levels in time: {run}")


def wait_until(tab, run, state):
    """Until a search is in a state."""
    for _ in range(900):
        run = tab.ask(f"/skrr/runs/{run['run']}")
        if run["state"] == state:
            return run
        assert run["state"] == "running", run["sentence"]
        tab.page.wait_for_timeout(200)
    raise AssertionError(f"still {run['state']}")


def test_watch_reload_second_tab_cancel_go_on_pin_save_run(tabs, workflow, renderer):
    name = f"watched {renderer}"
    file = searching(workflow, 11 if renderer == "vue" else 12, name)
    tab = tabs()
    tab.drop(file)
    tab.look_at("SkrrSearch", 0.8)
    expect(tab.panel("SkrrSearch")).to_contain_text("Run the workflow once")
    run = wait_for_levels(tab, tab.search(), 2)
    drawn_is_known(tab, run)
    expect(tab.part("SkrrSearch", "state")).to_contain_text("Searching: ")
    expect(tab.part("SkrrSearch", "tried")).to_contain_text("Last tried: ")
    expect(tab.part("SkrrSearch", "progress")).to_contain_text("left")
    tab.picture("search runs")

    tab.reload()  # in the middle
    tab.look_at("SkrrSearch", 0.8)
    drawn_is_known(tab, run)
    beside = tabs(beside=tab)
    beside.drop(file)
    beside.look_at("SkrrSearch", 0.8)
    drawn_is_known(beside, run)
    beside.page.close()

    run = wait_for_levels(tab, run, len(run["levels"]) + 1)
    drawn_is_known(tab, run)  # goes on growing after the reload
    tab.cancel()
    run = wait_until(tab, run, "cancelled")
    expect(tab.part("SkrrSearch", "state")).to_have_text("Search cancelled")
    expect(tab.part("SkrrSearch", "sentence")).to_contain_text(f"in models/skrr as {name} (partial).json")
    partial = loads((tab.server.base / "models" / "skrr" / f"{name} (partial).json").read_text())
    holds_plan(tab, "SkrrSearch", partial, partial.levels[-1])
    warning = tab.panel("SkrrSearch").locator(".warning", has_text="cancelled before it reached its target")
    expect(warning).to_have_count(1)
    tab.picture("search cancelled")

    tab.set_widget("SkrrSearch", "sparsity", NEAR)
    run = wait_until(tab, tab.search(), "done")  # goes on where it was
    expect(tab.part("SkrrSearch", "state")).to_have_text("Search done")
    drawn_is_known(tab, run)
    place = f"workflow={run['workflow']}&node={run['node']}"
    text = tab.ask(f"/skrr/node/text?{place}")["text"]
    plan = loads(text)
    assert [len(level["order"]) for level in run["levels"]] == list(range(1, len(plan.levels) + 1))
    told = {frozenset(level["order"]) for level in run["levels"]}
    assert told == {frozenset(level.cuts["t5xxl"].skip) for level in plan.levels}
    holds_plan(tab, "SkrrSearch", plan, plan.levels[-1])
    holds_plan(tab, "SkrrApply", plan, plan.level_for(APPLIED))
    saved_by_report(tab, plan)
    tab.picture("search done")

    tab.panel("SkrrSearch").get_by_role("button", name="Pin plan into workflow").click()
    expect(tab.panel("SkrrSearch").get_by_role("button", name="Unpin")).to_be_visible()
    assert tab.widget("SkrrSearch", "pinned") == text
    tab.picture("pinned")
    saved = save(tab, name)

    fresh = tabs(fresh=True)
    fresh.drop(saved)
    fresh.look_at("SkrrSearch", 0.8)
    holds_plan(fresh, "SkrrApply", plan, plan.level_for(APPLIED))
    fresh.run()
    fresh.page.wait_for_function(f"{PREVIEW}.some((text) => text.includes('sub-blocks skipped'))")
    assert fresh.runs() == [], "the saved workflow searched"
    fresh.picture("saved workflow run")
    replaced_and_unpinned(tab, plan)


def holds_plan(tab, kind, plan, level):
    """The map and the figures of a node are those of `level`."""
    (cut,) = level.cuts.values()
    expect(tab.part(kind, "name")).to_have_text(plan.name)
    expect(tab.part(kind, "sparsity")).to_have_text(f"{100 * level.sparsity:.2f} %")
    shown = float(tab.part(kind, "discrepancy").text_content())  # under the fold
    assert shown == float(f"{level.discrepancy['value']:.4g}")
    gone = {index for index, state in tab.states(kind).items() if state != "kept"}
    assert gone == set(cut.skip)
    assert tab.arcs(kind) == set(cut.reuse)


def saved_by_report(tab, plan):
    """The bytes that the panel of SkrrApply shows are to the byte those of the node's own report."""
    tab.page.wait_for_function(f"{PREVIEW}.some((text) => text.includes('Whole CLIP'))")
    report = tab.page.evaluate(f"{PREVIEW}.find((text) => text.includes('Whole CLIP'))")
    (line,) = (line for line in report.splitlines() if line.startswith("Whole CLIP"))
    saved = int(line.split("; ")[1].split("(")[1].split(" bytes")[0].replace(",", ""))
    expect(tab.part("SkrrApply", "saved")).to_contain_text(f"{saved / 1e3:.1f} kB (exact")


def save(tab, name):
    """Saves with the keyboard, as a person does; the file's text."""
    tab.page.locator("#graph-canvas").focus()
    tab.page.keyboard.press("Control+s")
    field = tab.page.get_by_role("dialog").get_by_role("textbox")
    field.fill(name)
    field.press("Enter")
    path = tab.server.base / "user" / "default" / "workflows" / f"{name}.json"
    for _ in range(300):
        if path.exists() and path.stat().st_size:
            break
        tab.page.wait_for_timeout(200)
    saved = json.loads(path.read_text())
    saved["id"] = str(uuid.uuid4())  # somebody else's ComfyUI knows nothing of this workflow
    return json.dumps(saved)


def replaced_and_unpinned(tab, plan):
    """A pinned plan that is not the one last found can be replaced by it; unpinned, the node is as before."""
    panel = tab.panel("SkrrSearch")
    other = plan.with_levels(plan.levels[:1], name="another")
    tab.set_widget("SkrrSearch", "pinned", dumps(other))
    expect(tab.part("SkrrSearch", "name")).to_have_text("another")
    panel.get_by_role("button", name="Replace by the last found plan").click()
    expect(tab.part("SkrrSearch", "name")).to_have_text(plan.name)
    assert tab.widget("SkrrSearch", "pinned") == dumps(plan)
    panel.get_by_role("button", name="Unpin").click()
    expect(panel.get_by_role("button", name="Pin plan into workflow")).to_be_visible()
    assert tab.widget("SkrrSearch", "pinned") == ""
