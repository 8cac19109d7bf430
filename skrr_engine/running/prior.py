"""What one level says about the next: a sub-block costs about the same on top of one set as on top of another.

If the set w was grown from b, then D(w + c) is about D(w) + D(b + c) - D(b), and the level before has measured b + c.
This is the prior. A race combines it with its own prompts, which are others: early in a race the prior says as much as
they do, and some candidates need no measurement at all.
"""

from collections.abc import Callable, Hashable, Mapping
from typing import NamedTuple, TypeVar

import torch

from ..precision import SUM

__all__ = ["Estimate", "Key", "Prior", "additive_prior", "widened"]

Key = TypeVar("Key", bound=Hashable)

# Standard deviations, relative to the growth of D: of the error of the sum above, and of the change of relative gaps
# from one level to the next. Tuned on the trained small encoder; other values cost work or quality.
NON_ADDITIVITY, DRIFT = 0.3, 0.15


class Estimate(NamedTuple):
    """An uncertain number: mean and variance of a normal distribution."""

    mean: float
    variance: float


class Prior(NamedTuple):
    """Of one kept set: `gap`, its D minus D of the best set of its level, and `children`, (sub-blocks, 2) float64: mean
    and variance of its D with one more sub-block skipped, NaN for the sub-blocks it skips already."""

    gap: float
    children: torch.Tensor

    def of(self, child: int) -> Estimate:
        """D of the set with `child` skipped as well."""
        return Estimate(*self.children[child].tolist())


def additive_prior(
    order: tuple[int, ...],
    count: int,
    gap_of: Callable[[tuple[int, ...]], Estimate],
    best: float,
    before: float,
    parent_gap: float,
) -> Prior:
    """The prior of the kept set `order`, out of `count` sub-blocks; the last one in `order` was added on this level.

    `gap_of` gives the gap to the best set of this level, for `order` and for every set grown from the same parent.
    `best` is D of that best set, `before` D of the best set of the level before, and `parent_gap` the gap between the
    parent of `order` and the latter.
    """
    parent, own = order[:-1], gap_of(order)
    children = torch.full((count, 2), torch.nan, dtype=SUM)
    for child in set(range(count)) - set(order):
        sibling = gap_of((*parent, child))
        # D(order) + D(sibling) - D(parent).
        children[child, 0] = (best + own.mean) + (best + sibling.mean) - (before + parent_gap)
        children[child, 1] = own.variance + sibling.variance + (NON_ADDITIVITY * (best - before)) ** 2
    return Prior(own.mean, children)


def widened(gaps: Mapping[Key, Estimate], growth: float) -> dict[Key, Estimate]:
    """Relative gaps of one level as estimates for another, whose D differs by the relative `growth`: the same means,
    larger variances."""
    return {key: Estimate(gap.mean, gap.variance + (DRIFT * growth) ** 2) for key, gap in gaps.items()}
