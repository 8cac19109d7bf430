"""What SkrrLoadPlan and SkrrApply draw, held against the plan as the engine reads it."""

import json
import uuid
from dataclasses import replace

import pytest
from playwright.sync_api import expect

from skrr_engine.errors import PlanError
from skrr_engine.plans.architecture import T5_XXL
from skrr_engine.plans.plan import EncoderInfo, Plan, make_cut, make_level
from skrr_engine.plans.plan_json import dumps
from skrr_engine.plans.plan_text import dumps_level
from skrr_engine.plans.presets import load_preset

FLUX = load_preset("flux1-dev")


def applied(workflow, sparsity=0.4, **plan):
    """A file with SkrrLoadPlan in front of SkrrApply."""
    graph = workflow(f"apply {uuid.uuid4()}")
    loaded = graph.node("SkrrLoadPlan", (0, 0), 420, **plan)
    graph.node("SkrrApply", (480, 0), 420, plan=loaded[0], sparsity=sparsity)
    return graph.json()


def measure(value, norm=1.0):
    return {"conditional": value, "null": 0.0, "null_weight": 1.0, "cosine": 0.0, "null_norm": norm, "value": value}


def measured_plan(layers=24, name="measured", notes=()):
    """A plan of an encoder of `layers` layers with pairs and discrepancies, the last level with a warning."""
    encoders = {"t5xxl": EncoderInfo(replace(T5_XXL, layers=layers))}
    order = [2 * layers - 2, 2 * layers - 1, 5, 6, 9, 14, 2 * layers - 9, 2 * layers - 12]
    pairs = {3: {5: 7}, 7: {6: 4, 9: 11, order[6]: order[6] - 2}}
    cuts = [make_cut(order[: n + 1], pairs.get(n)) for n in range(8)]
    found = [measure(0.001 * 1.9**n, 1.5 if n == 7 else 1.0) for n in range(8)]
    levels = [make_level(encoders, {"t5xxl": cut}, one) for cut, one in zip(cuts, found, strict=True)]
    return Plan(name, encoders, tuple(levels), tuple(notes))


def drawn(level, layers=24):
    """Sub-block -> how the map must show it under `level` of a plan for one encoder."""
    (cut,) = level.cuts.values()
    gone = {index: "re-used" if index in cut.reuse_map else "skipped" for index in cut.skip}
    return {index: gone.get(index, "kept") for index in range(2 * layers)}


def holds(tab, kind, plan, level):
    """The panel of a node shows `level` of `plan`."""
    skipped = sum(len(cut.skip) for cut in level.cuts.values())
    blocks = sum(info.architecture.sub_blocks for info in plan.encoders.values())
    expect(tab.part(kind, "sparsity")).to_have_text(f"{100 * level.sparsity:.2f} %")
    expect(tab.part(kind, "removed")).to_contain_text(f"{skipped} of {blocks} sub-blocks")
    fp16, fp8 = (size * level.removed_parameters / 1e9 for size in (2, 1))
    saved = f"{fp16:.3f} GB in fp16, {fp8:.3f} GB in fp8 (estimate)"
    if level.removed_parameters >= 1e9:
        expect(tab.part(kind, "saved")).to_have_text(saved)
    (layers,) = {info.architecture.layers for info in plan.encoders.values()}
    assert tab.states(kind) == drawn(level, layers)
    assert tab.arcs(kind) == {pair for cut in level.cuts.values() for pair in cut.reuse}


def test_the_slider_shows_its_level_at_once_without_a_run(tabs, workflow, renderer):
    tab = tabs()
    tab.drop(applied(workflow, source="flux1-dev", sparsity=0.3))
    tab.look_at("SkrrApply")
    expect(tab.part("SkrrApply", "name")).to_have_text("flux1-dev")
    for sparsity in (0.3, 0.4, 0.42, 0.05, 0.48):
        tab.set_widget("SkrrApply", "sparsity", sparsity)
        holds(tab, "SkrrApply", FLUX, FLUX.level_for(sparsity))
        expect(tab.part("SkrrApply", "discrepancy")).to_have_text("not measured")
    move_the_slider(tab, renderer)
    holds(tab, "SkrrApply", FLUX, FLUX.level_for(tab.widget("SkrrApply", "sparsity")))
    tab.set_widget("SkrrApply", "sparsity", 0.6)
    expect(tab.panel("SkrrApply").get_by_role("alert")).to_contain_text("goes to 48.62 % at most")
    tab.set_widget("SkrrApply", "sparsity", 0)
    expect(tab.part("SkrrApply", "slider-says")).to_have_text("0: only what goes free")
    assert set(tab.states("SkrrApply").values()) == {"kept"}


