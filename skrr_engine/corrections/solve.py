"""Ridge regression from its sums, by Cholesky: no inverse is ever formed."""

import torch

from ..errors import SkrrError
from .statistics import Sums

__all__ = ["SingularError", "ridge"]


class SingularError(SkrrError):
    """The sums do not determine a matrix."""


def ridge(sums: Sums, rho: float) -> torch.Tensor:
    """argmin Σ w |r - a X|² + rho · tr(G) / n · |X|², (inputs, outputs) float64. The penalty is measured by the mean
    square of the inputs, so that one `rho` serves layers of every scale. Raises SingularError where there is no
    single finite answer."""
    count = len(sums.gram)
    mean = sums.gram.diagonal().sum().item() / count
    if not 0 < mean < float("inf"):
        raise SingularError(f"the inputs have the mean square {mean:.3g}, from which nothing can be fitted")
    padded = (sums.gram + sums.gram.T) / 2
    padded.diagonal().add_(rho * mean)
    factor, failed = torch.linalg.cholesky_ex(padded)
    if failed.item():
        raise SingularError(
            f"its {count} inputs are not independent on these prompts; a ridge above {rho:g} or more prompts would help"
        )
    found = torch.cholesky_solve(sums.cross, factor)
    if not torch.isfinite(found).all():
        raise SingularError(f"the fit with a ridge of {rho:g} is not finite; a larger ridge would help")
    return found
