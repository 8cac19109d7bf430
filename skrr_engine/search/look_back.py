"""A look back at the level before: one step of "floating" selection (Pudil, Novovicova, Kittler 1994).

A beam search can miss a good set of n sub-blocks and still find the set of n + 1 that contains it. Leaving out each
sub-block of the larger set in turn costs n + 1 candidates, most of which a race gives up at once.
"""

from collections.abc import Mapping, Sequence

from ..measure.execute import assign
from ..running.prior import Estimate
from ..running.run import Run
from ..running.trial import Trial
from .candidate import Candidate, Choose
from .incumbent import Incumbent

__all__ = ["look_back"]


def look_back(
    run: Run, beams: Sequence[Candidate], best: Candidate, choose: Choose, expected: Mapping[int, Estimate]
) -> tuple[Candidate | None, dict[int, Estimate]]:
    """The best set that is `best` without one sub-block, in the order of `best`, if it is better than the first of
    `beams`, which are the kept sets of that size, best first; else None. And the relative gap of the set without each
    sub-block to that first one; `expected` holds prior estimates of these gaps."""
    count = len(run.objective.stack.subblocks)
    orders = {out: tuple(i for i in best.order if i != out) for out in best.order}
    known = [set(candidate.order) for candidate in beams]
    orders = {out: order for out, order in orders.items() if set(order) not in known}
    if not orders:
        return None, {}
    incumbent = Incumbent(run, assign(count, beams[0].order), beams[0].errors)
    trials = {out: Trial(run.objective, assign(count, order)) for out, order in orders.items()}
    better, gaps = incumbent.challenge(trials, choose, expected)
    if better is None:
        return None, gaps
    return Candidate(orders[better], incumbent.discrepancy, incumbent.errors()), gaps
