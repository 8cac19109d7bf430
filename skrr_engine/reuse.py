"""The Re-use phase: Algorithm 2, both neighbours of a place against going without in one choice."""

from collections.abc import Container
from typing import NamedTuple

import torch

from .beam import Choose
from .discrepancy import Discrepancy
from .exact import choose_exactly
from .execute import assign
from .objective import Objective, Tally
from .reference import neighbours
from .run import Run
from .standing import Standing

__all__ = ["Pair", "Reuse", "find_reuse", "reuse_for"]

# A trial is clearly worse than going without by this part of D.
CLEARLY = 0.01

Pair = tuple[int, int]  # place, source


class Reuse(NamedTuple):
    """What `reuse_for` has found: place -> source, the discrepancy with it, and the pairs that were clearly worse than
    going without, as far as they were measured."""

    pairs: dict[int, int]
    discrepancy: Discrepancy
    refused: list[Pair]


def reuse_for(
    run: Run,
    order: tuple[int, ...],
    choose: Choose = choose_exactly,
    errors: torch.Tensor | None = None,
    hopeless: Container[Pair] = (),
) -> Reuse:
    """The pairs for the skipped sub-blocks `order`, and the discrepancy with them, measured whole.

    Places are taken in the order given (the order of removal). Decisions as in `reference.algorithm_2`, to which tests
    hold this: of equal ones no re-use goes before the left neighbour, and left before right. `errors`, where they are
    known, are what the set without re-use was measured at (`Tally.errors`); it is not measured again. Pairs that are
    `hopeless` are not tried.
    """
    count = len(run.objective.stack.subblocks)
    reuse: dict[int, int] = {}
    refused: list[Pair] = []
    standing = Standing(run, assign(count, order), errors)
    for place in order:
        trials = {}
        for source in neighbours(place, set(order), count):
            trial = Tally(run.objective, assign(count, order, {**reuse, place: source}))
            if (place, source) in hopeless:
                run.give_up(trial)
            else:
                trials[source] = trial
        better = standing.challenged(list(trials.values()), choose) if trials else None
        for source, trial in trials.items():
            if trial is better:
                reuse[place] = source
            elif better is None and _clearly_worse(run, trial, standing.tally):
                refused.append((place, source))
    return Reuse(reuse, standing.discrepancy, refused)


def _clearly_worse(run: Run, trial: Tally, current: Tally) -> bool:
    """By the rows that `trial` has seen, all of which `current` has; even were it better by a standard error."""
    rows = trial.seen.nonzero().flatten().tolist()
    least = run.value(trial, rows) - run.scatter(trial, current, rows)
    return least > (1 + CLEARLY) * run.value(current, rows)


def find_reuse(objective: Objective, order: tuple[int, ...]) -> tuple[dict[int, int], Discrepancy]:
    """The pairs and the discrepancy of `reuse_for`, exactly, on an objective alone."""
    return reuse_for(Run(objective), order)[:2]
