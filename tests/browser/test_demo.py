"""The demo workflow in the browser, from the drop to the saved file's run: a real search on trained weights.

A slow test: without a graphics card the page is drawn by the processors that the search needs.
"""

import json
import os
import uuid
from pathlib import Path

import pytest

from skrr_engine.plans.plan_json import loads

from .test_search import drawn_is_known, holds_plan, save, wait_for_levels

DEMO = Path(__file__).parents[2] / "workflows" / "skrr_1_demo.json"
pytestmark = pytest.mark.skipif(
    not os.environ.get("SKRR_SLOW_TESTS"), reason="set SKRR_SLOW_TESTS: it takes minutes"
)
# Looks of a fifth of a second: search, pictures and report take two minutes on a core of their own.
LOOKS = 4500


def test_the_demo_workflow_is_watched_reloaded_pinned_saved_and_run(tabs, renderer):
    graph = json.loads(DEMO.read_text(encoding="utf-8"))
    graph["id"] = str(uuid.uuid4())
    tab = tabs()
    tab.drop(json.dumps(graph), DEMO.name)
    tab.look_at("SkrrSearch", 0.6)
    run = wait_for_levels(tab, tab.search(), 2)
    drawn_is_known(tab, run)
    tab.picture("demo searches")
    tab.reload()
    tab.look_at("SkrrSearch", 0.6)
    drawn_is_known(tab, wait_for_levels(tab, run, len(run["levels"]) + 1))

    finished(tab)
    (run,) = tab.runs()
    assert run["state"] == "done"
    place = f"workflow={run['workflow']}&node={run['node']}"
    text = tab.ask(f"/skrr/node/text?{place}")["text"]
    plan = loads(text)
    run = tab.ask(f"/skrr/runs/{run['run']}")
    assert len(run["levels"]) == len(plan.levels) > 10
    drawn_is_known(tab, run)
    holds_plan(tab, "SkrrSearch", plan, plan.levels[-1])
    holds_plan(tab, "SkrrApply", plan, plan.level_for(tab.widget("SkrrApply", "sparsity")))
    pictures_and_verdict(tab)
    tab.picture("demo done")

    tab.panel("SkrrSearch").get_by_role("button", name="Pin plan into workflow").click()
    tab.page.wait_for_function(
        "text => app.rootGraph.nodes.find((n) => n.type === 'SkrrSearch')"
        ".widgets.find((w) => w.name === 'pinned').value === text",
        arg=text,
    )
    fresh = tabs(fresh=True)
    fresh.drop(save(tab, f"demo {renderer}"))
    fresh.look_at("SkrrSearch", 0.6)
    holds_plan(fresh, "SkrrApply", plan, plan.level_for(fresh.widget("SkrrApply", "sparsity")))
    fresh.run()
    fresh.page.wait_for_timeout(1000)
    finished(fresh)
    pictures_and_verdict(fresh)
    assert fresh.runs() == [], "the saved workflow searched"


def finished(tab):
    """Until nothing runs or waits on the server; the last run went well."""
    for _ in range(LOOKS):
        queue = tab.ask("/queue")
        if not queue["queue_running"] and not queue["queue_pending"]:
            (last,) = tab.ask("/history?max_items=1").values()
            assert last["status"]["status_str"] == "success", last["status"]
            return
        tab.page.wait_for_timeout(200)
    raise AssertionError("the workflow is still running")


def pictures_and_verdict(tab):
    """Dense and pruned picture are shown, and the report says what it thinks of them."""
    (last,) = tab.ask("/history?max_items=1").values()
    shown = list(last["outputs"].values())
    assert sum(len(output.get("images", ())) for output in shown) >= 2
    assert any("Verdict: " in text for output in shown for text in output.get("text", ()))
