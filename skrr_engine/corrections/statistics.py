"""Sums over positions from which a least-squares fit follows: streamed, in float64, without keeping the positions."""

from dataclasses import dataclass

import torch

from ..errors import SkrrError
from ..precision import SUM

__all__ = ["ROWS", "Positions", "Sums", "error", "token_weights"]

# Positions that are made float64 at once: their copies take no more room than the sums.
ROWS = 1024


def token_weights(dense: torch.Tensor, scale: float = 1.0) -> torch.Tensor:
    """`scale` / |h|² for every position of the dense stream (positions, width), float64; 0 where the stream is 0. The
    next sub-block normalises: what counts is the error relative to the stream."""
    squares = dense.to(SUM).square().sum(dim=1)
    # What is not finite must not become a weight of 0.
    return torch.where(squares == 0, 0, scale / squares + 0 * squares)


@dataclass(frozen=True)
class Positions:
    """Some positions: `inputs` (positions, inputs) of the map that is fitted, what is `missing` from its result
    (positions, outputs), the weights `w` of both, and `size` = Σ w |h|² with the dense stream h, the weights as they
    are in the stream. `gain` (outputs,) is what an error of the map counts in the stream, None: as it is. Where
    positions lie does not matter; float64 is made of them when they are summed."""

    inputs: torch.Tensor
    missing: torch.Tensor
    weights: torch.Tensor
    size: float
    gain: torch.Tensor | None = None

    def __post_init__(self):
        if not all(torch.isfinite(part).all() for part in (self.inputs, self.missing, self.weights)):
            raise SkrrError(
                "The encoder's stream is not finite on the prompts of the fit. Its weights are damaged, or its "
                "precision is too small; load it in another format."
            )


@dataclass
class Sums:
    """Over positions t with inputs a_t, missing r_t and weights w_t: `gram` = Σ w aᵀa (inputs, inputs), `cross` =
    Σ w aᵀr (inputs, outputs), and how many `positions` there were."""

    gram: torch.Tensor
    cross: torch.Tensor
    positions: int = 0

    @classmethod
    def empty(cls, inputs: int, outputs: int, device: torch.device | str = "cpu") -> "Sums":
        """Nothing added yet."""
        # A Mac's GPU has no float64.
        home = "cpu" if torch.device(device).type == "mps" else device
        return cls(*(torch.zeros(inputs, side, dtype=SUM, device=home) for side in (inputs, outputs)))

    def add(self, some: Positions) -> None:
        """Takes positions."""
        for parts in zip(*(part.split(ROWS) for part in (some.inputs, some.missing, some.weights)), strict=True):
            inputs, missing, weights = (part.to(self.gram) for part in parts)
            weighted = (inputs * weights[:, None]).T
            self.gram.addmm_(weighted, inputs)
            self.cross.addmm_(weighted, missing)
        self.positions += len(some.inputs)


def error(parts, change: torch.Tensor | None = None) -> float:
    """Σ w |r - a change|² ÷ Σ w |h|² over `parts` (Positions): the error relative to the dense stream once `change`
    (inputs, outputs) is added to the map; None: as it is."""
    energy = size = 0.0
    for some in parts:
        for inputs, missing, weights in zip(
            *(part.split(ROWS) for part in (some.inputs, some.missing, some.weights)), strict=True
        ):
            if change is not None:
                missing = missing.to(change) - inputs.to(change) @ change
            if some.gain is not None:
                missing = missing * some.gain.to(missing)
            squares = missing.to("cpu", SUM).square().sum(dim=1)
            energy += (weights.cpu() * squares).sum().item()
        size += some.size
    return energy / size if size else 0.0
