"""Undo builds nodes anew under their ids: the panels go on living."""

import uuid

from playwright.sync_api import expect


def test_the_panels_live_on_after_an_undo(tabs, workflow):
    graph = workflow(f"undo {uuid.uuid4()}")
    loaded = graph.node("SkrrLoadPlan", (0, 0), 420, source="flux1-dev")
    graph.node("SkrrApply", (480, 0), 420, plan=loaded[0], sparsity=0.3)
    tab = tabs()
    tab.drop(graph.json())
    tab.look_at("SkrrLoadPlan")
    loader = tab.panel("SkrrLoadPlan")
    loader.get_by_role("button", name="Pin plan into workflow").click()
    expect(loader.get_by_role("button", name="Unpin")).to_be_visible()
    tab.page.wait_for_timeout(1000)  # the page notes a step for undo a moment after it was done
    tab.page.evaluate("() => { window.skrrBefore = app.rootGraph.nodes[0] }")
    tab.page.locator("#graph-canvas").focus()
    tab.page.keyboard.press("Control+z")
    tab.page.wait_for_function("app.rootGraph.nodes.length && !app.rootGraph.nodes.includes(window.skrrBefore)")
    expect(loader.get_by_role("button", name="Pin plan into workflow")).to_be_visible()
    tab.set_widget("SkrrLoadPlan", "source", "sd3")
    for kind in ("SkrrLoadPlan", "SkrrApply"):
        expect(tab.part(kind, "name")).to_have_text("sd3")
    tab.set_widget("SkrrApply", "sparsity", 0)
    expect(tab.panel("SkrrApply")).to_contain_text("0: only what goes free")
