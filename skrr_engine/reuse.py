"""The Re-use phase: Algorithm 2, both neighbours of a place in one sweep. 2 measurements a place at most."""

from .discrepancy import Discrepancy
from .execute import assign
from .objective import Objective
from .reference import neighbours
from .sweep import measure_many

__all__ = ["find_reuse"]


def find_reuse(
    objective: Objective, order: tuple[int, ...], skipped: Discrepancy | None = None
) -> tuple[dict[int, int], Discrepancy]:
    """place -> source for the skipped sub-blocks `order`, and the discrepancy with them.

    Places are taken in the order given (the order of removal). `skipped` is the discrepancy without re-use if
    it is known already. Decisions as in `reference.algorithm_2`, to which tests hold this.
    """
    count = len(objective.stack.subblocks)
    if skipped is None:
        (skipped,) = measure_many(objective, [assign(count, order)]).values()
    reuse: dict[int, int] = {}
    current = skipped
    for place in order:
        near = neighbours(place, set(order), count)
        trials = {source: assign(count, order, {**reuse, place: source}) for source in near}
        found = measure_many(objective, trials.values())
        best = min(trials, key=lambda source: found[trials[source]].value, default=None)
        if best is not None and found[trials[best]].value < current.value:
            reuse[place], current = best, found[trials[best]]
    return reuse, current
