"""How much work the published searches take, without running them: sub-block x token applications, closed form.

`reference` measures every candidate alone, so a candidate that skips n of N sub-blocks (and re-runs r) costs N - n + r
applications a token. A level of the beam search measures each distinct set once: beams that differ in one sub-block
meet in one set. The dense features take N more, once.
"""

from collections.abc import Iterable, Mapping, Sequence

from .reference import neighbours

__all__ = ["dense_work", "distinct_sets", "published_work", "reuse_work", "skip_work"]


def dense_work(count: int, tokens: int) -> int:
    """The dense features of `tokens` tokens behind `count` sub-blocks."""
    return count * tokens


def distinct_sets(count: int, beams: Iterable[Sequence[int]]) -> int:
    """Sets that are one sub-block larger than one of the distinct sets `beams`, all of one size; none given means the
    empty set. Every set B has count - |B| of them; a set that several beams reach is counted once."""
    sets = [frozenset(order) for order in beams] or [frozenset()]
    return len({larger | {i} for larger in sets for i in range(count) if i not in larger})


def skip_work(count: int, tokens: int, levels: Sequence[Sequence[Sequence[int]]]) -> int:
    """Algorithm 1 whose level n kept the sets `levels[n - 1]`: all its levels, without the dense features."""
    before = [[], *levels][: len(levels)]
    return sum(distinct_sets(count, beams) * (count - n) * tokens for n, beams in enumerate(before, 1))


def reuse_work(count: int, tokens: int, order: Sequence[int], pairs: Mapping[int, int]) -> int:
    """Algorithm 2 for the skipped sub-blocks `order` (in the order in which it visits them), when it ended with
    `pairs`: the set itself, then at every place each neighbour on top of the pairs so far."""
    kept, accepted, total = count - len(order), 0, count - len(order)
    for place in order:
        total += len(neighbours(place, set(order), count)) * (kept + accepted + 1)
        accepted += place in pairs
    return total * tokens


def published_work(count: int, tokens: int, beam: int, levels: int) -> int:
    """Algorithm 1 as printed, where no two beams meet in one set: 48 sub-blocks, 24 levels and k = 3 are 2,532
    evaluations."""
    return sum((beam if n > 1 else 1) * (count - n + 1) * (count - n) * tokens for n in range(1, levels + 1))
