"""What the phases of one search share: its run, its results on disk, its forecast and its clock."""

import time
from collections.abc import Sequence
from pathlib import Path

from ..digest import digest_json
from ..events import Beam, LevelDone
from ..measure.objective import Objective
from ..running.checkpoint import Checkpoint
from ..running.prior import Estimate, Key, widened
from ..running.run import Run
from ..search.candidate import Candidate, Order
from ..search.exact import choose_exactly
from ..search.racing import choose_by_racing
from .forecast import Forecast
from .regret import prompts_in_time
from .saved import Saved
from .settings import Settings

__all__ = ["CHOOSERS", "Job", "drifted"]

CHOOSERS = {"exact": choose_exactly, "fast": choose_by_racing}
# Part of the time that is planned for: a forecast can be too low.
PLANNED = 0.9


class Job:
    """One call of `search.find_plan`."""

    def __init__(self, objective: Objective, settings: Settings, checkpoint_path: str | Path | None):
        self.objective, self.settings, self.stack = objective, settings, objective.stack
        ranks = objective.ranks
        first = ranks is None or ranks.rank == 0
        self.checkpoint = Checkpoint(checkpoint_path if first else None, _fingerprint(objective, settings))
        if ranks is not None:
            self.checkpoint.adopt(ranks.agreed(self.checkpoint.findings()))
        self.saved = Saved(self.checkpoint)
        self.run = Run(objective, self.checkpoint, settings.seed, settings.mode == "fast")
        self.choose = CHOOSERS[settings.mode]
        self.forecast = Forecast(self.run, settings.beam, settings.mode == "fast")
        self.run.time_left = self.forecast.seconds_left
        self.deadline = time.monotonic() + 60 * settings.minutes if settings.minutes else None
        # Processes that search together notice the end of the time together, where they wait for each other.
        self.run.deadline = None if ranks is None else self.deadline

    def reached(self, order: Order) -> bool:
        """Whether skipping `order` reaches the target."""
        return self.settings.reached(self.stack, order)

    def rungs(self) -> list[Candidate]:
        """The best set of every finished level, as far as the target asks."""
        return self.saved.rungs(self.reached)

    def start(self, phase: str, level: int, levels: int) -> None:
        """Level `level` (from 1) of `levels` begins: forecasts what is to come and, if the time is limited, takes as
        many prompts as fit into it."""
        self.run.phase, self.run.level, self.run.levels = phase, level, levels
        skip = range(level, levels + 1) if phase == "skip" else ()
        reuse = range(levels if phase == "skip" else level, 0, -1) if self.settings.reuse else ()
        self.forecast.expect([*(("skip", n) for n in skip), *(("re-use", n) for n in reuse)])
        if self.deadline is not None:
            self.run.warm_up()
            seconds = PLANNED * (self.deadline - time.monotonic())
            rows = prompts_in_time(self.run.rows, seconds, self.forecast.seconds_left)
            self.run.limit(rows if self.objective.ranks is None else self.objective.ranks.agreed(rows))

    def level_done(self, beams: Sequence[Candidate]) -> None:
        """Reports a finished level, which has kept `beams`; progress reports mention them from now on."""
        best, run = beams[0], self.run
        run.beams = tuple(Beam(candidate.order, candidate.discrepancy.value) for candidate in beams)
        run.best, run.bytes_saved = best.discrepancy.value, sum(self.stack.subblocks[i].bytes for i in best.order)
        sparsity = self.stack.sparsity(best.order)
        self.objective.report(LevelDone(len(best.order), sparsity, run.best, run.bytes_saved, run.beams))


def drifted(gaps: dict[Key, Estimate], smaller: Candidate, larger: Candidate) -> dict[Key, Estimate]:
    """Relative gaps estimated for one of the two sets, as prior estimates for the other."""
    low, high = smaller.discrepancy.value, larger.discrepancy.value
    return widened(gaps, high / low - 1 if low else 0.0)


def _fingerprint(objective: Objective, settings: Settings) -> str:
    """A digest of all that a search depends on. The target is not in it, so that a longer search goes on from a shorter
    one, unless the time is limited: then it decides how many prompts are used."""
    timed = [settings.minutes, settings.sparsity, settings.bytes_saved, settings.reuse] if settings.minutes else []
    seed = settings.seed if settings.mode == "fast" or timed else 0
    products = str(objective.narrow) if settings.mode == "fast" else "wide"
    # Dead sub-blocks go first since "skip-7": only where there are some a search is another one.
    dead = [list(objective.dead)] if objective.dead else []
    return digest_json([objective.identity, settings.beam, settings.mode, seed, timed, products, "skip-7", *dead])
