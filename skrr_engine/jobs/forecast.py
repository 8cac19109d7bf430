"""How long the rest of a search will take, and on how many prompts it fits into a given time.

The work of a level is predicted from its number of candidates and from how many prompts a candidate sees on average;
how far that was off on the levels behind corrects those ahead. Time is work by the rate of this run.
"""

from ..running.run import Run
from ..search.racing import FIRST

__all__ = ["Forecast"]

# Chosen to fit the trained small encoder. Of the prompts that the candidates of an exact level would see: those that
# they do see, more by the part of the sub-blocks that is gone, for then sets lie closer. Re-use has close sets
# throughout.
EXACT_SHARE = {"skip": 0.45, "re-use": 0.9}
# Of the places: those that streams do not share.
UNSHARED = {"skip": 0.5, "re-use": 0.7}
# Trials of a place. Of the prompts, those that a trial of the fast mode sees on the largest level; on smaller ones most
# trials are known to be hopeless, and fewer by the square of the size are made.
TRIALS, FAST_SHARE = 2, 0.2
# A chunk of a race leaves one candidate in so many.
RACE_CUT = 2
# A level under way takes at least this part of its prediction more.
AT_LEAST = 0.05


class Forecast:
    """Predicts for one search that keeps `beam` sets, fast or exact."""

    def __init__(self, run: Run, beam: int | None, fast: bool):
        self.run, self.fast = run, fast
        self.count = len(run.objective.stack.subblocks)
        self.beam = self.count if beam is None else beam
        self.row_tokens = run.objective.tokens / (run.rows + run.null_rows)
        self.done = {"skip": [0.0, 0.0], "re-use": [0.0, 0.0]}
        self.ahead: list[tuple[str, int]] = []
        self.started_at = self.largest = 0

    def expect(self, ahead: list[tuple[str, int]]) -> None:
        """What is still to come: (phase, sub-blocks skipped), in order; the first one begins now."""
        self.ahead, self.started_at = ahead, self.run.work
        self.largest = max([self.largest, *(size for _, size in ahead)])

    def finished(self) -> None:
        """The first piece of what was ahead is done: learns from it."""
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
        """By how much more this phase takes than was predicted. Before its first piece is done: as the other one in an
        exact search, where how close sets lie decides about both; as predicted in a fast one."""
        known = [self.done[phase]] if self.fast else [self.done[phase], *self.done.values()]
        return next((actual / predicted for actual, predicted in known if predicted), 1.0)

    def _predicted(self, phase: str, size: int, rows: int) -> float:
        """`size` sub-blocks are skipped by the candidates of this level."""
        if phase == "skip":
            candidates = (self.beam if size > 1 else 1) * (self.count - size + 1)
            share = min(1.0, EXACT_SHARE[phase] + size / self.count)
            seen = candidates * self._seen(rows, candidates, self.beam, share) * UNSHARED[phase] + rows
            if self.fast and size > 1:  # the look back
                seen += size * self._seen(rows, size, 1, share) * UNSHARED[phase]
        else:
            share = FAST_SHARE * (size / self.largest) ** 2 if self.fast else EXACT_SHARE[phase]
            seen = TRIALS * size * share * rows * UNSHARED[phase] + (0 if self.fast else rows)
        return seen * (self.count - size) * self.row_tokens

    def _seen(self, rows: int, candidates: int, keep: int, share: float) -> float:
        """Prompts that a candidate of a level sees on average, in an exact search `share` of them."""
        if not self.fast:
            return share * rows
        total, seen, left = 0.0, 0, float(candidates)
        while seen < rows and left > keep:
            chunk = min(seen or FIRST, rows - seen)
            total, seen, left = total + left * chunk, seen + chunk, left / RACE_CUT
        return total / candidates
