"""Engine events -> what the page shows of a running search. The state stays here, so that a reload loses nothing."""

import math
import time
from dataclasses import dataclass, field
from uuid import uuid4

import comfy.model_management as mm

from ....skrr_engine.errors import SkrrError
from ....skrr_engine.events import Beam, Event, LevelDone, Notice, Phase, Progress, Report, Step
from ....skrr_engine.jobs.settings import Settings
from ....skrr_engine.plans.plan import Plan
from ..clip.trees import TextEncoder
from ..files.folders import load_plan
from .pages_plans import slot_page
from .pages_state import NODES, Bounded, NodeState, Place, exact_bytes, place, tell

__all__ = ["RUNS", "RunState", "SearchPage"]

MAX_RUNS = 16
# Seconds between messages to the page: four a second at most.
EVERY = 0.25
RUNNING, DONE, CANCELLED, FAILED = "running", "done", "cancelled", "failed"
MAX_SENTENCE = 500
MAX_BEAMS = 32
# What of `Progress` the page says was tried last.
TRIED = ("level", "levels", "candidates", "candidates_at_first", "prompts", "prompts_in_all")


@dataclass
class RunState:
    """One search as the page draws it. `levels` grow; `plan` comes at the end, of a cancelled search too."""

    id: str
    where: Place
    name: str
    slot: dict
    exact: dict
    target: dict
    refines: bool
    started: float
    state: str = RUNNING
    phase: str = ""
    done: float = 0.0
    total: float = 0.0
    left: float | None = None
    tried: dict | None = None
    sentence: str = ""
    levels: list[dict] = field(default_factory=list)
    plan: Plan | None = None

    def head(self) -> dict:
        """What changes while it runs, without the levels."""
        return {
            "run": self.id,
            "workflow": self.where.workflow,
            "node": self.where.node,
            "state": self.state,
            "phase": self.phase,
            "done": self.done,
            "total": self.total,
            "left": self.left,
            "tried": self.tried,
            "sentence": self.sentence,
            "has_plan": self.plan is not None,
        }

    def page(self) -> dict:
        """All of it, JSON-able."""
        fixed = {name: getattr(self, name) for name in ("name", "slot", "exact", "target", "refines", "started")}
        return {**self.head(), **fixed, "from": 0, "levels": list(self.levels)}


RUNS = Bounded(MAX_RUNS)


class SearchPage:
    """A context around one search, and the engine's `report` inside it: passes every event on to `also` (which may
    raise to cancel) and keeps the state in RUNS up to date. Outside of a server's run it only passes on."""

    def __init__(self, encoder: TextEncoder, settings: Settings, also: Report, refines: bool = False):
        self.also, self.settings = also, settings
        self.run, where = None, place()
        self.sent, self.told = 0.0, 0
        if where is not None and encoder.applied is None:  # a cut encoder is refused by the search itself
            self.run = RunState(
                id=uuid4().hex[:16],
                where=where,
                name=settings.name,
                slot=slot_page(encoder.slot, encoder.architecture),
                exact=exact_bytes(encoder),
                target={"sparsity": settings.sparsity, "bytes": settings.bytes_saved},
                refines=refines,
                started=time.time(),
            )

    def __enter__(self) -> "SearchPage":
        if self.run is not None:
            RUNS.put(self.run.id, self.run)
            self._tell()
        return self

    def __call__(self, event: Event) -> None:
        self.also(event)
        if self.run is not None:
            self._note(event)
            if time.monotonic() - self.sent >= EVERY:
                self._tell()

    def found(self, plan: Plan) -> None:
        """The search ended well with `plan`."""
        if self.run is not None:
            self.run.plan = plan

    def __exit__(self, kind, error, _) -> None:
        if self.run is None:
            return
        run = self.run
        run.left = None
        if kind is None:
            run.state = DONE
        elif isinstance(error, mm.InterruptProcessingException):
            run.state = CANCELLED
        else:
            run.state, run.sentence = FAILED, str(error)[:MAX_SENTENCE]
        if kind is not None and run.levels:
            self._take_partial()
        if run.plan is not None:
            NODES.put((run.where.workflow, run.where.node), NodeState(run.plan, {run.slot["slot"]: run.exact}))
        time.sleep(max(0.0, self.sent + EVERY - time.monotonic()))
        self._tell()

    def _take_partial(self) -> None:
        """The plan so far, which the search has just written into models/skrr."""
        name = f"{self.run.name} (partial).json"
        try:
            self.run.plan = load_plan(name)
        except SkrrError as error:  # must not stand in for the cancel that is on its way
            kept = str(error)
        else:
            kept = f"The plan so far is in models/skrr as {name}."
        self.run.sentence = f"{self.run.sentence} {kept}".strip()

    def _note(self, event: Event) -> None:
        run = self.run
        match event:
            case Phase(name=name, evaluations=evaluations):
                run.phase, run.done, run.total, run.tried = name, 0.0, float(evaluations), None
            case Step(evaluations=evaluations):
                run.done = min(run.done + evaluations, run.total)
            case Progress():
                run.left = event.seconds_left
                run.tried = {name: getattr(event, name) for name in TRIED}
            case LevelDone():
                run.levels.append(_level(event, run.exact["sub_blocks"]))
            case Notice(text=text):
                run.sentence = text[:MAX_SENTENCE]

    def _tell(self) -> None:
        """The head and the levels that the page has not been told of."""
        run, levels = self.run, len(self.run.levels)
        tell("skrr.run", {**run.head(), "from": self.told, "levels": run.levels[self.told : levels]})
        self.told, self.sent = levels, time.monotonic()


def _level(event: LevelDone, sizes: list[int]) -> dict:
    """A finished level for the page: its best set in the order of removal, and (bytes saved, discrepancy) of the
    other sets it kept."""
    best, *others = event.beams or (Beam((), event.discrepancy),)
    return {
        "skipped": event.skipped,
        "sparsity": event.sparsity,
        "discrepancy": _finite(event.discrepancy),
        "saved": event.bytes_saved,
        "order": list(best.order),
        "beams": [
            [sum(sizes[i] for i in beam.order), beam.discrepancy]
            for beam in others[:MAX_BEAMS]
            if math.isfinite(beam.discrepancy)
        ],
    }


def _finite(value: float) -> float | None:
    """None for what JSON has no number for (an encoder that overflows)."""
    return value if math.isfinite(value) else None
