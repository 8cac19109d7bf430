"""A search that knows of corrections: candidates are compared with a stand-in at every skipped place.

Greedy, one sub-block a level, by the rise of D per parameter: what counts in the end is D at a size, and an attention
is half a feed-forward. A level measures only the candidates that looked best when they were last measured; what a
candidate costs changes slowly from level to level, so the others would hardly win. Ends with a polish: kept and skipped
sub-blocks of one kind change places as long as D falls.

The sets are ruinous without corrections: what is found is to be fitted (`corrections/fit`), with bridges at the gaps.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch

from ..digest import digest_json
from ..errors import SkrrError
from ..events import LevelDone, Phase
from ..measure.execute import Correction, as_json, assign
from ..measure.objective import Objective
from ..measure.sweep import measure_many
from ..precision import SUM
from .candidate import Order

# (what is asked, how it is measured) -> float64 values; a journal answers what it knows (see `Checkpoint.once`).
Ask = Callable[[str, Callable[[], torch.Tensor]], torch.Tensor]

__all__ = ["Level", "polish", "search_with_stand_ins"]

# Candidates a level measures, best guess first.
SHORTLIST = 12


@dataclass(frozen=True)
class Level:
    """The sub-blocks skipped so far in the order of removal, the sparsity that this is, and D with the stand-ins."""

    order: Order
    sparsity: float
    discrepancy: float


def ask_anew(key: str, measure: Callable[[], torch.Tensor]) -> torch.Tensor:
    """Keeps nothing."""
    return measure()


def search_with_stand_ins(
    objective: Objective,
    stand_ins: Mapping[int, Correction],
    sparsity: float,
    shortlist: int = SHORTLIST,
    bytes_saved: int = 0,
    ask: Ask = ask_anew,
) -> list[Level]:
    """The levels up to the first that reaches both `sparsity` (0 to 1) and `bytes_saved`. Dead sub-blocks go first and
    free. All that is measured goes through `ask`. Reports a Phase "skip" and a LevelDone a level."""
    stack, count = objective.stack, len(objective.stack.subblocks)
    most, most_bytes = stack.sparsity(range(count)), sum(block.bytes for block in stack.subblocks)
    if not 0 < sparsity <= most and not (sparsity == 0 and bytes_saved > 0):
        raise SkrrError(f"The sparsity is {sparsity}; expected more than 0 and at most {most:.4f}, every sub-block.")
    if bytes_saved > most_bytes:
        raise SkrrError(f"{bytes_saved} bytes are to be saved; expected at most {most_bytes}, every sub-block.")
    objective.report(Phase("skip", count * shortlist))
    order: Order = ()
    value, levels = 0.0, []
    cost: dict[int, float] = {}
    while stack.sparsity(order) < sparsity or sum(stack.subblocks[i].bytes for i in order) < bytes_saved:
        left = [i for i in range(count) if i not in order]
        dead = [i for i in left if i in objective.dead]
        # What is not measured yet comes first: on the first level that is everything.
        tried = dead[:1] or sorted(left, key=lambda i: cost.get(i, -1.0))[: shortlist if cost else None]
        found = _measured(objective, stand_ins, {i: (*order, i) for i in tried}, ask)
        cost |= {i: (one - value) / stack.subblocks[i].parameters for i, one in found.items()}
        best = min(tried, key=lambda i: (cost[i], i))
        order, value = (*order, best), found[best]
        levels.append(Level(order, stack.sparsity(order), value))
        saved = sum(stack.subblocks[i].bytes for i in order)
        objective.report(LevelDone(len(order), levels[-1].sparsity, value, saved))
    return levels


def polish(
    objective: Objective,
    stand_ins: Mapping[int, Correction],
    level: Level,
    rounds: int = 2,
    ask: Ask = ask_anew,
) -> Level:
    """`level` after up to `rounds` rounds of exchanges: each skipped sub-block in turn, the last first, for the kept
    one of its kind that lowers D most, if any does. The size stays as it is. `ask` as above."""
    stack, order, value = objective.stack, list(level.order), level.discrepancy
    for _ in range(rounds):
        changed = False
        for out in reversed(tuple(order)):
            rest = [i for i in order if i != out]
            others = [i for i in range(out % 2, len(stack.subblocks), 2) if i not in order and i not in objective.dead]
            found = _measured(objective, stand_ins, {i: (*rest, i) for i in others}, ask)
            best = min(found, key=lambda i: (found[i], i), default=None)
            if best is not None and found[best] < value:
                order, value, changed = [*rest, best], found[best], True
        if not changed:
            break
    return Level(tuple(order), stack.sparsity(order), value)


def _measured(
    objective: Objective, stand_ins: Mapping[int, Correction], orders: Mapping[int, Order], ask: Ask
) -> dict[int, float]:
    """key -> D of the set with its stand-ins."""
    count = len(objective.stack.subblocks)
    made = {
        key: assign(count, order, None, {i: stand_ins[i] for i in order if i in stand_ins})
        for key, order in orders.items()
    }

    def measure() -> torch.Tensor:
        found = measure_many(objective, made.values())
        return torch.tensor([found[one].value for one in made.values()], dtype=SUM)

    values = ask(digest_json([as_json(one) for one in made.values()])[:32], measure).tolist() if made else []
    return dict(zip(made, values, strict=True))
