"""Which nodes a failed run did not come to, and when what is known of them is of a run before."""

from types import SimpleNamespace

import pytest

# A loader (1), a node that fails (2), Skrr Apply in a subgraph (3:7), an encoder (4); beside them 5, with a loader of
# its own.
GRAPH = {
    "1": {"class_type": "CLIPLoader", "inputs": {"clip_name": "x", "sizes": [1, 2, 3]}},
    "2": {"class_type": "Fails", "inputs": {"clip": ["1", 0], "fails": True}},
    "3:7": {"class_type": "SkrrApply", "inputs": {"clip": ["2", 0], "sparsity": 0.4}},
    "4": {"class_type": "CLIPTextEncode", "inputs": {"text": "a", "clip": ["3:7", 0]}},
    "5": {"class_type": "SkrrApply", "inputs": {"clip": ["6", 0]}},
    "6": {"class_type": "CLIPLoader", "inputs": {}},
}


def record(name, workflow="w", graph=GRAPH):
    return (0, name, graph, {"extra_pnginfo": {"workflow": {"id": workflow}}}, [])


def run(name, failed=None, **options):
    """A run as ComfyUI's history has it."""
    told = [] if failed is None else [("execution_error", {"node_id": failed})]
    return {"prompt": record(name, **options), "status": {"messages": [("execution_start", {}), *told]}}


@pytest.fixture
def prompts(pack, monkeypatch):
    """The module, over a queue of `running` records and `history` of runs, both lists to be filled."""
    module = pack("nodes.comfy_host.page.pages_prompts")
    running, history = [], []

    def found(prompt_id=None):
        return {one["prompt"][1]: one for one in history if prompt_id in (None, one["prompt"][1])}

    queue = SimpleNamespace(get_current_queue=lambda: (running, []), get_history=found)
    monkeypatch.setattr(module, "PromptServer", SimpleNamespace(instance=SimpleNamespace(prompt_queue=queue)))
    return SimpleNamespace(module=module, running=running, history=history)


def test_what_stands_behind_a_node(prompts):
    assert prompts.module.behind(GRAPH, "2") == {"3:7", "4"}
    assert prompts.module.behind(GRAPH, "4") == set()
    loop = {"1": {"inputs": {"a": ["2", 0]}}, "2": {"inputs": {"a": ["1", 0]}}}
    assert prompts.module.behind(loop, "1") == {"1", "2"}


def test_what_a_run_did_not_come_to_is_known_while_it_runs_and_after_it(prompts):
    assert prompts.module.stopped("p", "2") == [] and prompts.module.workflow_of("p") == ""
    prompts.running.append(record("p"))
    assert prompts.module.stopped("p", "2") == ["3:7", "4"] and prompts.module.workflow_of("p") == "w"
    prompts.running.clear()
    prompts.history.append(run("p", "2"))
    assert prompts.module.stopped("p", "2") == ["3:7", "4"] and prompts.module.workflow_of("p") == "w"


def test_the_last_run_with_the_node_in_it_counts(prompts):
    overtaken = prompts.module.overtaken
    prompts.history.append(run("good"))
    assert not overtaken("w", "3:7")
    prompts.history.append(run("bad", "2"))
    assert overtaken("w", "3:7") and overtaken("w", "4")
    assert not overtaken("w", "5") and not overtaken("w", "2") and not overtaken("other", "3:7")
    prompts.history.append(run("without it", graph={"6": GRAPH["6"]}))
    prompts.history.append(run("of another", workflow="other"))
    assert overtaken("w", "3:7")
    prompts.running.append(record("on the way"))
    assert not overtaken("w", "3:7")
    prompts.running.clear()
    prompts.history.append(run("mended"))
    assert not overtaken("w", "3:7")


def test_a_run_without_a_status_has_not_failed(prompts):
    prompts.history.append({"prompt": record("p"), "status": None})
    assert not prompts.module.overtaken("w", "3:7")
