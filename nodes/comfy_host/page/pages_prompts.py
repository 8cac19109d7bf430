"""What ComfyUI knows of prompts, running and run: which workflow each is of, and which nodes a failure held up."""

from server import PromptServer

__all__ = ["behind", "overtaken", "stopped", "workflow_of"]

# Places in ComfyUI's record of a prompt.
ID, GRAPH, EXTRA = 1, 2, 3


def workflow_of(prompt: str) -> str:
    """The id of the workflow that the prompt `prompt`, running or run, is of; "" where nobody knows."""
    return _workflow(_record(prompt))


def stopped(prompt: str, failed: str) -> list[str]:
    """The nodes that did not get to run because the node `failed` did not end well in the prompt `prompt`."""
    record = _record(prompt)
    return [] if record is None else sorted(behind(record[GRAPH], failed))


def overtaken(workflow: str, node: str) -> bool:
    """Whether the last run that had `node` of `workflow` in it failed before it came there: what is known of the node
    is of a run before that. A run under way has not failed yet."""
    if any(_holds(item, workflow, node) for item in _running()):
        return False
    for run in reversed(_queue().get_history().values()):
        if _holds(run["prompt"], workflow, node):
            failed = [data["node_id"] for kind, data in _messages(run) if kind == "execution_error"]
            return any(node in behind(run["prompt"][GRAPH], each) for each in failed)
    return False


def behind(graph: dict, node: str) -> set[str]:
    """The nodes of a prompt's graph that need what `node` gives, at once or through others."""
    takers: dict[str, list[str]] = {}
    for name, each in graph.items():
        for value in each["inputs"].values():
            if isinstance(value, list) and len(value) == 2:  # a link: the node, and which of its outputs
                takers.setdefault(str(value[0]), []).append(name)
    found, left = set(), [str(node)]
    while left:
        new = [name for name in takers.get(left.pop(), ()) if name not in found]
        found.update(new)
        left += new
    return found


def _queue():
    return PromptServer.instance.prompt_queue


def _running() -> list:
    """ComfyUI's records of what runs now."""
    return _queue().get_current_queue()[0]


def _record(prompt: str):
    """ComfyUI's record of a prompt, or None."""
    item = next((item for item in _running() if item[ID] == prompt), None)
    if item is None:  # looked for there first: it goes from there into the history
        item = _queue().get_history(prompt_id=prompt).get(prompt, {}).get("prompt")
    return item


def _workflow(item) -> str:
    """The workflow's id in ComfyUI's record of a prompt."""
    workflow = {} if item is None else ((item[EXTRA] or {}).get("extra_pnginfo") or {}).get("workflow") or {}
    return str(workflow.get("id") or "")


def _holds(item, workflow: str, node: str) -> bool:
    return node in item[GRAPH] and _workflow(item) == workflow


def _messages(run: dict) -> list:
    """What ComfyUI told of a run, as (kind, data)."""
    return (run.get("status") or {}).get("messages") or []
