"""What a long job tells the outside: one callback takes these events, and may raise to cancel the job.

For bars: a `Phase` opens a stage and says how many measurements it holds; `Step`s add up to them.
For pages and texts: `Progress` carries everything there is to show (level, candidates left, beams, best discrepancy,
bytes saved, time left) as plain numbers and tuples; it comes after every chunk of prompts, so a listener that redraws
should skip some. `LevelDone` comes once a level, when it is on disk, with the sets that were kept.
"""

from collections.abc import Callable
from dataclasses import dataclass

__all__ = ["Beam", "Event", "LevelDone", "Notice", "Phase", "Progress", "Report", "Step", "Tick", "silent"]


@dataclass(frozen=True)
class Tick:
    """One sub-block call is about to run. Carries nothing; a host checks for cancellation here."""


@dataclass(frozen=True)
class Phase:
    """A stage begins: `name` ("skip", "re-use" or "fit"), `evaluations` expected in it (an estimate where levels vary;
    the places of the stack in a fit)."""

    name: str
    evaluations: int


@dataclass(frozen=True)
class Step:
    """Part of an evaluation is done: a plan has seen this fraction of the prompts, or has been given up with this
    fraction unseen. A Phase's steps add up to its evaluations."""

    evaluations: float


@dataclass(frozen=True)
class Beam:
    """A set that a level keeps: the skipped sub-blocks in the order of removal, and the discrepancy (in the fast
    search an estimate, except for the best set of a level)."""

    order: tuple[int, ...]
    discrepancy: float


@dataclass(frozen=True)
class LevelDone:
    """A level is complete and on disk: sub-blocks skipped, the sparsity of its best set and that set's discrepancy,
    the bytes it saves, and the sets it keeps, best first."""

    skipped: int
    sparsity: float
    discrepancy: float
    bytes_saved: int = 0
    beams: tuple[Beam, ...] = ()


@dataclass(frozen=True)
class Progress:
    """Where a search stands.

    `phase` is "skip" or "re-use". `level` is how many sub-blocks the sets under way skip, `levels` how many the last
    level will (an estimate until it is reached). `candidates` are the assignments still in the running, of
    `candidates_at_first`; `prompts` of `prompts_in_all` are the rows they have seen. `beams`, `best` and `bytes_saved`
    belong to the last finished level: empty, None and 0 before the first. `work` counts sub-block x token applications
    of this run, `seconds` its time; `seconds_left` is None as long as nothing is known.
    """

    phase: str
    level: int
    levels: int
    candidates: int
    candidates_at_first: int
    prompts: int
    prompts_in_all: int
    beams: tuple[Beam, ...]
    best: float | None
    bytes_saved: int
    work: int
    seconds: float
    seconds_left: float | None

    def describe(self) -> str:
        """One line for people."""
        text = f"level {self.level} of about {self.levels}, {self.candidates} of {self.candidates_at_first} left"
        return text if self.seconds_left is None else f"{text}, about {_clock(self.seconds_left)} to go"


@dataclass(frozen=True)
class Notice:
    """A sentence for the user, once: memory ran short and chunks were halved, two sets are within rounding."""

    text: str


Event = Tick | Phase | Step | LevelDone | Progress | Notice
Report = Callable[[Event], None]


def _clock(seconds: float) -> str:
    """3725 -> "1:02:05"."""
    hours, rest = divmod(round(seconds), 3600)
    return f"{hours}:{rest // 60:02}:{rest % 60:02}" if hours else f"{rest // 60}:{rest % 60:02}"


def silent(event: Event) -> None:
    """Listens to nothing."""
