"""The discrepancy `D` (paper section 3.1, equations 2 and 3, Algorithm 1's GetDiscrepancy) and its companions.

`D = MSE(f_c dense, f_c pruned) + w * MSE(f_null dense, f_null pruned)`: per prompt over the positions that
the denoiser reads, mean over the features' width, mean over prompts; `w = 1` as published. Where several
projections read the encoder (FLUX's `vector_in`, SD3's pair) their MSEs are added.
"""

from dataclasses import asdict, dataclass

import torch

from ..precision import SUM, widen

__all__ = ["Discrepancy", "cosine_terms", "square_norms", "squared_terms"]


@dataclass(frozen=True)
class Discrepancy:
    """`D` of one plan and what is reported beside it.

    `conditional` and `null` are the two MSEs, `null_weight` the factor on the second. `cosine` is the mean of
    1 - cos over the positions read (equation 2). `null_norm` is the norm of f_null, pruned ÷ dense: growing
    far above 1 is what breaks guidance (paper figure 4); 1.0 where no null prompt was measured.
    """

    conditional: float
    null: float
    null_weight: float
    cosine: float
    null_norm: float

    @property
    def value(self) -> float:
        """`D`: lower is better."""
        return self.conditional + self.null_weight * self.null

    def to_json(self) -> dict:
        """A plain dict of the fields and `value`."""
        return {**asdict(self), "value": self.value}


def _positions(values: torch.Tensor) -> torch.Tensor:
    """(rows, width) features without positions become (rows, 1, width)."""
    return values.unsqueeze(1) if values.dim() == 2 else values


def _near(dense: dict, pruned: dict, name: str) -> torch.Tensor:
    """A dense feature where the pruned one is: dense features rest on the CPU, there are many of them."""
    return _positions(dense[name]).to(pruned[name].device)


def _weighted(per_position: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """Sums (rows, positions) values under the prompt shares; (rows,) float64 on the CPU."""
    # In two steps: a Mac's GPU has no float64 to convert to.
    return (per_position.cpu().to(SUM) * weights).sum(dim=1)


def squared_terms(dense: dict, pruned: dict, weights: dict) -> torch.Tensor:
    """Each row's part of its prompt's MSE, features added: (rows,) float64 on the CPU. Sums over a prompt's
    rows give the prompt's MSE. `weights` as in `TokenBatch.weights`."""
    total = 0
    for name in sorted(dense):
        difference = widen(_near(dense, pruned, name)) - widen(_positions(pruned[name]))
        total = total + _weighted(difference.square().mean(dim=2), weights[name])
    return total


def cosine_terms(dense: dict, pruned: dict, weights: dict) -> torch.Tensor:
    """Each row's part of its prompt's 1 - cos, averaged over the features: (rows,) float64 on the CPU."""
    total = 0
    for name in sorted(dense):
        a, b = widen(_near(dense, pruned, name)), widen(_positions(pruned[name]))
        distance = 1 - torch.nn.functional.cosine_similarity(a, b, dim=2)
        total = total + _weighted(distance, weights[name]) / len(dense)
    return total


def square_norms(features: dict, weights: dict) -> torch.Tensor:
    """Each row's part of the mean squared norm of a prompt's features: (rows,) float64 on the CPU."""
    total = 0
    for name in sorted(features):
        total = total + _weighted(widen(_positions(features[name])).square().sum(dim=2), weights[name])
    return total
