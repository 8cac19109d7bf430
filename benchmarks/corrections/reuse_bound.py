"""The paper's condition for Re-use beside what Re-use does: a diagnostic, never part of a search.

Theorem 3.2 bounds the error of a pruned transformer with Re-use below that without where the re-used parameters are
nearer to the removed ones than zero is: |θ_i - θ_j| < |θ_i|.
"""

import torch

from skrr_engine.encoders.stack import SubBlock, TextStack
from skrr_engine.measure.execute import assign
from skrr_engine.measure.objective import Objective
from skrr_engine.measure.sweep import measure_many
from skrr_engine.search.reference import neighbours

__all__ = ["reuse_bound"]


def reuse_bound(objective: Objective, order: list[int]) -> dict:
    """{"plain": D of the set `order`, "pairs": [[place, source, |θ_place - θ_source| / |θ_place|, D with this pair
    alone], …]}, for every removed place and each of its kept neighbours."""
    stack, count = objective.stack, len(objective.stack.subblocks)
    pairs = [(place, source) for place in sorted(order) for source in neighbours(place, set(order), count)]
    plain = assign(count, order)
    tried = {pair: assign(count, order, dict([pair])) for pair in pairs}
    found = measure_many(objective, [plain, *tried.values()])
    rows = [[*pair, _distance(stack, *pair), found[one].value] for pair, one in tried.items()]
    return {"plain": found[plain].value, "pairs": rows}


def _distance(stack: TextStack, place: int, source: int) -> float:
    """|θ_place - θ_source| / |θ_place|, in float64, over what both have: T5's first attention also holds the table of
    positions, which stays whatever runs there."""
    own, other = (_parameters(stack.subblocks[i]) for i in (place, source))
    own, other = (torch.cat([one[name].double().flatten() for name in own if name in other]) for one in (own, other))
    return (torch.linalg.vector_norm(own - other) / torch.linalg.vector_norm(own)).item()


def _parameters(block: SubBlock) -> dict:
    return {(n, name): part for n, module in enumerate(block.modules) for name, part in module.named_parameters()}
