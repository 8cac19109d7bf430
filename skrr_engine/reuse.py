"""The Re-use phase: Algorithm 2, both neighbours of a place against going without in one choice."""

from .beam import Choose
from .discrepancy import Discrepancy
from .exact import choose_exactly
from .execute import assign
from .objective import Objective, Tally
from .reference import neighbours
from .run import Run

__all__ = ["find_reuse", "reuse_for"]


def reuse_for(
    run: Run, order: tuple[int, ...], choose: Choose = choose_exactly
) -> tuple[dict[int, int], Discrepancy]:
    """place -> source for the skipped sub-blocks `order`, and the discrepancy with them, measured whole.

    Places are taken in the order given (the order of removal). Decisions as in `reference.algorithm_2`, to which tests
    hold this: of equal ones no re-use goes before the left neighbour, and left before right.
    """
    count = len(run.objective.stack.subblocks)
    reuse: dict[int, int] = {}
    current = Tally(run.objective, assign(count, order))
    for place in order:
        near = neighbours(place, set(order), count)
        trials = [Tally(run.objective, assign(count, order, {**reuse, place: source})) for source in near]
        (best,) = choose(run, [current, *trials], 1)
        if best is not current:
            reuse[place], current = near[trials.index(best)], best
    (current,) = run.finalists([current])
    run.measure_null([current])
    run.measure([current], run.order)
    return reuse, run.found(current)


def find_reuse(
    objective: Objective, order: tuple[int, ...], skipped: Discrepancy | None = None
) -> tuple[dict[int, int], Discrepancy]:
    """`reuse_for`, exactly, on an objective alone. `skipped`, the discrepancy without re-use, is measured anew."""
    return reuse_for(Run(objective), order)
