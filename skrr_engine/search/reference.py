"""Algorithms 1 and 2 of the paper, as published: slow, obvious, and the oracle of the tests.

Every candidate is measured alone from the embedding on. Where the published text is silent or cannot be
meant literally, the decision stands beside the line (numbers: traps listed in docs/design.md, "Algorithms").
"""

from ..measure.discrepancy import Discrepancy
from ..measure.execute import assign
from ..measure.objective import Objective

__all__ = ["algorithm_1", "algorithm_2", "neighbours", "rank_key"]


def rank_key(objective: Objective, order: tuple[int, ...], found: Discrepancy):
    """Sorts candidates: lower D; then fewer bytes kept; then the lexicographically first set. Ties must not
    depend on the order of evaluation (trap 3)."""
    removed = sum(objective.stack.subblocks[i].bytes for i in order)
    return (found.value, -removed, tuple(sorted(order)))


def neighbours(place: int, skipped, count: int) -> tuple[int, ...]:
    """The nearest kept sub-blocks of the same kind left and right of `place`, those that exist.

    Algorithm 2 line 4 reads "nearest not skipped" without regard to kind; section 3.2 says that MHA and FFN
    are re-used as their own types, and the published pairs agree with that alone (trap 9)."""
    left = next((j for j in range(place - 2, -1, -2) if j not in skipped), None)
    right = next((j for j in range(place + 2, count, 2) if j not in skipped), None)
    return tuple(j for j in (left, right) if j is not None)


def algorithm_1(objective: Objective, beam: int | None, levels: int) -> list[tuple[tuple[int, ...], Discrepancy]]:
    """Skip. Returns the best (order, discrepancy) of every level 1 … `levels`; `beam` None keeps all.

    - Line 13 updates B_new and line 14 searches B, which is never assigned: meant is B <- top-k(B_new) (trap 1).
    - The paper returns the last best list and uses its prefixes for smaller sizes. We keep the best set of
      every level, since prefixes of the last are generally worse (trap 2); `levels` bounds the loop, because
      at |S| = L every beam is the same set.
    - S is a list, so [46, 5] and [5, 46] would fill the beam with one set: sets are compared, the order found
      first (from the best beam) is kept for display and for Re-use (trap 3).
    """
    count = len(objective.stack.subblocks)
    beams: list[tuple[int, ...]] = [()]
    best = []
    for _ in range(min(levels, count)):
        found: dict[frozenset, tuple[tuple[int, ...], Discrepancy]] = {}
        for order in beams:
            for i in range(count):
                if i in order or frozenset((*order, i)) in found:
                    continue
                longer = (*order, i)
                found[frozenset(longer)] = (longer, objective.measure(assign(count, longer)))
        ranked = sorted(found.values(), key=lambda item: rank_key(objective, *item))
        beams = [order for order, _ in ranked[:beam]]
        best.append(ranked[0])
    return best


def algorithm_2(objective: Objective, order: tuple[int, ...]) -> tuple[dict[int, int], Discrepancy]:
    """Re-use for the skipped sub-blocks `order`: place -> source, and the discrepancy with them.

    - Places are visited in the order of removal; the paper leaves it open and its tables print ascending,
      but the result depends on it (trap 11).
    - A neighbour that does not exist counts as infinitely bad; with neither, the place stays skipped (trap 9).
    - Lines 10 to 14 re-use nothing when D_l = D_r < D_M. Meant is the smallest of the three: none only where
      neither is lower than D_M, left before right when equal (trap 10).
    - D_M (line 7) is the last accepted value; it is not measured again (trap 12).
    """
    count = len(objective.stack.subblocks)
    reuse: dict[int, int] = {}
    current = objective.measure(assign(count, order))
    for place in order:
        trials = []
        for source in neighbours(place, set(order), count):
            trials.append((source, objective.measure(assign(count, order, {**reuse, place: source}))))
        if trials:
            source, found = min(trials, key=lambda trial: trial[1].value)
            if found.value < current.value:
                reuse[place], current = source, found
    return reuse, current
