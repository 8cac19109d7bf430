"""What the server remembers for the page: the plan that a node last had, exact bytes, free parts, searches. In memory,
bounded.

A node is known by its workflow's id and its id in the running graph ("12", in a subgraph "3:12"): what the page can
ask by after a reload and from a second tab.
"""

from collections import OrderedDict
from dataclasses import dataclass, field
from threading import Lock

from comfy_execution.utils import get_executing_context
from server import PromptServer

from ....skrr_engine.plans.plan import Plan
from ..clip.patching import Patched
from ..clip.trees import TextEncoder, text_encoders
from ..weights.memory import module_bytes
from .pages_free import free_page
from .pages_plans import plan_page
from .pages_prompts import workflow_of

__all__ = ["NODES", "Bounded", "NodeState", "Place"]
__all__ += ["exact_bytes", "forget_node", "note_applied", "note_loaded", "note_plan", "note_unchanged", "place", "tell"]

MAX_NODES = 32
MAX_WARNINGS = 16


class Bounded:
    """A mapping that forgets what was put longest ago. Safe across the server's and the worker's thread."""

    def __init__(self, most: int):
        self._items: OrderedDict = OrderedDict()
        self._most, self._lock = most, Lock()

    def put(self, key, value) -> None:
        """Stores `value` as the newest."""
        with self._lock:
            self._items.pop(key, None)
            self._items[key] = value
            while len(self._items) > self._most:
                self._items.popitem(last=False)

    def get(self, key):
        """The value, or None."""
        with self._lock:
            return self._items.get(key)

    def drop(self, key) -> None:
        """Forgets a key, if it is there."""
        with self._lock:
            self._items.pop(key, None)

    def values(self) -> list:
        """All values, the oldest first."""
        with self._lock:
            return list(self._items.values())


@dataclass(frozen=True)
class Place:
    """The node that is running: workflow id ("" where the prompt came without one), node id, prompt id."""

    workflow: str
    node: str
    prompt: str


@dataclass
class NodeState:
    """What is known of one node since it ran: `plan` it took or gave, the page's `exact` bytes, `warnings`; of one that
    makes a CLIP smaller what went `free` (see `free_page`), and what its plan was `chosen` by where none was wired."""

    plan: Plan | None
    exact: dict = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)
    free: dict | None = None
    chosen: str = ""

    def page(self) -> dict:
        """For the page, JSON-able."""
        plan = None if self.plan is None else plan_page(self.plan)
        known = {name: getattr(self, name) for name in ("exact", "warnings", "free", "chosen")}
        return {"plan": plan, **known}


NODES = Bounded(MAX_NODES)


def place() -> Place | None:
    """The node running in this thread; None outside of a server's run."""
    context, server = get_executing_context(), getattr(PromptServer, "instance", None)
    if context is None or server is None:
        return None
    return Place(workflow_of(context.prompt_id), str(context.node_id), str(context.prompt_id))


def tell(event: str, data: dict) -> None:
    """Sends a small message to every open page."""
    PromptServer.instance.send_sync(event, data)


def note_plan(plan: Plan) -> None:
    """Remembers the plan that the running node gave out or was given, for it and the nodes behind it."""
    _note(NodeState(plan))


def note_applied(clip, patched: Patched, report: str, chosen: str = "") -> None:
    """Remembers what `patched` was made of: the free parts, the plan if there was one, and of the dense `clip` the
    bytes of every sub-block, so that the page's figures are those of this encoder in its format. `report` gives the
    warnings; `chosen` is the node's `source` where that brought the plan."""
    if place() is None:
        return
    encoders = {slot: encoder for slot, encoder in text_encoders(clip).items() if slot in patched.applied}
    exact = {slot: exact_bytes(encoder) for slot, encoder in encoders.items() if encoder.applied is None}
    _note(NodeState(patched.plan, exact, _warnings(report), free_page(patched), chosen))


def note_loaded(patched: Patched, report: str) -> None:
    """Remembers the plan that `patched` was loaded by, and its free parts; of what was never loaded whole there are no
    other bytes."""
    _note(NodeState(patched.plan, warnings=_warnings(report), free=free_page(patched)))


def _warnings(report: str) -> list[str]:
    lines = [line for line in report.splitlines() if line.startswith("Warning: ")]
    return [line.removeprefix("Warning: ") for line in lines[:MAX_WARNINGS]]


def note_unchanged(clip) -> None:
    """Remembers that the running node found nothing to take out of `clip`."""
    if place() is not None:
        size = module_bytes(clip.patcher.model)
        _note(NodeState(None, free={"clip": [size, size, size], "sparsity": None, "parts": []}))


def forget_node() -> None:
    """Forgets what is known of the running node: should it fail now, its figures of before are of no run any more."""
    if (where := place()) is not None:
        NODES.drop((where.workflow, where.node))


def exact_bytes(encoder: TextEncoder) -> dict:
    """The bytes of a whole, uncut encoder: `total`, and a list over its `sub_blocks` (what goes when one is cut)."""
    parts = (encoder.adapter.parts(encoder.transformer, i) for i in range(encoder.architecture.sub_blocks))
    return {
        "sub_blocks": [sum(module_bytes(part) for part in modules) for modules in parts],
        "total": module_bytes(encoder.transformer),
    }


def _note(state: NodeState) -> None:
    where = place()
    if where is not None:
        NODES.put((where.workflow, where.node), state)
        tell("skrr.node", {"workflow": where.workflow, "node": where.node})
