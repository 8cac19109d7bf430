"""The Skip search: Algorithm 1, level by level so that it can stop and resume."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch

from ..measure.discrepancy import Discrepancy
from ..measure.execute import assign
from ..measure.objective import Objective
from ..running.prior import Outlook, look_ahead
from ..running.run import Run
from ..running.trial import Trial
from .exact import choose_exactly

__all__ = ["Candidate", "Choose", "next_level"]

# How the best of a level are told: the run, all candidates, how many to keep (None: all) -> those, best first.
Choose = Callable[[Run, Sequence[Trial], int | None], list[Trial]]


@dataclass(frozen=True)
class Candidate:
    """A set of skipped sub-blocks in the order in which it was found, and its discrepancy; of a level's best one also
    what it was summed from (`Tally.errors`). `outlook` is what a race has found out about the next level."""

    order: tuple[int, ...]
    discrepancy: Discrepancy
    errors: torch.Tensor | None = field(default=None, compare=False)
    outlook: Outlook | None = field(default=None, compare=False)


def next_level(
    run: Run, beams: list[Candidate], beam: int | None, choose: Choose = choose_exactly
) -> list[Candidate]:
    """The best `beam` sets (None: all) that are one sub-block larger than those of `beams`, best first.

    `beams` empty means the dense encoder. Each set is measured once, however many beams lead to it; the best one is
    measured whole, the others as far as `choose` needs to tell them apart. Sub-blocks that nothing reads go first, and
    no other is measured as long as there are any: they are free.
    """
    count = len(run.objective.stack.subblocks)
    dead = run.objective.dead
    orders: dict[frozenset, tuple[int, ...]] = {}
    for parent in [candidate.order for candidate in beams] or [()]:
        left = [i for i in range(count) if i not in parent]
        for i in [i for i in left if i in dead] or left:
            orders.setdefault(frozenset((*parent, i)), (*parent, i))
    # Of equal ones `choose` takes the first listed: fewer bytes kept, then the lexicographically first set.
    listed = sorted(orders.values(), key=lambda order: (-_removed(run.objective, order), sorted(order)))
    tallies = {order: Trial(run.objective, assign(count, order)) for order in listed}
    found = {tally.assignment: order for order, tally in tallies.items()}
    parents = {candidate.order: candidate for candidate in beams}
    for order, tally in tallies.items():
        if beams and (outlook := parents[order[:-1]].outlook):
            tally.expected = outlook.of(order[-1])
    run.hard = None if not beams or beams[0].errors is None else beams[0].errors[0, :-2]
    best = choose(run, list(tallies.values()), beam)
    best[:1] = run.finalists(best[:1])
    run.measure(best[:1], run.order, len(best))
    gaps = {frozenset(order): tally.gap for order, tally in tallies.items()}
    # Of a set that only dead ones were added to, nothing is known about the others.
    whole_families = not any(order[-1] in dead for order in listed)
    before = beams[0].discrepancy.value if beams else 0.0
    kept = []
    for n, tally in enumerate(best):
        order, outlook = found[tally.assignment], None
        if gaps[frozenset(order)] is not None and whole_families:
            parent_gap = _gap(parents[order[:-1]], before) if beams else 0.0
            first = run.found(best[0]).value
            outlook = look_ahead(order, count, lambda some: gaps[frozenset(some)], first, before, parent_gap)
        kept.append(Candidate(order, run.found(tally), None if n else tally.errors(), outlook))
    return kept


def _gap(candidate: Candidate, best: float) -> float:
    """By how much `candidate` is worse than the first of its level, of discrepancy `best`."""
    return candidate.discrepancy.value - best if candidate.outlook is None else candidate.outlook.gap


def _removed(objective: Objective, order: tuple[int, ...]) -> int:
    return sum(objective.stack.subblocks[i].bytes for i in order)
