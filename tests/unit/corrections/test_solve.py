"""Sums and ridge against the same thing written out: torch.linalg.lstsq on the augmented system, in float64."""

import math

import pytest
import torch

from skrr_engine.corrections.solve import SingularError, ridge
from skrr_engine.corrections.statistics import Sums, combine
from skrr_engine.errors import SkrrError


def positions(count=60, inputs=7, outputs=5, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(count, side, generator=generator, dtype=torch.float64) for side in (inputs, outputs, outputs)]


def summed(a, r, h, parts=1):
    sums = Sums.empty(a.shape[1], r.shape[1])
    for one in zip(*(whole.chunk(parts) for whole in (a, r, h)), strict=True):
        sums.add(*one)
    return sums


@pytest.mark.parametrize("rho", [0.0, 0.01, 1.0])
def test_the_ridge_is_the_least_squares_solution_of_the_augmented_system(rho):
    a, r, h = positions()
    found = ridge(combine(summed(a, r, h, parts=4), Sums.empty(7, 5), 0.1), rho)
    weights = 1 / h.square().sum(dim=1)
    weights = weights / weights.mean() / len(a)  # mean 1, and a mean instead of a sum
    root = weights.sqrt()[:, None]
    mean = ((root * a).square().sum() / 7).item()
    penalty = math.sqrt(rho * mean) * torch.eye(7, dtype=torch.float64)
    system = torch.cat([root * a, penalty]), torch.cat([root * r, torch.zeros(7, 5, dtype=torch.float64)])
    torch.testing.assert_close(found, torch.linalg.lstsq(*system).solution, rtol=1e-9, atol=1e-12)


def test_the_error_is_that_of_the_positions():
    a, r, h = positions()
    change = torch.randn(7, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(9))
    sums = summed(a, r, h)
    relative = ((r - a @ change).square().sum(dim=1) / h.square().sum(dim=1)).mean().item()
    assert sums.error(change) == pytest.approx(relative, rel=1e-12)
    assert sums.error() == pytest.approx((r.square().sum(dim=1) / h.square().sum(dim=1)).mean().item(), rel=1e-12)
    assert sums.positions == 60


def test_the_sums_are_float64_whatever_comes_in():
    a, r, h = (part.float() for part in positions())
    sums = summed(a, r, h)
    assert sums.gram.dtype == sums.cross.dtype == torch.float64
    torch.testing.assert_close(sums.gram, summed(a.double(), r.double(), h.double()).gram, rtol=1e-12, atol=0)


def test_the_null_prompt_has_its_share_of_the_weight_however_few_positions_it_has():
    prompts, null = summed(*positions(50)), summed(*positions(1, seed=1))
    both = combine(prompts, null, 0.1)
    expected = 0.9 * prompts.gram / prompts.weight + 0.1 * null.gram / null.weight
    torch.testing.assert_close(both.gram, expected, rtol=1e-12, atol=0)
    assert (both.weight, both.positions) == (pytest.approx(1.0), 51)
    alone = combine(prompts, Sums.empty(7, 5), 0.1)
    torch.testing.assert_close(alone.gram, prompts.gram / prompts.weight, rtol=1e-12, atol=0)


def test_statistics_from_which_nothing_follows_are_sentences():
    a, r, h = positions(4)  # fewer positions than inputs
    with pytest.raises(SingularError, match="its 7 inputs are not independent"):
        ridge(summed(a, r, h), 0.0)
    assert torch.isfinite(ridge(summed(a, r, h), 0.01)).all()
    with pytest.raises(SingularError, match="mean square 0, from which nothing"):
        ridge(summed(0 * a, r, h), 0.1)


@pytest.mark.parametrize("part", range(3))
@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_numbers_that_are_not_finite_are_refused(part, value):
    parts = positions()
    parts[part][3, 2] = value
    with pytest.raises(SkrrError, match="not finite on the prompts of the re-fit"):
        summed(*parts)


def test_a_position_whose_stream_is_zero_has_no_weight():
    a, r, h = positions()
    without = summed(a[1:], r[1:], h[1:])
    h[0] = 0
    torch.testing.assert_close(summed(a, r, h).gram, without.gram, rtol=1e-12, atol=1e-15)
