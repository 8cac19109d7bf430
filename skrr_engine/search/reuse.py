"""The Re-use phase: Algorithm 2, both neighbours of a place against going without in one choice."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple

import torch

from ..measure.discrepancy import Discrepancy
from ..measure.execute import assign
from ..measure.objective import Objective
from ..running.prior import Guess
from ..running.run import Run
from ..running.trial import Trial
from .beam import Choose
from .exact import choose_exactly
from .incumbent import Standing
from .reference import neighbours

__all__ = ["Pair", "Reuse", "find_reuse", "reuse_for"]

Pair = tuple[int, int]  # place, source


class Reuse(NamedTuple):
    """What `reuse_for` has found: place -> source, the discrepancy with it, and by which part of D each pair was found
    worse than going without."""

    pairs: dict[int, int]
    discrepancy: Discrepancy
    parts: dict[Pair, Guess]


def reuse_for(
    run: Run,
    order: tuple[int, ...],
    choose: Choose = choose_exactly,
    errors: torch.Tensor | None = None,
    parts: Mapping[Pair, Guess] = MappingProxyType({}),
) -> Reuse:
    """The pairs for the skipped sub-blocks `order`, and the discrepancy with them, measured whole.

    Places are taken in the order given (the order of removal). Decisions as in `reference.algorithm_2`, to which tests
    hold this: of equal ones no re-use goes before the left neighbour, and left before right. `errors`, where they are
    known, are what the set without re-use was measured at (`Tally.errors`); it is not measured again. `parts` is
    what to expect of pairs, of as many as something is known of (`outlook.later`). Where nothing reads the place,
    nothing is tried.
    """
    count = len(run.objective.stack.subblocks)
    reuse: dict[int, int] = {}
    found: dict[Pair, Guess] = {}
    standing = Standing(run, assign(count, order), errors)
    for place in order:
        if place in run.objective.dead:
            continue
        trials = {
            (place, source): Trial(run.objective, assign(count, order, {**reuse, place: source}))
            for source in neighbours(place, set(order), count)
        }
        better, told = standing.challenged(trials, choose, parts)
        found |= told
        reuse |= [better] if better else []
    return Reuse(reuse, standing.discrepancy, found)


def find_reuse(objective: Objective, order: tuple[int, ...]) -> tuple[dict[int, int], Discrepancy]:
    """The pairs and the discrepancy of `reuse_for`, exactly, on an objective alone."""
    return reuse_for(Run(objective), order)[:2]
