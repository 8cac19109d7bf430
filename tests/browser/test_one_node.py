"""Skrr Apply with nothing but a CLIP: it chooses the plan, its slider has the plan's levels, gigabytes come first."""

import json
import uuid

import pytest
from playwright.sync_api import expect

from skrr_engine.plans.presets import load_preset

from .test_free import BEFORE, klein

FLUX = load_preset("flux1-dev")


def alone(workflow, **apply):
    """A FLUX loader in front of Skrr Apply and nothing else; it is looked at, not run."""
    graph = workflow(f"one node {uuid.uuid4()}")
    loader = graph.node("DualCLIPLoader", (0, 420), 300, type="flux")
    graph.node("SkrrApply", (0, 0), 420, clip=loader[0], **apply)
    return graph


@pytest.mark.parametrize("palette", ["dark", "light"])
def test_the_plan_at_hand_is_named_and_its_levels_are_stops(tabs, workflow, palette):
    tab = tabs(palette)
    tab.drop(alone(workflow).json())
    tab.look_at("SkrrApply")
    panel = tab.panel("SkrrApply")
    expect(tab.part("SkrrApply", "name")).to_have_text("flux1-dev")
    expect(tab.part("SkrrApply", "slider-says")).to_have_text("0: only what goes free")
    expect(panel.locator(".stop")).to_have_count(len(FLUX.levels) + 1)
    tab.picture("one node at 0")
    click(tab, 20)
    expect(tab.part("SkrrApply", "sizes")).to_have_text("9.5 → 5.7 GB in fp16 (41 % smaller)")
    expect(tab.part("SkrrApply", "other-sizes")).to_have_text("4.8 → 2.8 GB in fp8")
    expect(tab.part("SkrrApply", "quality")).to_have_text("Quality: not measured for this plan. Compare pictures.")
    assert FLUX.level_for(tab.widget("SkrrApply", "sparsity")) is FLUX.levels[19]
    expect(panel.locator(".legend")).to_be_hidden()
    order = [tab.part("SkrrApply", part).bounding_box()["y"] for part in ("name", "sizes", "quality", "slider")]
    assert order == sorted(order)
    tab.picture("one node")
    panel.locator(".track").focus()
    tab.page.keyboard.press("End")
    tab.page.wait_for_function("app.rootGraph.nodes.find((n) => n.type === 'SkrrApply').widgets[0].value === 0.48")
    tab.page.keyboard.press("ArrowLeft")  # the focus stays on the slider, though the panel was drawn anew
    tab.page.wait_for_function("app.rootGraph.nodes.find((n) => n.type === 'SkrrApply').widgets[0].value === 0.47")
    expect(panel.locator(".track")).to_have_attribute("aria-valuetext", "47.21 %: " + sizes(22))
    tab.page.keyboard.press("Home")
    expect(tab.part("SkrrApply", "slider-says")).to_have_text("0: only what goes free")


def sizes(number):
    total = sum(info.architecture.total_parameters for info in FLUX.encoders.values())
    left = total - FLUX.levels[number].removed_parameters
    return f"{total * 2 / 1e9:.1f} → {left * 2 / 1e9:.1f} GB in fp16 ({100 * (1 - left / total):.0f} % smaller)"


def click(tab, stop):
    """With the mouse, on the mark of a level."""
    box = tab.panel("SkrrApply").locator(f".stop[data-stop='{stop}']").bounding_box()
    tab.page.mouse.click(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)


def test_another_plan_is_chosen_in_the_node_itself(tabs, workflow):
    tab = tabs()
    tab.drop(alone(workflow, sparsity=0.3).json())
    tab.look_at("SkrrApply")
    expect(tab.part("SkrrApply", "name")).to_have_text("flux1-dev")
    tab.set_widget("SkrrApply", "source", "pixart-sigma")
    expect(tab.part("SkrrApply", "name")).to_have_text("pixart-sigma")
    tab.set_widget("SkrrApply", "source", "none")
    expect(tab.panel("SkrrApply")).to_contain_text("without a plan")
    expect(tab.part("SkrrApply", "name")).to_have_count(0)


def test_a_workflow_from_before_the_choice_stays_lossless(tabs, workflow):
    tab = tabs()
    saved = json.loads(alone(workflow, sparsity=0.4).json())
    (node,) = (node for node in saved["nodes"] if node["type"] == "SkrrApply")
    node["inputs"] = [entry for entry in node["inputs"] if entry["name"] != "source"]
    assert node["widgets_values"].pop() == "auto"
    tab.drop(json.dumps(saved))
    tab.look_at("SkrrApply")
    assert tab.widget("SkrrApply", "source") == "none"
    assert tab.widget("SkrrApply", "sparsity") == 0.4
    expect(tab.panel("SkrrApply")).to_contain_text("without a plan")
    prompt = tab.page.evaluate("app.graphToPrompt().then((p) => Object.values(p.output))")
    assert [each["inputs"].get("source") for each in prompt if each["class_type"] == "SkrrApply"] == ["none"]


def test_where_no_plan_fits_the_run_says_so_in_the_node(tabs, workflow, renderer):
    tab = tabs()
    tab.drop(klein(workflow, 61 if renderer == "vue" else 62, sparsity=0.4).json())
    tab.look_at("SkrrApply")
    expect(tab.panel("SkrrApply")).to_contain_text("auto takes the best plan at hand")
    tab.run()
    expect(tab.panel("SkrrApply").get_by_role("alert")).to_contain_text("no plan at hand for this CLIP")
    tab.picture("one node no plan")
    tab.set_widget("SkrrApply", "sparsity", 0)
    tab.run()
    expect(tab.part("SkrrApply", "free")).to_contain_text("no bit of any picture changed")
    expect(tab.panel("SkrrApply")).not_to_contain_text(BEFORE)
