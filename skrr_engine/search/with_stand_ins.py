"""A search that knows of corrections: candidates are compared with a stand-in at every skipped place.

Greedy, one sub-block a level, by the rise of D per parameter: what counts in the end is D at a size, and an attention
is half a feed-forward. A level measures only the candidates that looked best when they were last measured; what a
candidate costs changes slowly from level to level, so the others would hardly win. Ends with a polish: kept and skipped
sub-blocks of one kind change places as long as D falls.

The sets are ruinous without corrections: what is found is to be fitted (`corrections/fit`), with bridges at the gaps.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from ..errors import SkrrError
from ..events import LevelDone, Phase
from ..measure.execute import Correction, assign
from ..measure.objective import Objective
from ..measure.sweep import measure_many
from .candidate import Order

__all__ = ["Level", "polish", "search_with_stand_ins"]

# Candidates a level measures, best guess first.
SHORTLIST = 12


@dataclass(frozen=True)
class Level:
    """The sub-blocks skipped so far in the order of removal, the sparsity that this is, and D with the stand-ins."""

    order: Order
    sparsity: float
    discrepancy: float


def search_with_stand_ins(
    objective: Objective, stand_ins: Mapping[int, Correction], sparsity: float, shortlist: int = SHORTLIST
) -> list[Level]:
    """The levels up to the first that reaches `sparsity` (0 to 1). Dead sub-blocks go first and free. Reports a Phase
    "skip" and a LevelDone a level."""
    stack, count = objective.stack, len(objective.stack.subblocks)
    most = stack.sparsity(range(count))
    if not 0 < sparsity <= most:
        raise SkrrError(f"The sparsity is {sparsity}; expected more than 0 and at most {most:.4f}, every sub-block.")
    objective.report(Phase("skip", count * shortlist))
    order: Order = ()
    value, levels = 0.0, []
    cost: dict[int, float] = {}
    while stack.sparsity(order) < sparsity:
        left = [i for i in range(count) if i not in order]
        dead = [i for i in left if i in objective.dead]
        # What is not measured yet comes first: on the first level that is everything.
        tried = dead[:1] or sorted(left, key=lambda i: cost.get(i, -1.0))[: shortlist if cost else None]
        found = _measured(objective, stand_ins, {i: (*order, i) for i in tried})
        cost |= {i: (one - value) / stack.subblocks[i].parameters for i, one in found.items()}
        best = min(tried, key=lambda i: (cost[i], i))
        order, value = (*order, best), found[best]
        levels.append(Level(order, stack.sparsity(order), value))
        saved = sum(stack.subblocks[i].bytes for i in order)
        objective.report(LevelDone(len(order), levels[-1].sparsity, value, saved))
    return levels


def polish(objective: Objective, stand_ins: Mapping[int, Correction], level: Level, rounds: int = 2) -> Level:
    """`level` after up to `rounds` rounds of exchanges: each skipped sub-block in turn, the last first, for the kept
    one of its kind that lowers D most, if any does. The size stays as it is."""
    stack, order, value = objective.stack, list(level.order), level.discrepancy
    for _ in range(rounds):
        changed = False
        for out in reversed(tuple(order)):
            rest = [i for i in order if i != out]
            others = [i for i in range(out % 2, len(stack.subblocks), 2) if i not in order and i not in objective.dead]
            found = _measured(objective, stand_ins, {i: (*rest, i) for i in others})
            best = min(found, key=lambda i: (found[i], i), default=None)
            if best is not None and found[best] < value:
                order, value, changed = [*rest, best], found[best], True
        if not changed:
            break
    return Level(tuple(order), stack.sparsity(order), value)


def _measured(objective: Objective, stand_ins: Mapping[int, Correction], orders: Mapping[int, Order]) -> dict:
    """key -> D of the set with its stand-ins."""
    count = len(objective.stack.subblocks)
    made = {
        key: assign(count, order, None, {i: stand_ins[i] for i in order if i in stand_ins})
        for key, order in orders.items()
    }
    found = measure_many(objective, made.values())
    return {key: found[one].value for key, one in made.items()}
