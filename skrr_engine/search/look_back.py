"""A look back at the level before: "floating" selection (Pudil, Novovicova, Kittler 1994) by one step.

A beam search can pass by a good set of n sub-blocks and still come to the one of n + 1 that contains it. Leaving out
each sub-block of that one in turn costs n + 1 candidates, which a race mostly drops at once.
"""

from collections.abc import Mapping, Sequence

from ..measure.execute import assign
from ..running.prior import Guess
from ..running.run import Run
from ..running.trial import Trial
from .beam import Candidate, Choose
from .incumbent import Standing

__all__ = ["look_back"]


def look_back(
    run: Run, beams: Sequence[Candidate], best: Candidate, choose: Choose, parts: Mapping[int, Guess]
) -> tuple[Candidate | None, dict[int, Guess]]:
    """The best set that is `best` without one sub-block, if it is better than all of `beams`, which are as large, the
    best of them first; else None. It keeps the order of `best`. And by which part of D the set without each sub-block
    was found worse than that first one; `parts` is what to expect of that."""
    count = len(run.objective.stack.subblocks)
    orders = {out: tuple(i for i in best.order if i != out) for out in best.order}
    known = [set(candidate.order) for candidate in beams]
    orders = {out: order for out, order in orders.items() if set(order) not in known}
    if not orders:
        return None, {}
    standing = Standing(run, assign(count, beams[0].order), beams[0].errors)
    trials = {out: Trial(run.objective, assign(count, order)) for out, order in orders.items()}
    better, found = standing.challenged(trials, choose, parts)
    if better is None:
        return None, found
    return Candidate(orders[better], standing.discrepancy, standing.errors()), found
