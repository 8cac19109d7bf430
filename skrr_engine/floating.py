"""A look back at the level before: "floating" selection (Pudil, Novovicova, Kittler 1994) by one step.

A beam search can pass by a good set of n sub-blocks and still come to the one of n + 1 that contains it. Leaving out
each sub-block of that one in turn costs n + 1 candidates, which a race mostly drops at once.
"""

from collections.abc import Sequence

from .beam import Candidate, Choose
from .execute import assign
from .objective import Tally
from .run import Run
from .standing import Standing

__all__ = ["look_back"]


def look_back(run: Run, beams: Sequence[Candidate], best: Candidate, choose: Choose) -> Candidate | None:
    """The best set that is `best` without one sub-block, if it is better than all of `beams`, which are as large, the
    best of them first; else None. It keeps the order of `best`."""
    count = len(run.objective.stack.subblocks)
    orders = [tuple(i for i in best.order if i != out) for out in best.order]
    known = [set(candidate.order) for candidate in beams]
    parts = {assign(count, order): order for order in orders if set(order) not in known}
    if not parts:
        return None
    standing = Standing(run, assign(count, beams[0].order), beams[0].errors)
    better = standing.challenged([Tally(run.objective, assignment) for assignment in parts], choose)
    return better and Candidate(parts[better.assignment], standing.discrepancy, standing.errors())
