"""What a level tells about the next one: what a sub-block costs changes little from one set to the next.

With b the set that w came from, D(w + c) is about D(w) + D(b + c) - D(b), and the level before has measured b + c. A
race weighs that against its own few prompts, which are others: early in a race it says as much as they do, and some
candidates need not be measured at all.
"""

from collections.abc import Callable, Hashable, Mapping
from typing import NamedTuple, TypeVar

import torch

from ..precision import SUM

__all__ = ["Guess", "Key", "Outlook", "later", "look_ahead"]

Key = TypeVar("Key", bound=Hashable)

# How wrong the sum above may be, and how much parts of D may change: standard deviations, as a part of what D has grown
# by. Chosen by trying on the trained small encoder; others cost work or quality.
NOT_ADDITIVE, CHANGE = 0.3, 0.15


class Guess(NamedTuple):
    """A number that is known about: as a normal variable."""

    mean: float
    variance: float


class Outlook(NamedTuple):
    """Of one kept set: how much worse it is than the first of its level, and (sub-blocks, 2) float64 what to expect of
    it with one more sub-block: the mean and the variance of D, NaN for those it has."""

    gap: float
    children: torch.Tensor

    def of(self, child: int) -> Guess:
        """What to expect with `child` skipped as well."""
        return Guess(*self.children[child].tolist())


def look_ahead(
    order: tuple[int, ...],
    count: int,
    gap_of: Callable[[tuple[int, ...]], Guess],
    best: float,
    before: float,
    parent_gap: float,
) -> Outlook:
    """For the kept set `order` of `count` sub-blocks, the last of which its level has added.

    `gap_of` tells of every set that came from the same one, and of `order`, how much worse it is than the first of the
    level. `best` is D of that first one, `before` D of the first of the level before, and `parent_gap` how much worse
    than that the set is that `order` came from.
    """
    parent, own = order[:-1], gap_of(order)
    children = torch.full((count, 2), torch.nan, dtype=SUM)
    for child in set(range(count)) - set(order):
        sibling = gap_of((*parent, child))
        # D(order) + D(sibling) - D(parent).
        children[child, 0] = (best + own.mean) + (best + sibling.mean) - (before + parent_gap)
        children[child, 1] = own.variance + sibling.variance + (NOT_ADDITIVE * (best - before)) ** 2
    return Outlook(own.mean, children)


def later(parts: Mapping[Key, Guess], growth: float) -> dict[Key, Guess]:
    """What was found of some trials as parts of D, as it is to be expected of a D that differs by the part `growth`."""
    return {key: Guess(part.mean, part.variance + (CHANGE * growth) ** 2) for key, part in parts.items()}
