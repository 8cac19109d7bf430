"""The workflows that come with the pack, opened as they are: nothing overlaps once the nodes show what they show."""

from pathlib import Path

import pytest
from playwright.sync_api import expect

FILES = sorted((Path(__file__).parents[2] / "workflows").glob("*.json"))
FIT = """() => {
  const nodes = app.rootGraph.nodes
  const [left, top] = [0, 1].map((side) => Math.min(...nodes.map((node) => node.pos[side])))
  const [right, bottom] = [0, 1].map((side) => Math.max(...nodes.map((node) => node.pos[side] + node.size[side])))
  const scale = Math.min(1150 / (right - left), 650 / (bottom - top))
  app.canvas.ds.scale = scale
  app.canvas.ds.offset = [110 / scale - left, 100 / scale - top]
  app.canvas.setDirty(true, true)
}"""
CORNER = """() => {
  const least = [0, 1].map((side) => Math.min(...app.rootGraph.nodes.map((node) => node.pos[side] - (side ? 30 : 0))))
  const box = app.canvas.canvas.getBoundingClientRect()
  const at = app.canvas.ds.convertOffsetToCanvas(least)
  return [box.left + at[0], box.top + at[1]]
}"""
OVERLAPS = """() => {
  const boxes = app.rootGraph.nodes.map((node) => ({ type: node.type, box: [...node.pos, ...node.size] }))
  const apart = ([x, y, w, h], [a, b, c, d]) => x + w <= a || a + c <= x || y + h <= b - 30 || b + d <= y - 30
  const pairs = boxes.flatMap((one, n) => boxes.slice(n + 1).map((other) => [one, other]))
  return pairs.filter(([one, other]) => !apart(one.box, other.box))
}"""


LEFT, TOP = 60, 80  # the side bar, and the tabs with the menu below them


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_workflow_opens_without_overlaps(tabs, path):
    tab = tabs()
    tab.drop(path.read_text(encoding="utf-8"), path.name)
    corner = tab.page.evaluate(CORNER)
    assert corner[0] > LEFT and corner[1] > TOP
    tab.page.evaluate(FIT)
    tab.page.locator(".skrr-panel").first.wait_for()
    tab.page.wait_for_timeout(1500)  # panels ask the server, then the nodes grow
    tab.picture(path.stem)
    assert tab.page.evaluate(OVERLAPS) == []


def test_models_that_are_missing_are_offered_for_download(tabs):
    """The page's own dialog, from what the workflow says of its files."""
    path = next(path for path in FILES if path.stem == "skrr_3_plan_flux1_dev")
    tab = tabs()
    tab.drop(path.read_text(encoding="utf-8"), path.name)
    tab.page.get_by_role("button", name="View details").first.click()
    for name in ("flux1-dev.safetensors", "t5xxl_fp16.safetensors", "clip_l.safetensors", "ae.safetensors"):
        expect(tab.page.get_by_text(name).first).to_be_visible()
    tab.picture("missing models")
    expect(tab.page.get_by_text("Download").first).to_be_visible()
