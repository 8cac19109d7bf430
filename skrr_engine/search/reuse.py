"""Re-use: Algorithm 2, at each place a choice among no re-use and both neighbours."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple

import torch

from ..measure.discrepancy import Discrepancy
from ..measure.execute import assign
from ..measure.objective import Objective
from ..running.prior import Estimate
from ..running.run import Run
from ..running.trial import Trial
from .candidate import Choose, Order
from .exact import choose_exactly
from .incumbent import Incumbent
from .reference import neighbours

__all__ = ["Pair", "Reuse", "find_reuse", "reuse_for"]

Pair = tuple[int, int]  # place, source


class Reuse(NamedTuple):
    """The result of `reuse_for`: place -> source, the discrepancy with these pairs, and the relative gap of each pair
    to no re-use at its place."""

    pairs: dict[int, int]
    discrepancy: Discrepancy
    gaps: dict[Pair, Estimate]


def reuse_for(
    run: Run,
    order: Order,
    choose: Choose = choose_exactly,
    errors: torch.Tensor | None = None,
    expected: Mapping[Pair, Estimate] = MappingProxyType({}),
) -> Reuse:
    """The pairs for the skipped sub-blocks `order`, and the discrepancy with them, measured on all prompts.

    Places are visited in the order given (the order of removal). Decisions are those of `reference.algorithm_2`, and
    tests compare the two: among equal ones no re-use comes before the left neighbour, and left before right. `errors`
    (`Tally.errors`) are those of the set without re-use, where they are known; it is not measured again then.
    `expected` holds prior estimates of relative gaps, as far as there are any (`prior.widened`). Where nothing reads
    the place, nothing is tried.
    """
    count = len(run.objective.stack.subblocks)
    pairs: dict[int, int] = {}
    gaps: dict[Pair, Estimate] = {}
    incumbent = Incumbent(run, assign(count, order), errors)
    for place in order:
        if place in run.objective.dead:
            continue
        trials = {
            (place, source): Trial(run.objective, assign(count, order, {**pairs, place: source}))
            for source in neighbours(place, set(order), count)
        }
        better, estimated = incumbent.challenge(trials, choose, expected)
        gaps |= estimated
        pairs |= [better] if better else []
    return Reuse(pairs, incumbent.discrepancy, gaps)


def find_reuse(objective: Objective, order: Order) -> tuple[dict[int, int], Discrepancy]:
    """The pairs and the discrepancy of `reuse_for`, exactly, on an objective alone."""
    return reuse_for(Run(objective), order)[:2]
