"""What the page asks the server, without a page: plans as numbers, refusals, and a search told as it goes."""

import json
import time
import urllib.request
import uuid

import pytest

from skrr_engine.plans.plan_json import MAX_TEXT, loads
from skrr_engine.plans.presets import load_preset, preset_names

from ..comfy.graphs import tiny_graph
from ..comfy.test_server import node, text_of, with_search


def ask(server, path, body=None):
    """A route's answer; `body` is sent as it is."""
    request = urllib.request.Request(f"http://127.0.0.1:{server.port}{path}", body)
    with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=120) as answer:
        return json.loads(answer.read())


def run_as(server, graph, workflow):
    """Runs a graph that says, as the page's prompts do, of which workflow it is."""
    extra = {"extra_pnginfo": {"workflow": {"id": workflow}}}
    body = {"prompt": graph, "client_id": server.client_id, "extra_data": extra}
    return server.wait(ask(server, "/prompt", json.dumps(body).encode())["prompt_id"])


def plan_of(server, **asked):
    return ask(server, "/skrr/plan", json.dumps(asked).encode())


@pytest.mark.parametrize("name", preset_names())
def test_a_plan_as_numbers(server, name):
    page, plan = plan_of(server, source=name), load_preset(name)
    assert page["name"] == plan.name and page["notes"] == list(plan.notes)
    ((slot, info),) = plan.encoders.items()
    assert page["slots"][0]["total"] == info.architecture.total_parameters
    assert len(page["levels"]) == len(plan.levels)
    for drawn, level in zip(page["levels"], plan.levels, strict=True):
        assert drawn["cuts"][slot]["skip"] == list(level.cuts[slot].skip)
        assert drawn["removed"] == level.removed_parameters
        assert drawn["sparsity"] == level.sparsity
        assert drawn["discrepancy"] is None
    assert loads(ask(server, "/skrr/plan/text", json.dumps({"source": name}).encode())["text"]) == plan


def test_auto_by_the_kind_of_clip(server):
    assert plan_of(server, kind="sd3")["name"] == load_preset("sd3").name
    assert "no published plan for a CLIP of type 'wan'" in plan_of(server, kind="wan")["error"]


@pytest.mark.parametrize(
    "body, words",
    [
        (b"", "no JSON"),
        (b"{", "no JSON"),
        (b"[" * 100_000, "no JSON"),
        (b"\xff\xfe", "no JSON"),
        (b"[]", "no JSON object of text"),
        (b'{"text": 1}', "no JSON object of text"),
        (b"{}", "There is no plan ''"),
        (b'{"source": "../../secret"}', "There is no plan '../../secret'"),
        (b'{"text": "skrr1.xx"}', "damaged or not whole"),
        (b'{"text": "<script>"}', "not a whole plan"),
        (json.dumps({"text": "x" * (MAX_TEXT + 1)}).encode(), "characters; a plan has at most"),
        (json.dumps({"text": "x" * (5 * MAX_TEXT)}).encode(), "no plan is"),
    ],
)
def test_what_is_no_plan_is_refused_in_a_sentence(server, body, words):
    answer = ask(server, "/skrr/plan", body)
    assert set(answer) == {"error"} and words in answer["error"]


def test_nodes_and_searches_that_never_ran(server):
    assert ask(server, "/skrr/node?workflow=nowhere&node=1") == {}
    assert ask(server, "/skrr/node") == {}
    assert "forgets when it restarts" in ask(server, "/skrr/node/text?workflow=nowhere&node=1")["error"]
    assert "forgets when it restarts" in ask(server, "/skrr/runs/nothing")["error"]
    assert ask(server, "/skrr/runs?workflow=nowhere") == []


def test_a_search_is_told_as_it_goes_and_remembered(server):
    """The deltas of the events add up to what the routes say, and that to the plan, to the byte."""
    workflow = str(uuid.uuid4())
    graph = with_search(tiny_graph("pixart"), ["models", 0], ["models", 1], sparsity=0.03, beam=3, name="told")
    graph["models"]["inputs"]["seed"] = 77
    graph = {name: graph[name] for name in ("models", "calibrate", "search", "apply", "report", "found")}
    began = time.monotonic()
    result = run_as(server, graph, workflow)
    took = time.monotonic() - began
    assert result.status == "success", result.error

    told = result.of_type("skrr.run")
    assert 2 <= len(told) <= 4 * took + 1
    levels = []
    for event in told:
        assert event["workflow"] == workflow and event["node"] == "search"
        levels[event["from"] :] = event["levels"]
    assert [event["state"] for event in told] == ["running"] * (len(told) - 1) + ["done"]
    (head,) = ask(server, f"/skrr/runs?workflow={workflow}&node=search")
    run = ask(server, f"/skrr/runs/{head['run']}")
    assert run["levels"] == levels and run["state"] == "done" and run["name"] == "told"

    plan = loads(ask(server, f"/skrr/node/text?workflow={workflow}&node=search")["text"])
    assert len(plan.levels) == len(levels)
    sizes = run["exact"]["sub_blocks"]
    for found, level in zip(plan.levels, sorted(levels, key=lambda each: each["sparsity"]), strict=True):
        assert set(found.cuts["t5xxl"].skip) == set(level["order"])
        assert level["saved"] == sum(sizes[i] for i in level["order"])
        assert len(level["beams"]) <= 2  # three beams, one of them the best
        assert all(value > 0 for _, value in level["beams"])

    applied = ask(server, f"/skrr/node?workflow={workflow}&node=apply")
    taken = plan.level_for(0.03)
    saved = sum(applied["exact"]["t5xxl"]["sub_blocks"][i] for i in taken.cuts["t5xxl"].skip)
    assert f"({saved:,} bytes) saved" in text_of(result, "report")
    assert {event["node"] for event in result.of_type("skrr.node")} >= {"apply"}


def test_a_search_that_fails_says_why(server):
    workflow = str(uuid.uuid4())
    graph = with_search(tiny_graph("pixart"), ["models", 0], ["models", 1], sparsity=0.9)
    graph = {name: graph[name] for name in ("models", "calibrate", "search", "found")}
    graph["found"] = node("PreviewAny", source=["search", 1])
    result = run_as(server, graph, workflow)
    assert result.status == "error"
    (head,) = ask(server, f"/skrr/runs?workflow={workflow}")
    assert head["state"] == "failed" and "cannot be reached" in head["sentence"]
