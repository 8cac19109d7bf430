"""What a long job tells the outside: one callback takes these events, and may raise to cancel the job."""

from collections.abc import Callable
from dataclasses import dataclass

__all__ = ["Event", "LevelDone", "Phase", "Report", "Step", "Tick", "silent"]


@dataclass(frozen=True)
class Tick:
    """One sub-block call is about to run. Carries nothing; a host checks for cancellation here."""


@dataclass(frozen=True)
class Phase:
    """A stage begins: `name` for people, `evaluations` expected in it (an estimate where levels vary)."""

    name: str
    evaluations: int


@dataclass(frozen=True)
class Step:
    """Part of an evaluation is done: a plan has seen this fraction of the prompts. A Phase's steps add up
    to its evaluations."""

    evaluations: float


@dataclass(frozen=True)
class LevelDone:
    """A level is complete: sub-blocks skipped, the sparsity of its best set and that set's discrepancy."""

    skipped: int
    sparsity: float
    discrepancy: float


Event = Tick | Phase | Step | LevelDone
Report = Callable[[Event], None]


def silent(event: Event) -> None:
    """Listens to nothing."""
