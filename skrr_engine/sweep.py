"""Many assignments in one go: whatever places two of them share from the start is computed once.

For each batch the assignments form a trie over their places, walked depth first. Every stream sees the same
operations in the same order as in `Objective.measure`, so results are equal bit for bit.
"""

from collections.abc import Iterable

from .discrepancy import Discrepancy
from .events import Step
from .execute import Assignment, advance
from .objective import Objective, Tally
from .stack import TokenBatch

__all__ = ["measure_many"]


def measure_many(objective: Objective, assignments: Iterable[Assignment]) -> dict[Assignment, Discrepancy]:
    """The discrepancy of every distinct assignment. Reports a Step for each assignment and batch."""
    tallies = {assignment: Tally(objective) for assignment in assignments}
    if not tallies:
        return {}
    rows = sum(len(batch.row_ids) for batch in objective.batches)
    for batch in objective.batches:
        hidden, context = objective.stack.embed(batch)
        _Walk(objective, batch, context, tallies, len(batch.row_ids) / rows).go(0, list(tallies), hidden, {})
    return {assignment: tally.total() for assignment, tally in tallies.items()}


class _Walk:
    """One batch's trie."""

    def __init__(self, objective: Objective, batch: TokenBatch, context, tallies: dict, share: float):
        self.objective, self.batch, self.context = objective, batch, context
        self.tallies, self.share = tallies, share

    def go(self, place: int, group: list[Assignment], hidden, states: dict) -> None:
        """Finishes every assignment of `group`; they agree before `place`, where `hidden` is their stream."""
        stack = self.objective.stack
        while True:
            states = states | {name: hidden for name, at in stack.taps.items() if at == place}
            if place == len(stack.subblocks):
                (assignment,) = group
                self.tallies[assignment].add(self.batch, stack.finish(states, self.context))
                self.objective.report(Step(self.share))
                return
            branches: dict[int | None, list[Assignment]] = {}
            for assignment in group:
                branches.setdefault(assignment[place], []).append(assignment)
            # The largest branch goes last and in this loop, so that `hidden` is freed before it runs on:
            # else a level (one branch at every place) would keep a stream for every place alive.
            *side, (source, group) = sorted(branches.items(), key=lambda branch: len(branch[1]))
            place += 1
            for other, members in side:
                self.go(place, members, self._step(other, hidden), states)
            hidden = self._step(source, hidden)

    def _step(self, source: int | None, hidden):
        if source is not None:
            self.objective.applications += len(self.batch.row_ids) * self.batch.length
        return advance(self.objective.stack, source, hidden, self.context, self.objective.report)
