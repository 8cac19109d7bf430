"""Ridge regression from its sums, by Cholesky, of full or low rank: no inverse is ever formed."""

import torch

from ..errors import SkrrError
from .statistics import Sums

__all__ = ["SingularError", "low_rank", "ridge"]


class SingularError(SkrrError):
    """The sums do not determine a matrix."""


def ridge(sums: Sums, rho: float) -> torch.Tensor:
    """argmin Σ w |r - a X|² + rho · tr(G) / n · |X|², (inputs, outputs) float64. The penalty is measured by the mean
    square of the inputs, so that one `rho` serves layers of every scale. Raises SingularError where there is no
    single finite answer."""
    return _finite(torch.cholesky_solve(sums.cross, _factor(sums, rho)), rho)


def low_rank(sums: Sums, rho: float, rank: int) -> tuple[torch.Tensor, torch.Tensor]:
    """The X of at most `rank` that minimises what `ridge` minimises, as two factors (inputs, rank) and (rank,
    outputs), float64. With G + penalty = L Lᵀ and S = (L⁻¹ C)ᵀ (L⁻¹ C), the ridge's X is projected on the `rank` first
    eigenvectors of S; that is exact, because the objective is a constant less what they capture."""
    factor = _factor(sums, rho)
    half = torch.linalg.solve_triangular(factor, sums.cross, upper=False)
    captured = torch.linalg.eigh(_finite(half.T @ half, rho)).eigenvectors
    chosen = captured[:, -min(rank, captured.shape[1]) :].flip(dims=(1,))
    return torch.linalg.solve_triangular(factor.T, half @ chosen, upper=True), chosen.T.contiguous()


def _factor(sums: Sums, rho: float) -> torch.Tensor:
    count = len(sums.gram)
    mean = sums.gram.diagonal().sum().item() / count
    if not 0 < mean < float("inf"):
        raise SingularError(f"the inputs have the mean square {mean:.3g}, from which nothing can be fitted")
    padded = sums.gram.clone()
    padded.diagonal().add_(rho * mean)
    # In place: beside the Gram matrix there is one more of its size, not two.
    failed = torch.empty((), dtype=torch.int32, device=padded.device)
    factor, failed = torch.linalg.cholesky_ex(padded, out=(padded, failed))
    if failed.item():
        raise SingularError(
            f"its {count} inputs are not independent on these prompts; a ridge above {rho:g} or more prompts would help"
        )
    return factor


def _finite(found: torch.Tensor, rho: float) -> torch.Tensor:
    if not torch.isfinite(found).all():
        raise SingularError(f"the fit with a ridge of {rho:g} is not finite; a larger ridge would help")
    return found
