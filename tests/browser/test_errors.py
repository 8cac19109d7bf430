"""A run's error stands in the panel of the node that failed, and goes with the next good run."""

import uuid

from playwright.sync_api import expect


def test_the_sentence_of_a_failed_run_is_in_the_panel_of_its_node(tabs, workflow):
    graph = workflow(f"error {uuid.uuid4()}")
    loaded = graph.node("SkrrLoadPlan", (0, 0), 420)
    graph.node("SkrrSavePlan", (480, 0), 420, plan=loaded[0])
    tab = tabs()
    tab.drop(graph.json())
    tab.look_at("SkrrLoadPlan")
    panel = tab.panel("SkrrLoadPlan")
    expect(panel.locator(".error")).to_have_count(0)
    tab.run()
    expect(panel.locator(".error")).to_contain_text("auto")
    expect(tab.panel("SkrrSavePlan").locator(".error")).to_have_count(0)
    tab.set_widget("SkrrLoadPlan", "source", "sd3")
    tab.run()
    expect(panel.locator(".error")).to_have_count(0)
