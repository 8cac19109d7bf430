"""Intervals, correlations and verdicts of the tables. All intervals are 95 % percentile bootstraps, seeded."""

import functools
from collections.abc import Sequence
from dataclasses import dataclass

import torch

__all__ = ["Estimate", "correlation", "estimate", "ranks", "spearman", "verdict"]

RESAMPLES = 2000
LEVELS = torch.tensor([0.025, 0.975], dtype=torch.float64)


@dataclass(frozen=True)
class Estimate:
    """A mean (or correlation) and its 95 % interval."""

    value: float
    low: float
    high: float

    @property
    def smallest(self) -> float:
        """Half the interval's width: a smaller difference than this the sample cannot show."""
        return (self.high - self.low) / 2


def estimate(groups: Sequence[Sequence[int]], values: torch.Tensor, seed: int = 0) -> Estimate:
    """The mean over groups (tasks) of the cases' mean, over plans: `values` is (cases,) or (plans, cases), `groups`
    the cases of each task. Cases are drawn anew within their task and plans, where there are several, among
    themselves. With differences of two encoders on the same cases and noise this is the paired comparison."""
    values = values.double().reshape(-1, values.shape[-1])
    plans, cases = values.shape
    whole, drawn = _shares(tuple(map(tuple, groups)), cases, seed)
    weights = _counts(plans, torch.Generator().manual_seed(seed + 1)) / plans
    low, high = ((weights @ values) * drawn).sum(dim=1).quantile(LEVELS).tolist()
    return Estimate((values.mean(dim=0) @ whole).item(), low, high)


@functools.lru_cache(maxsize=8)
def _shares(groups: tuple[tuple[int, ...], ...], cases: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """The share of each case in the mean, (cases,), and in every draw, (RESAMPLES, cases)."""
    generator = torch.Generator().manual_seed(seed)
    whole = torch.zeros(cases, dtype=torch.float64)
    drawn = torch.zeros(RESAMPLES, cases, dtype=torch.float64)
    for rows in groups:
        at = torch.tensor(rows)
        whole[at] = 1 / (len(rows) * len(groups))
        drawn[:, at] = _counts(len(rows), generator) / (len(rows) * len(groups))
    return whole, drawn


def _counts(size: int, generator: torch.Generator) -> torch.Tensor:
    """How often each of `size` things comes in draws of as many: (RESAMPLES, size) float64."""
    drawn = torch.randint(size, (RESAMPLES, size), generator=generator)
    return torch.zeros(RESAMPLES, size, dtype=torch.float64).scatter_add_(1, drawn, torch.ones_like(drawn).double())


def ranks(values: torch.Tensor) -> torch.Tensor:
    """Ranks along the last side, from 1; equal values share the mean of theirs. float64."""
    values = values.contiguous()
    ordered = values.sort(dim=-1).values
    less, upto = (torch.searchsorted(ordered, values, right=right) for right in (False, True))
    return (less + upto + 1).double() / 2


def spearman(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """Spearman's rank correlation along the last side; 0 where one of them is constant."""
    a, b = (ranks(side) for side in (a, b))
    a, b = (side - side.mean(dim=-1, keepdim=True) for side in (a, b))
    size = (a.square().sum(dim=-1) * b.square().sum(dim=-1)).sqrt()
    return torch.where(size > 0, (a * b).sum(dim=-1) / size.clamp(min=1e-300), 0.0)


def correlation(
    predictor: torch.Tensor, scores: torch.Tensor, rival: torch.Tensor | None = None, seed: int = 0
) -> Estimate:
    """Spearman's correlation of `predictor` with `scores`, each (plans,), over plans drawn anew. With `rival`,
    another predictor, how much higher it is than the rival's, over the same draws."""

    def of(values) -> tuple[torch.Tensor, torch.Tensor]:
        return _correlations(tuple(values.tolist()), tuple(scores.tolist()), seed)

    whole, drawn = of(predictor)
    if rival is not None:
        whole, drawn = (ours - theirs for ours, theirs in zip((whole, drawn), of(rival), strict=True))
    low, high = drawn.quantile(LEVELS).tolist()
    return Estimate(whole.item(), low, high)


# A page asks for the same predictor alone and beside others, and its ranks take most of the page's time.
@functools.lru_cache(maxsize=64)
def _correlations(
    predictor: tuple[float, ...], scores: tuple[float, ...], seed: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Spearman's correlation of all plans, and of every draw of plans, (RESAMPLES,)."""
    one, other = (torch.tensor(values, dtype=torch.float64) for values in (predictor, scores))
    drawn = torch.randint(len(scores), (RESAMPLES, len(scores)), generator=torch.Generator().manual_seed(seed))
    return spearman(one, other), spearman(one[drawn], other[drawn])


def verdict(found: Estimate) -> str:
    """The rule for a claim that says "above 0": reproduced where the whole interval is above 0, not reproduced where
    the whole interval is below, else within noise."""
    if found.low > 0:
        return "reproduced"
    return "not reproduced" if found.high < 0 else "within noise"
