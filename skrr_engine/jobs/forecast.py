"""How long the rest of a search will take, and on how many prompts it fits into a given time.

The work of a level is predicted from its number of candidates and the mean number of prompts that a candidate sees; the
ratio of actual to predicted work on finished levels corrects the levels ahead. Time is work by the rate of this run.
"""

from ..running.run import Run
from ..search.racing import FIRST

__all__ = ["Forecast"]

# All shares are fitted to the trained small encoder. Share of the prompts that a candidate of an exact level sees. In
# Skip the share of skipped sub-blocks is added, because sets get closer to each other; in Re-use they always are.
EXACT_SHARE = {"skip": 0.45, "re-use": 0.9}
# Share of a candidate's places that its stream does not share with others.
UNSHARED = {"skip": 0.5, "re-use": 0.7}
# Trials of a place, and the share of the prompts that a trial sees on the largest level of the fast mode. On smaller
# levels priors rule most trials out: the share goes with the square of the size.
TRIALS, FAST_SHARE = 2, 0.2
# After a chunk of a race one in this many candidates goes on.
RACE_CUT = 2
# The level under way takes at least this share of its prediction from now on.
AT_LEAST = 0.05


class Forecast:
    """Predicts for one search that keeps `beam` sets, fast or exact."""

    def __init__(self, run: Run, beam: int | None, fast: bool):
        self.run, self.fast = run, fast
        # What nothing reads goes first: behind those levels only the others count.
        self.dead = len(run.objective.dead)
        self.live = len(run.objective.stack.subblocks) - self.dead
        self.beam = self.live + self.dead if beam is None else beam
        self.row_tokens = run.objective.tokens / (run.rows + run.null_rows)
        self.done = {"skip": [0.0, 0.0], "re-use": [0.0, 0.0]}
        self.ahead: list[tuple[str, int]] = []
        self.started_at = self.largest = 0

    def expect(self, ahead: list[tuple[str, int]]) -> None:
        """What is still to come: (phase, sub-blocks skipped), in order; the first one begins now."""
        self.ahead, self.started_at = ahead, self.run.work
        self.largest = max([self.largest, *(size for _, size in ahead)])

    def finished(self) -> None:
        """The first piece of what was ahead is done: its work corrects later predictions."""
        phase, size = self.ahead.pop(0)
        actual, predicted = self.run.work - self.started_at, self._predicted(phase, size, len(self.run.order))
        if actual:
            before = self.done[phase]
            self.done[phase] = [before[0] + actual, before[1] + predicted]
        self.started_at = self.run.work

    def work_left(self, rows: int | None = None) -> float:
        """Applications still to do, were all of it done on `rows` prompts (None: as it is now)."""
        rows = len(self.run.order) if rows is None else rows
        parts = [self._predicted(phase, size, rows) * self._correction(phase) for phase, size in self.ahead]
        if parts:
            parts[0] = max(parts[0] - (self.run.work - self.started_at), AT_LEAST * parts[0])
        return sum(parts)

    def seconds_left(self, rows: int | None = None) -> float | None:
        """Seconds for `work_left`; None as long as nothing has been measured."""
        if not self.run.work or not self.run.seconds:
            return None
        return self.work_left(rows) * self.run.seconds / self.run.work

    def _correction(self, phase: str) -> float:
        """Actual over predicted work of this phase. Before its first piece is done: that of the other phase in an exact
        search, where both depend on how close sets are to each other, and 1 in a fast one."""
        known = [self.done[phase]] if self.fast else [self.done[phase], *self.done.values()]
        return next((actual / predicted for actual, predicted in known if predicted), 1.0)

    def _predicted(self, phase: str, size: int, rows: int) -> float:
        """The work of a level whose candidates skip `size` sub-blocks."""
        if size <= self.dead:
            return self._of_dead(size) * rows * self.row_tokens if phase == "skip" else 0.0  # nothing is re-used there
        size -= self.dead
        if phase == "skip":
            candidates = (self.beam if size > 1 else 1) * (self.live - size + 1)
            share = min(1.0, EXACT_SHARE[phase] + size / self.live)
            seen = candidates * self._seen(rows, candidates, self.beam, share) * UNSHARED[phase] + rows
            if self.fast and size > 1:  # the look back
                seen += size * self._seen(rows, size, 1, share) * UNSHARED[phase]
        else:
            share = FAST_SHARE * (size / (self.largest - self.dead)) ** 2 if self.fast else EXACT_SHARE[phase]
            seen = TRIALS * size * share * rows * UNSHARED[phase] + (0 if self.fast else rows)
        return seen * (self.live - size) * self.row_tokens

    def _of_dead(self, size: int) -> float:
        """Sub-blocks run for a prompt on a level whose candidates skip `size` dead ones. They are one stream up to what
        is read, and differ behind it."""
        behind = self.dead - size
        run = self.live + (self.beam if size > 1 else 1) * (behind + 1) * behind * UNSHARED["skip"]
        if self.fast and size > 1:  # the look back
            run += self.live + size * (behind + 1) * UNSHARED["skip"]
        return run

    def _seen(self, rows: int, candidates: int, keep: int, share: float) -> float:
        """Prompts that a candidate of a level sees on average, in an exact search `share` of them."""
        if not self.fast:
            return share * rows
        total, seen, left = 0.0, 0, float(candidates)
        while seen < rows and left > keep:
            chunk = min(seen or FIRST, rows - seen)
            total, seen, left = total + left * chunk, seen + chunk, left / RACE_CUT
        return total / candidates
