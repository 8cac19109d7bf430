"""A node's help as a person opens it: in the page's language, without a miss on the way."""

import uuid

import pytest
from playwright.sync_api import expect

from .test_language import language  # noqa: F401

TITLES = {"en": "Skrr Apply", "zh": "Skrr 应用", "ja": "Skrr 適用", "fr": "Skrr Appliquer"}


@pytest.mark.parametrize("name", TITLES)
def test_the_help_of_a_node_opens_in_the_language_of_the_page(tabs, workflow, language, name):  # noqa: F811
    language(name)
    tab = tabs(fresh=True)
    asked = []
    tab.page.on("response", lambda answer: asked.append((answer.url, answer.status)))
    graph = workflow(f"help {uuid.uuid4()}")
    graph.node("SkrrApply", (0, 0), 420)
    tab.drop(graph.json())
    tab.look_at("SkrrApply")
    tab.page.evaluate(
        """() => {
          app.canvas.selectNode?.(app.rootGraph.nodes[0]) ?? app.canvas.select(app.rootGraph.nodes[0])
          app.canvas.ds.offset[1] += 150 // room for the toolbox above the node
          app.canvas.setDirty(true, true)
        }"""
    )
    tab.page.get_by_test_id("info-button").first.click()
    expect(tab.page.get_by_role("heading", name=TITLES[name], exact=True).first).to_be_visible()
    tab.picture(f"help {name}")
    ours = [(url, status) for url, status in asked if "skrr-for-comfyui/docs" in url]
    assert [status for _, status in ours] == [200] and ours[0][0].endswith(f"/docs/SkrrApply/{name}.md")
