"""Sums over positions from which a least-squares fit follows: streamed, in float64, without keeping the positions."""

from dataclasses import dataclass

import torch

from ..errors import SkrrError
from ..precision import SUM

__all__ = ["Sums", "combine"]


@dataclass
class Sums:
    """Over positions t with inputs a_t, missing r_t and weights w_t: `gram` = Σ w aᵀa (inputs, inputs), `cross` =
    Σ w aᵀr (inputs, outputs), `energy` = Σ w |r|², `size` = Σ w |h|² with the dense stream h, `weight` = Σ w,
    and how many `positions` there were."""

    gram: torch.Tensor
    cross: torch.Tensor
    energy: float = 0.0
    size: float = 0.0
    weight: float = 0.0
    positions: int = 0

    @classmethod
    def empty(cls, inputs: int, outputs: int, device: torch.device | str = "cpu") -> "Sums":
        """Nothing added yet."""
        # A Mac's GPU has no float64.
        home = "cpu" if torch.device(device).type == "mps" else device
        return cls(*(torch.zeros(inputs, side, dtype=SUM, device=home) for side in (inputs, outputs)))

    def add(self, inputs: torch.Tensor, missing: torch.Tensor, dense: torch.Tensor) -> None:
        """Takes positions: (positions, inputs), (positions, outputs) and (positions, outputs). Each weighs
        1 / |dense|², because the next sub-block normalises: what counts is the error relative to the stream. Raises
        SkrrError for numbers that are not finite."""
        inputs, missing, dense = (part.to(self.gram.device).to(SUM) for part in (inputs, missing, dense))
        squares = dense.square().sum(dim=1)
        weights = torch.where(squares > 0, 1 / squares, 0)
        weighted = inputs * weights[:, None]
        energy, weight = (weights * missing.square().sum(dim=1)).sum().item(), weights.sum().item()
        gram = weighted.T @ inputs
        if not (torch.isfinite(gram).all() and torch.isfinite(squares).all() and energy < torch.inf > weight):
            raise SkrrError(
                "The encoder's stream is not finite on the prompts of the re-fit. Its weights are damaged, or its "
                "precision is too small; load it in another format."
            )
        self.gram += gram
        self.cross += weighted.T @ missing
        self.energy += energy
        self.size += (weights * squares).sum().item()
        self.weight += weight
        self.positions += len(inputs)

    def error(self, change: torch.Tensor | None = None) -> float:
        """Σ w |r - a change|² ÷ Σ w |h|²: the error relative to the dense stream once `change` (inputs, outputs) is
        added to the matrix; None: as it is."""
        left = self.energy
        if change is not None:
            change = change.to(self.gram)
            left += (change * (self.gram @ change - 2 * self.cross)).sum().item()
        return max(0.0, left) / self.size if self.size else 0.0


def combine(prompts: Sums, null: Sums, share: float) -> Sums:
    """The sums of both with weights scaled to mean 1, those of the null prompt being `share` (0 to 1) of all. Where
    one of them has no positions the other is all."""
    if not (prompts.weight and null.weight):
        share = float(not prompts.weight)
    found = Sums.empty(*prompts.cross.shape, prompts.cross.device)
    for part, portion in ((prompts, 1 - share), (null, share)):
        if portion:
            factor = portion / part.weight
            found.gram += factor * part.gram
            found.cross += factor * part.cross
            found.energy += factor * part.energy
            found.size += factor * part.size
            found.weight += portion
            found.positions += part.positions
    return found
