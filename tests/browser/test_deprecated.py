"""No script of the pack uses what the front end calls deprecated: at the end, every test looks for complaints of it."""

import uuid

WARNS = """
console.warn("[DEPRECATED] an old thing")
//# sourceURL=http://127.0.0.1/extensions/skrr-for-comfyui/old.js
"""


def test_a_deprecated_thing_in_our_scripts_is_found(tabs):
    tab = tabs(fresh=True)
    tab.page.evaluate("console.warn('[DEPRECATED] of another pack')")
    assert tab.complaints == []
    with tab.page.expect_console_message(lambda said: "an old thing Error" in said.text, timeout=60_000):
        tab.page.add_script_tag(content=WARNS)
    assert len(tab.complaints) == 1 and "an old thing" in tab.complaints[0]
    tab.complaints.clear()


def test_loading_drawing_and_pinning_use_nothing_deprecated(tabs, workflow):
    graph = workflow(f"deprecated {uuid.uuid4()}")
    models = graph.node("SkrrTestModels", (0, 0), family="pixart", seed=3)
    loaded = graph.node("SkrrLoadPlan", (360, 0), 420, source="auto", clip=models[1])
    number = graph.node("PrimitiveFloat", (0, 300), 300, value=0.3)
    graph.node("SkrrApply", (800, 0), 420, clip=models[1], plan=loaded[0], sparsity=number[0])
    tab = tabs(fresh=True)  # warnings that are given once are given here
    tab.drop(graph.json())
    tab.look_at("SkrrLoadPlan")
    tab.set_widget("SkrrLoadPlan", "source", "sd3")
    tab.panel("SkrrLoadPlan").get_by_role("button", name="Pin plan into workflow").click()
    tab.panel("SkrrLoadPlan").get_by_role("button", name="Unpin").click()
    assert tab.complaints == []
