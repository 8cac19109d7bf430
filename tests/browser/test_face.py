"""What a person sees of the nodes before anything runs: few widgets, colours of their own, room in a narrow node."""

import uuid

import pytest
from playwright.sync_api import expect

from .test_apply import applied

FRONT = ["sparsity", "saved_gb", "name", "minutes", "corrections"]
BEHIND = ["encoder", "beam", "null_weight", "reuse", "pinned", "mode"]


def test_skrr_search_shows_name_target_and_minutes_and_keeps_the_rest_back(tabs, workflow, renderer):
    tab = tabs()
    graph = workflow(f"face {uuid.uuid4()}")
    graph.node("SkrrSearch", (0, 0), 420)
    tab.drop(graph.json())
    tab.look_at("SkrrSearch")
    widgets = tab.page.evaluate(
        """() => app.rootGraph.nodes.find((node) => node.type === "SkrrSearch").widgets
             .map((widget) => [widget.name, Boolean(widget.advanced ?? widget.options?.advanced)])"""
    )
    assert [name for name, advanced in widgets if not advanced and name != "skrr_view"] == FRONT
    assert [name for name, advanced in widgets if advanced] == BEHIND
    if renderer == "vue":
        node = tab.page.locator(".lg-node:has(.skrr-panel[data-node=SkrrSearch])")
        for name in FRONT:
            expect(node.get_by_text(name, exact=True)).to_be_visible()
        for name in BEHIND:
            expect(node.get_by_text(name, exact=True)).to_have_count(0)
    else:
        shown = """() => {
          const [node] = app.rootGraph.nodes
          return node.widgets.filter((widget) => node.isWidgetVisible(widget)).map((widget) => widget.name)
        }"""
        assert tab.page.evaluate(shown) == [*FRONT, "skrr_view"]
        tab.picture("search face")
        tab.panel("SkrrSearch").get_by_role("button", name="More settings").click()
        expect(tab.panel("SkrrSearch").get_by_role("button", name="Fewer settings")).to_be_visible()
        assert set(tab.page.evaluate(shown)) == {*FRONT, *BEHIND, "skrr_view"}
    tab.picture("search face more")


@pytest.mark.parametrize("palette", ["dark", "light"])
def test_sockets_of_plan_calibration_and_projection_have_colours(tabs, workflow, palette):
    tab = tabs(palette)
    graph = workflow(f"sockets {uuid.uuid4()}")
    loaded = graph.node("SkrrLoadPlan", (0, 0), 320, source="sd3")
    graph.node("SkrrSearch", (480, 0), 420, plan=loaded[0])
    tab.drop(graph.json())
    tab.look_at("SkrrLoadPlan", 0.7)
    types = ["SKRR_PLAN", "SKRR_CALIBRATION", "SKRR_PROJECTION"]
    known = "types => types.every((type) => app.canvas.default_connection_color_byType[type])"
    tab.page.wait_for_function(known, arg=types)
    seen = tab.page.evaluate(
        """types => types.map((type) => [app.canvas.default_connection_color_byType[type],
             app.canvas.constructor.link_type_colors[type],
             getComputedStyle(document.documentElement).getPropertyValue(`--color-datatype-${type}`)])""",
        types,
    )
    assert all(len(set(colours)) == 1 for colours in seen) and len({colours[0] for colours in seen}) == 3
    tab.picture("sockets")


def test_a_narrow_node_holds_all_of_its_panel(tabs, workflow):
    tab = tabs()
    tab.drop(applied(workflow, source="flux1-dev", sparsity=0.4))
    tab.look_at("SkrrApply")
    tab.page.evaluate(
        """() => {
          const node = app.rootGraph.nodes.find((each) => each.type === "SkrrApply")
          node.setSize([240, node.size[1]])
          app.canvas.setDirty(true, true)
        }"""
    )
    tab.page.wait_for_function(
        "document.querySelector('.skrr-panel[data-node=SkrrApply]').getBoundingClientRect().width < 300"
    )
    tab.unfold("SkrrApply")
    tab.page.wait_for_function(
        """() => {
          const host = document.querySelector(".skrr-panel[data-node=SkrrApply]")
          const body = host.shadowRoot.firstElementChild
          const edge = body.getBoundingClientRect().right + 1
          const parts = [...body.querySelectorAll("*")].filter((part) => part.getBoundingClientRect().width)
          const inside = parts.every((part) => part.getBoundingClientRect().right <= edge)
          return body.scrollWidth <= body.clientWidth + 1 && inside
        }"""
    )
    tab.picture("narrow")


def test_everything_in_the_panel_is_reached_with_the_tab_key(tabs, workflow):
    tab = tabs()
    tab.drop(applied(workflow, source="flux1-dev", sparsity=0.4))
    tab.look_at("SkrrApply")
    panel = tab.panel("SkrrApply")
    panel.locator(".track").focus()
    tab.page.keyboard.press("Tab")
    active = "() => document.querySelector('.skrr-panel[data-node=SkrrApply]').shadowRoot.activeElement"
    assert tab.page.evaluate(f"({active})()?.tagName") == "SUMMARY"
    tab.page.keyboard.press("Enter")
    expect(panel.locator(".legend")).to_be_visible()
    tab.page.wait_for_timeout(900)  # the page looks at the node again; the focus must survive a redraw
    tab.page.keyboard.press("Tab")
    assert tab.page.evaluate(f"({active})()?.dataset.index") == "0"
    tab.page.keyboard.press("ArrowRight")
    expect(panel.locator(".detail")).to_contain_text("Sub-block 2, attention of layer 1")


def test_a_node_takes_no_more_room_than_before_when_it_is_folded_again(tabs, workflow, renderer):
    if renderer == "vue":
        pytest.skip("there ComfyUI's page sizes the node")
    tab = tabs()
    tab.drop(applied(workflow, source="flux1-dev", sparsity=0.4))
    tab.look_at("SkrrApply")
    expect(tab.part("SkrrApply", "sizes")).to_be_visible()
    tab.page.wait_for_timeout(900)  # until it has grown to what it holds
    height = "app.rootGraph.nodes.find((node) => node.type === 'SkrrApply').size[1]"
    before = tab.page.evaluate(height)
    tab.unfold("SkrrApply")
    tab.page.wait_for_function(f"before => {height} > before", arg=before)
    tab.panel("SkrrApply").locator(".fold > summary").click()
    tab.page.wait_for_function(f"before => Math.abs({height} - before) < 2", arg=before)
