"""The Re-use phase: Algorithm 2, both neighbours of a place against going without in one choice."""

import torch

from .beam import Choose
from .discrepancy import Discrepancy
from .exact import choose_exactly
from .execute import assign
from .objective import Objective, Tally
from .reference import neighbours
from .run import Run

__all__ = ["find_reuse", "reuse_for"]


def reuse_for(
    run: Run, order: tuple[int, ...], choose: Choose = choose_exactly, errors: torch.Tensor | None = None
) -> tuple[dict[int, int], Discrepancy]:
    """place -> source for the skipped sub-blocks `order`, and the discrepancy with them, measured whole.

    Places are taken in the order given (the order of removal). Decisions as in `reference.algorithm_2`, to which tests
    hold this: of equal ones no re-use goes before the left neighbour, and left before right. `errors`, where they are
    known, are what the set without re-use was measured at (`Tally.errors`); it is not measured again.
    """
    count = len(run.objective.stack.subblocks)
    reuse: dict[int, int] = {}
    skipped = Tally(run.objective, assign(count, order))
    if errors is not None:
        skipped.recall(errors, run.order)
        skipped.final = True
    # `current` is compared with trials, in the products in which those are measured; `accepted` is it in float32.
    current = Tally(run.objective, skipped.assignment) if run.narrow else skipped
    accepted = _whole(run, skipped)
    for place in order:
        near = neighbours(place, set(order), count)
        trials = [Tally(run.objective, assign(count, order, {**reuse, place: source})) for source in near]
        (best,) = choose(run, [current, *trials], 1)
        if best is current:
            continue
        # A race may be wrong about the best of three by more than re-use gains.
        whole = _whole(run, best)
        if run.found(whole).value < run.found(accepted).value:
            reuse[place], current, accepted = near[trials.index(best)], best, whole
    return reuse, run.found(accepted)


def _whole(run: Run, tally: Tally) -> Tally:
    """`tally`, or a new one in float32, measured whole."""
    (final,) = run.finalists([tally])
    run.measure_null([final])
    run.measure([final], run.order)
    return final


def find_reuse(
    objective: Objective, order: tuple[int, ...], skipped: Discrepancy | None = None
) -> tuple[dict[int, int], Discrepancy]:
    """`reuse_for`, exactly, on an objective alone. `skipped`, the discrepancy without re-use, is measured anew."""
    return reuse_for(Run(objective), order)
