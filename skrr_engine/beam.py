"""The Skip search: Algorithm 1 with shared prefixes (`sweep`), level by level so that it can stop and resume."""

from dataclasses import dataclass

from .discrepancy import Discrepancy
from .execute import assign
from .objective import Objective
from .reference import rank_key
from .sweep import measure_many

__all__ = ["Candidate", "next_level"]


@dataclass(frozen=True)
class Candidate:
    """A set of skipped sub-blocks in the order in which it was found, and its discrepancy."""

    order: tuple[int, ...]
    discrepancy: Discrepancy


def next_level(objective: Objective, beams: list[Candidate], beam: int | None) -> list[Candidate]:
    """The best `beam` sets (None: all) that are one sub-block larger than those of `beams`, best first.

    `beams` empty means the dense encoder. Each set is measured once, however many beams lead to it.
    """
    count = len(objective.stack.subblocks)
    orders: dict[frozenset, tuple[int, ...]] = {}
    for parent in [candidate.order for candidate in beams] or [()]:
        for i in range(count):
            if i not in parent:
                orders.setdefault(frozenset((*parent, i)), (*parent, i))
    found = measure_many(objective, [assign(count, order) for order in orders.values()])
    candidates = [Candidate(order, found[assign(count, order)]) for order in orders.values()]
    candidates.sort(key=lambda c: rank_key(objective, c.order, c.discrepancy))
    return candidates[:beam]