def move_the_slider(tab, renderer):
    """With the mouse: the arrow at the right end of the widget, or Vue's plus."""
    before = tab.widget("SkrrApply", "sparsity")
    if renderer == "vue":
        node = tab.page.locator(".lg-node:has(.skrr-panel[data-node=SkrrApply])")
        node.get_by_test_id("decrement").first.click()
    else:
        x, y = tab.page.evaluate(
            """() => {
              const node = app.rootGraph.nodes.find((each) => each.type === "SkrrApply")
              const widget = node.widgets[0]
              const at = app.canvas.ds.convertOffsetToCanvas([node.pos[0] + 28, node.pos[1] + widget.last_y + 10])
              const box = app.canvas.canvas.getBoundingClientRect()
              return [box.left + at[0], box.top + at[1]]
            }"""
        )
        tab.page.mouse.click(x, y)
    tab.page.wait_for_function(
        "before => app.rootGraph.nodes.find((n) => n.type === 'SkrrApply').widgets[0].value < before", arg=before
    )


def test_a_sparsity_from_a_primitive_is_read_without_a_warning(tabs, workflow):
    graph = workflow(f"linked {uuid.uuid4()}")
    loaded = graph.node("SkrrLoadPlan", (0, 0), 420, source="flux1-dev")
    number = graph.node("PrimitiveFloat", (0, 300), 420, value=0.3)
    graph.node("SkrrApply", (480, 0), 420, plan=loaded[0], sparsity=number[0])
    tab = tabs()
    tab.drop(graph.json())
    tab.look_at("SkrrApply")
    holds(tab, "SkrrApply", FLUX, FLUX.level_for(0.3))


def test_the_page_takes_the_level_that_the_engine_takes(tabs, workflow):
    """The one rule that exists twice: the page's choice against `Plan.level_for`, over the whole slider."""
    tab = tabs()
    plan = measured_plan()
    tab.drop(applied(workflow, text=dumps(plan)))
    loaded = "performance.getEntriesByType('resource').map((entry) => entry.name)"
    script = tab.page.evaluate(f"{loaded}.find((name) => name.endsWith('/levels.mjs'))")
    asked = [n / 1000 for n in range(1, 280)]
    for each in (plan, FLUX):
        found = tab.page.evaluate(
            """async ([script, text, asked]) => {
              const { levelFor } = await import(script)
              const answer = await fetch("/skrr/plan", { method: "POST", body: JSON.stringify({ text }) })
              const plan = await answer.json()
              return asked.map((sparsity) => levelFor(plan, sparsity)?.removed ?? null)
            }""",
            [script, dumps(each), asked],
        )
        assert found == [reached(each, sparsity) for sparsity in asked]


def reached(plan, sparsity):
    try:
        return plan.level_for(sparsity).removed_parameters
    except PlanError:
        return None


def test_pasted_text_goes_before_the_source_and_says_what_is_wrong(tabs, workflow):
    tab = tabs()
    tab.drop(applied(workflow, source="sd3", sparsity=0.1))
    tab.look_at("SkrrApply")
    expect(tab.part("SkrrApply", "name")).to_have_text("sd3")
    plan = measured_plan()
    level = plan.level_for(0.1)
    tab.set_widget("SkrrLoadPlan", "text", dumps(plan))
    expect(tab.part("SkrrApply", "name")).to_have_text("measured")
    holds(tab, "SkrrApply", plan, level)
    expect(tab.part("SkrrApply", "discrepancy")).to_have_text(f"{level.discrepancy['value']:.4g}")
    tab.set_widget("SkrrLoadPlan", "text", dumps_level(plan, level))
    expect(tab.part("SkrrApply", "name")).to_contain_text("shared level of")
    tab.set_widget("SkrrLoadPlan", "text", dumps(plan)[:500])
    expect(tab.panel("SkrrApply").get_by_role("alert")).to_contain_text("its JSON breaks off or is wrong at line")
    tab.set_widget("SkrrLoadPlan", "text", "")
    expect(tab.part("SkrrApply", "name")).to_have_text("sd3")


def test_a_level_with_a_warning_says_it(tabs, workflow):
    tab = tabs()
    plan = measured_plan()
    tab.drop(applied(workflow, text=dumps(plan), sparsity=plan.levels[-1].sparsity))
    tab.look_at("SkrrApply")
    expect(tab.panel("SkrrApply").locator(".warning")).to_contain_text("1.50 times as long as dense")
    tab.set_widget("SkrrApply", "sparsity", 0.05)
    expect(tab.panel("SkrrApply").locator(".warning")).to_have_count(0)


HOSTILE = """<img src=x onerror="window.skrrHacked=1">'"--></style><script>window.skrrHacked=2</script>"""


