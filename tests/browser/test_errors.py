"""A run's error stands in the panel of the node that failed, and goes with the next good run of its workflow."""

import json
import uuid

from playwright.sync_api import expect

BEFORE = "The last run failed before it came to this node."


def test_the_sentence_of_a_failed_run_is_in_the_panel_of_its_node(tabs, workflow):
    graph = workflow(f"error {uuid.uuid4()}")
    loaded = graph.node("SkrrLoadPlan", (0, 0), 420)
    graph.node("SkrrSavePlan", (480, 0), 420, plan=loaded[0], filename=f"mended {uuid.uuid4()}")
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


def test_the_run_of_another_workflow_leaves_no_error_here(tabs, workflow):
    graph = workflow(f"error {uuid.uuid4()}")
    loaded = graph.node("SkrrLoadPlan", (0, 0), 420)
    graph.node("SkrrSavePlan", (480, 0), 420, plan=loaded[0], filename=f"of another {uuid.uuid4()}")
    tab = tabs()
    tab.drop(graph.json())
    tab.look_at("SkrrLoadPlan")
    failure = tab.panel("SkrrLoadPlan").locator(".error")

    def run_as(workflow_id, source):
        """The run of a workflow with the same nodes, in a tab of this page that is in the background."""
        tab.page.evaluate(
            """async ([id, source]) => {
              const { output, workflow } = await app.graphToPrompt()
              const load = Object.values(output).find((node) => node.class_type === "SkrrLoadPlan")
              load.inputs.source = source
              const api = window.comfyAPI.api.api
              const ended = (kind) => new Promise((done) => api.addEventListener(kind, done, { once: true }))
              const end = Promise.race([ended("execution_error"), ended("execution_success")])
              await api.queuePrompt(0, { output, workflow: { ...workflow, id } })
              await end
            }""",
            [workflow_id, source],
        )
        tab.page.wait_for_timeout(1000)

    run_as("another", "auto")
    expect(failure).to_have_count(0)
    run_as(json.loads(graph.json())["id"], "auto")
    expect(failure).to_have_count(1)
    run_as("another", "sd3")
    expect(failure).to_have_count(1)


def test_a_failure_in_front_of_skrr_apply_leaves_it_no_figures(tabs, workflow, renderer):
    """Neither at once nor after a reload; the next good run brings new ones."""
    graph = workflow(f"error {uuid.uuid4()}")
    models = graph.node("SkrrTestModels", (0, 0), family="klein", seed=51 if renderer == "vue" else 52)
    handed = graph.node("SkrrTestFails", (0, 200), clip=models[1], fails=False)
    smaller = graph.node("SkrrApply", (480, 0), 420, clip=handed[0])
    graph.node("PreviewAny", (960, 0), source=smaller[1])
    tab = tabs()
    tab.drop(graph.json())
    tab.look_at("SkrrApply")
    panel, figures = tab.panel("SkrrApply"), tab.part("SkrrApply", "free")
    tab.run()
    expect(figures).to_have_count(1)
    tab.set_widget("SkrrTestFails", "fails", True)
    tab.run()
    expect(panel).to_contain_text(BEFORE)
    expect(figures).to_have_count(0)
    tab.picture("error in front")
    tab.reload()
    tab.look_at("SkrrApply")
    expect(panel).to_contain_text(BEFORE)
    expect(figures).to_have_count(0)
    tab.set_widget("SkrrTestFails", "fails", False)
    tab.run()
    expect(figures).to_have_count(1)
    expect(panel).not_to_contain_text(BEFORE)
