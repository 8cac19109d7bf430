"""Sums, ridge and low rank against the same thing written out: torch.linalg.lstsq and a search, in float64."""

import math

import pytest
import torch

from skrr_engine.corrections.solve import SingularError, low_rank, ridge
from skrr_engine.corrections.statistics import Positions, Sums, error, token_weights
from skrr_engine.errors import SkrrError


def positions(count=60, inputs=7, outputs=5, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(count, side, generator=generator, dtype=torch.float64) for side in (inputs, outputs, outputs)]


def weighed(a, r, h, parts=1, scale=1.0):
    made = []
    for inputs, missing, dense in zip(*(whole.chunk(parts) for whole in (a, r, h)), strict=True):
        weights = token_weights(dense, scale)
        made.append(Positions(inputs, missing, weights, (weights * dense.double().square().sum(dim=1)).sum().item()))
    return made


def summed(a, r, h, parts=1, scale=1.0):
    sums = Sums.empty(a.shape[1], r.shape[1])
    for some in weighed(a, r, h, parts, scale):
        sums.add(some)
    return sums


def augmented(a, r, h, rho):
    """The system whose plain least squares are the ridge's."""
    root = h.square().sum(dim=1).rsqrt()[:, None]
    penalty = math.sqrt(rho * (root * a).square().sum().item() / a.shape[1]) * torch.eye(a.shape[1]).double()
    return torch.cat([root * a, penalty]), torch.cat([root * r, torch.zeros(a.shape[1], r.shape[1]).double()])


@pytest.mark.parametrize("rho", [0.0, 0.01, 1.0])
def test_the_ridge_is_the_least_squares_solution_of_the_augmented_system(rho):
    a, r, h = positions()
    found = ridge(summed(a, r, h, parts=4), rho)
    torch.testing.assert_close(found, torch.linalg.lstsq(*augmented(a, r, h, rho)).solution, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("rho", [0.01, 1.0])
@pytest.mark.parametrize("rank", [1, 2, 4])
def test_no_map_of_that_rank_is_better(rank, rho):
    """Alternating least squares from many starts never get below it, and the best of them meets it."""
    a, r, h = positions()
    system, wanted = augmented(a, r, h, rho)
    down, up = low_rank(summed(a, r, h), rho, rank)
    assert (down.shape, up.shape) == ((7, rank), (rank, 5))
    found = (system @ down @ up - wanted).square().sum().item()
    best = math.inf
    for seed in range(5):
        right = torch.randn(rank, 5, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
        for _ in range(300):
            right = torch.linalg.qr(right.T).Q.T
            left = torch.linalg.lstsq(system, wanted @ right.T).solution
            right = torch.linalg.lstsq(system @ left, wanted).solution
        best = min(best, (system @ left @ right - wanted).square().sum().item())
    assert found == pytest.approx(best, rel=1e-8)


@pytest.mark.parametrize("rank", [5, 9])
def test_full_rank_is_the_ridge(rank):
    sums = summed(*positions())
    down, up = low_rank(sums, 0.1, rank)
    assert up.shape == (5, 5)
    torch.testing.assert_close(down @ up, ridge(sums, 0.1), rtol=1e-9, atol=1e-12)


def test_the_error_is_that_of_the_positions():
    a, r, h = positions()
    change = torch.randn(7, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(9))
    relative = ((r - a @ change).square().sum(dim=1) / h.square().sum(dim=1)).mean().item()
    assert error(weighed(a, r, h, parts=3, scale=0.7), change) == pytest.approx(relative, rel=1e-12)
    plain = (r.square().sum(dim=1) / h.square().sum(dim=1)).mean().item()
    assert error(weighed(a, r, h)) == pytest.approx(plain, rel=1e-12)
    assert error([]) == 0.0
    assert summed(a, r, h).positions == 60


def test_the_sums_are_float64_whatever_comes_in():
    a, r, h = (part.float() for part in positions())
    sums = summed(a, r, h)
    assert sums.gram.dtype == sums.cross.dtype == torch.float64
    torch.testing.assert_close(sums.gram, summed(a.double(), r.double(), h.double()).gram, rtol=1e-12, atol=0)


def test_statistics_from_which_nothing_follows_are_sentences():
    a, r, h = positions(4)  # fewer positions than inputs
    for solve in (ridge, lambda sums, rho: low_rank(sums, rho, 2)):
        with pytest.raises(SingularError, match="its 7 inputs are not independent"):
            solve(summed(a, r, h), 0.0)
        with pytest.raises(SingularError, match="mean square 0, from which nothing"):
            solve(summed(0 * a, r, h), 0.1)
    assert torch.isfinite(ridge(summed(a, r, h), 0.01)).all()


@pytest.mark.parametrize("part", range(3))
@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_numbers_that_are_not_finite_are_refused(part, value):
    parts = positions()
    parts[part][3, 2] = value
    with pytest.raises(SkrrError, match="not finite on the prompts of the fit"):
        summed(*parts)


def test_a_position_whose_stream_is_zero_has_no_weight():
    a, r, h = positions()
    without = summed(a[1:], r[1:], h[1:])
    h[0] = 0
    torch.testing.assert_close(summed(a, r, h).gram, without.gram, rtol=1e-12, atol=1e-15)