def test_a_hostile_plan_is_shown_as_text(tabs, workflow):
    tab = tabs()
    plan = measured_plan(name=HOSTILE, notes=[HOSTILE])
    text = dumps(plan).replace('"t5xxl"', json.dumps(HOSTILE[:60]))
    tab.drop(applied(workflow, text=text, sparsity=0.1))
    tab.look_at("SkrrLoadPlan", 0.6)
    for kind in ("SkrrApply", "SkrrLoadPlan"):
        expect(tab.part(kind, "name")).to_have_text(HOSTILE)
    tab.unfold("SkrrLoadPlan")
    tab.panel("SkrrLoadPlan").get_by_text("Notes (1)").click()
    expect(tab.panel("SkrrLoadPlan").locator("li")).to_have_text(HOSTILE)
    tab.picture("hostile name")
    assert tab.page.locator(".skrr-panel img, .skrr-panel script").count() == 0
    assert tab.page.evaluate("window.skrrHacked") is None


def test_a_preset_is_pinned_and_unpinned(tabs, workflow):
    tab = tabs()
    tab.drop(applied(workflow, source="pixart-sigma"))
    tab.look_at("SkrrLoadPlan")
    tab.panel("SkrrLoadPlan").get_by_role("button", name="Pin plan into workflow").click()
    preset = dumps(load_preset("pixart-sigma"))
    expect(tab.panel("SkrrLoadPlan").get_by_role("button", name="Unpin")).to_be_visible()
    assert tab.widget("SkrrLoadPlan", "text") == preset
    saved = tab.page.evaluate("app.rootGraph.serialize().nodes.find((n) => n.type === 'SkrrLoadPlan').widgets_values")
    assert saved == ["pixart-sigma", preset]
    prompt = tab.page.evaluate("app.graphToPrompt().then((p) => Object.values(p.output))")
    assert all("skrr_view" not in each["inputs"] for each in prompt)
    tab.panel("SkrrLoadPlan").get_by_role("button", name="Unpin").click()
    expect(tab.panel("SkrrLoadPlan").get_by_role("button", name="Pin plan into workflow")).to_be_visible()
    assert tab.widget("SkrrLoadPlan", "text") == ""
    tab.page.keyboard.press("Control+z")
    tab.page.wait_for_function("app.rootGraph.nodes.find((n) => n.type === 'SkrrLoadPlan').widgets[1].value !== ''")


def test_the_map_is_reached_by_keyboard(tabs, workflow):
    tab = tabs()
    tab.drop(applied(workflow, source="flux1-dev"))
    tab.look_at("SkrrApply")
    panel = tab.panel("SkrrApply")
    expect(panel.locator(".cell")).to_have_count(48)
    tab.unfold("SkrrApply")
    before = tab.page.evaluate("app.rootGraph.nodes.map((n) => [...n.pos])")
    panel.locator(".cell[tabindex='0']").focus()
    for key in ("ArrowRight", "ArrowRight", "ArrowDown"):
        tab.page.keyboard.press(key)
    expect(panel.locator(".detail")).to_contain_text("Sub-block 5, feed-forward of layer 2: skipped. 251.7 MB in fp16")
    tab.page.keyboard.press("End")
    expect(panel.locator(".detail")).to_contain_text("Sub-block 47")
    tab.picture("keyboard")
    tab.set_widget("SkrrApply", "sparsity", 0.01)
    expect(panel.locator(".detail")).to_contain_text("Sub-block 47, feed-forward of layer 23: kept.")
    assert tab.page.evaluate("app.rootGraph.nodes.map((n) => [...n.pos])") == before
    panel.locator(".cell[data-index='46']").hover()
    expect(panel.locator(".detail")).to_contain_text("Sub-block 46, attention of layer 23: skipped. 134.2 MB in fp16")


@pytest.mark.parametrize("palette", ["dark", "light"])
def test_pictures_of_every_size_of_encoder(tabs, workflow, palette):
    """12 to 64 layers at 100 % zoom on a laptop's screen. The pictures are looked at by people; here only that
    nothing is cut off."""
    tab = tabs(palette)
    for layers in (12, 24, 64):
        tab.drop(applied(workflow, text=dumps(measured_plan(layers)), sparsity=0.05))
        tab.look_at("SkrrLoadPlan")
        expect(tab.panel("SkrrApply").locator(".cell")).to_have_count(2 * layers)
        for kind in ("SkrrApply", "SkrrLoadPlan"):
            holds_all(tab, kind)
            tab.unfold(kind)
            holds_all(tab, kind)
        tab.picture(f"{layers} layers")


def holds_all(tab, kind):
    """The panel is inside its node, and all of its content inside the panel."""
    tab.page.wait_for_function(
        """kind => {
          const host = document.querySelector(`.skrr-panel[data-node=${kind}]`)
          const box = (element) => element.getBoundingClientRect()
          const [outer, inner] = [box(host.parentElement), box(host.shadowRoot.firstElementChild)]
          const drawings = [...host.shadowRoot.querySelectorAll("svg")].map(box)
          const whole = drawings.every((drawing) => drawing.right <= inner.right)
          return whole && inner.height > 60 && inner.bottom <= outer.bottom + 1
        }""",
        arg=kind,
    )
