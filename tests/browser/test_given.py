"""A plan whose way the page cannot follow: what was applied is shown all the same, as the server knows it."""

import uuid

from playwright.sync_api import expect

from skrr_engine.plans.architecture import Architecture
from skrr_engine.plans.plan import EncoderInfo, Plan, make_cut, make_level
from skrr_engine.plans.plan_json import dumps

# The testing pack's tiny PixArt.
TINY = {"t5xxl": EncoderInfo(Architecture("t5", 6, 64, 128, 4, 16, 32128, "gelu_tanh", True, "first", 32))}
PINNED = dumps(Plan("tiny", TINY, (make_level(TINY, {"t5xxl": make_cut([8, 9])}, None),)))
WRAP = """() => {
  const apply = app.rootGraph.nodes.find((node) => node.type === "SkrrApply")
  const { subgraph, node } = app.rootGraph.convertToSubgraph(new Set([apply]))
  app.canvas.openSubgraph(subgraph, node)
}"""
LOOK = """() => {
  const node = app.canvas.graph.nodes.find((each) => each.type === "SkrrApply")
  app.canvas.ds.scale = 1
  app.canvas.ds.offset = [110 - node.pos[0], 95 - node.pos[1]]
  app.canvas.setDirty(true, true)
}"""


def test_behind_a_switch_skrr_save_plan_shows_what_it_saved(tabs, workflow, renderer):
    name = f"given {uuid.uuid4()}"
    graph = workflow(name)
    loaded = graph.node("SkrrLoadPlan", (0, 300), 420, text=PINNED)
    switch = graph.node("SkrrTestSwitch", (480, 300), plan=loaded[0], on=True)
    graph.node("SkrrSavePlan", (480, 0), 420, plan=switch[0], filename=name, overwrite=True)
    tab = tabs()
    tab.drop(graph.json())
    tab.look_at("SkrrSavePlan")
    expect(tab.panel("SkrrSavePlan")).to_contain_text("The plan is known once this has run.")
    tab.run()
    expect(tab.part("SkrrSavePlan", "name")).to_have_text("tiny")


def test_inside_a_subgraph_the_plan_that_was_applied_is_shown(tabs, workflow, renderer):
    graph = workflow(f"given {uuid.uuid4()}")
    models = graph.node("SkrrTestModels", (0, 0), family="pixart", seed=31 if renderer == "vue" else 32)  # not cached
    loaded = graph.node("SkrrLoadPlan", (0, 300), 420, text=PINNED)
    smaller = graph.node("SkrrApply", (480, 0), 420, clip=models[1], plan=loaded[0], sparsity=0.01)
    graph.node("PreviewAny", (960, 0), source=smaller[1])
    tab = tabs()
    tab.drop(graph.json())
    tab.look_at("SkrrApply")
    expect(tab.part("SkrrApply", "name")).to_have_text("tiny")
    tab.page.evaluate(WRAP)
    tab.page.wait_for_timeout(500)
    tab.page.evaluate(LOOK)
    panel = tab.panel("SkrrApply")
    expect(panel).to_contain_text("The plan is known once this has run.")
    tab.run()
    expect(tab.part("SkrrApply", "name")).to_have_text("tiny")
