"""What a place adds to the stream beside, or in place of, a sub-block: a bias, or a bridge of low rank."""

from dataclasses import dataclass

import torch

from ..digest import digest_tensors
from ..measure.execute import Correction

__all__ = ["Bias", "Bridge", "Near", "bridge_inputs", "normalised"]


def normalised(hidden: torch.Tensor) -> torch.Tensor:
    """Each position's stream over its root mean square, as in front of a sub-block; 0 where it is 0."""
    square = hidden.square().mean(dim=-1, keepdim=True)
    return hidden * square.clamp_min(torch.finfo(hidden.dtype).tiny).rsqrt()


def bridge_inputs(hidden: torch.Tensor) -> torch.Tensor:
    """What a bridge maps: the normalised stream and, as its last input, the constant 1."""
    found = normalised(hidden)
    return torch.cat([found, found.new_ones(*found.shape[:-1], 1)], dim=-1)


class Near:
    """A tensor that is kept where, and as wide as, the stream was that asked last: a pass asks batch after batch."""

    def __init__(self, tensor: torch.Tensor):
        self.tensor, self.brought = tensor, tensor

    def to(self, hidden: torch.Tensor, dtype: torch.dtype | None = None) -> torch.Tensor:
        """The tensor beside `hidden`, in `dtype` (None: that of the stream)."""
        wanted = (hidden.device, dtype or hidden.dtype)
        if (self.brought.device, self.brought.dtype) != wanted:
            self.brought = self.tensor.to(*wanted)
        return self.brought


@dataclass(frozen=True, eq=False)
class Bias:
    """`vector` (width,) is added, whatever the stream is."""

    vector: torch.Tensor

    @property
    def tensors(self) -> dict[str, torch.Tensor]:
        """By the names of a side file."""
        return {"bias": self.vector}

    def correction(self) -> Correction:
        """For the assignment of a place."""
        vector = Near(self.vector)

        def added(hidden, own):
            bias = vector.to(hidden)
            return bias.expand_as(hidden).clone() if own is None else own + bias

        return Correction(digest_tensors(self.tensors.items()), added)


@dataclass(frozen=True, eq=False)
class Bridge:
    """`up` @ `down` @ [normalised stream, 1] is added: `down` is (rank, width + 1), `up` (width, rank)."""

    down: torch.Tensor
    up: torch.Tensor

    @property
    def tensors(self) -> dict[str, torch.Tensor]:
        """By the names of a side file."""
        return {"down": self.down, "up": self.up}

    def correction(self) -> Correction:
        """For the assignment of a place."""
        down, up = Near(self.down), Near(self.up)

        def added(hidden, own):
            inner = bridge_inputs(hidden) @ down.to(hidden).T
            made = inner @ up.to(hidden).T
            return made if own is None else own + made

        return Correction(digest_tensors(self.tensors.items()), added)
