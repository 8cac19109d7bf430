"""Random plans, the floor of the tables: a method that does not beat them has found nothing."""

import random
from collections.abc import Sequence

from ..errors import SkrrError
from ..plans.architecture import Architecture
from ..plans.plan import make_cut
from .ladder import Rung, check_sparsity, make_ladder, nearest

__all__ = ["random_like", "random_rung"]


def random_rung(architecture: Architecture, sparsity: float, seed: int) -> Rung:
    """Sub-blocks in random order, as many of them as come nearest to `sparsity`: every kind is equally likely, so
    the mix of kinds varies. Equal for equal seeds, on every machine; different seeds are independent draws."""
    check_sparsity(architecture, sparsity)
    shuffled = _shuffle(range(architecture.sub_blocks), random.Random(seed))
    return nearest(make_ladder(architecture, ((i,) for i in shuffled)), sparsity, within=1.0)


def random_like(architecture: Architecture, order: Sequence[int], seed: int) -> Rung:
    """As many random attentions and as many random feed-forwards as `order` skips, so exactly of its sparsity:
    what is left of a plan's advantage is *which* sub-blocks it skips. Seeds as in `random_rung`."""
    make_cut(order).check(architecture.sub_blocks)
    if not order:
        raise SkrrError("The plan to imitate skips nothing; give the sub-blocks of a level that skips some.")
    generator = random.Random(seed)
    chosen = []
    for parity in (0, 1):
        wanted = sum(i % 2 == parity for i in order)
        chosen += _shuffle(range(parity, architecture.sub_blocks, 2), generator)[:wanted]
    mixed = tuple(_shuffle(chosen, generator))
    return Rung(mixed, architecture.sparsity(mixed))


def _shuffle(values: Sequence[int], generator: random.Random) -> list[int]:
    """A uniform shuffle from `random()` alone: Python promises that sequence for all releases, not `shuffle`'s."""
    drawn = {value: generator.random() for value in values}
    return sorted(values, key=drawn.__getitem__)
