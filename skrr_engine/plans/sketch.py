"""A sketch of an encoder's weights: whether a plan was found on these very weights, in whatever storage format.

One number a sub-block: the Euclidean norm of its norm layer's weight. Rounding to fp8 moves it by half a
hundredth (e4m3) or one and a half (e5m2), as tests hold. Equal sketches do not prove equal weights.
"""

from collections.abc import Iterable, Sequence

import torch

__all__ = ["TOLERANCE", "same_weights", "sketch_of"]

TOLERANCE = 0.02


def sketch_of(norm_weights: Iterable[torch.Tensor | None]) -> tuple[float, ...]:
    """The norm of each sub-block's norm weight, in order; 0 for one that is not there (cut, or on the meta device)."""
    present = (None if w is None or w.is_meta else w.detach().as_subclass(torch.Tensor) for w in norm_weights)
    return tuple(0.0 if w is None else w.float().norm().item() for w in present)


def same_weights(planned: Sequence[float], found: Sequence[float]) -> bool | None:
    """Whether two sketches agree within TOLERANCE wherever both have a sub-block; None where one is empty."""
    if not planned or not found:
        return None
    if len(planned) != len(found):
        return False
    pairs = [(a, b) for a, b in zip(planned, found, strict=True) if a and b]
    return all(abs(a - b) <= TOLERANCE * max(a, b) for a, b in pairs)
