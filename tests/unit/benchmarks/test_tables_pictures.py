"""SSIM and the Fréchet distance, against slow definitions and closed forms."""

import math

import pytest
import torch

from benchmarks.tables.pictures import features, frechet, frechet_with_error, moments, ssim
from skrr_engine.demo.autoencoder import Autoencoder


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def slow_ssim(a, b):
    """The definition, window by window, for one channel."""
    bell = [math.exp(-((i - 5) ** 2) / (2 * 1.5**2)) for i in range(11)]
    weights = [[x * y / sum(bell) ** 2 for x in bell] for y in bell]
    found = []
    for top in range(len(a) - 10):
        for left in range(len(a[0]) - 10):
            pairs = [(weights[i][j], a[top + i][left + j], b[top + i][left + j]) for i in range(11) for j in range(11)]
            ma, mb = sum(w * x for w, x, _ in pairs), sum(w * y for w, _, y in pairs)
            va, vb = (sum(w * (p[k] - m) ** 2 for w, p in ((p[0], p) for p in pairs)) for k, m in ((1, ma), (2, mb)))
            cov = sum(w * (x - ma) * (y - mb) for w, x, y in pairs)
            top_ = (2 * ma * mb + 0.01**2) * (2 * cov + 0.03**2)
            found.append(top_ / ((ma**2 + mb**2 + 0.01**2) * (va + vb + 0.03**2)))
    return sum(found) / len(found)


def test_ssim_is_its_definition():
    a, b = torch.rand(2, 3, 13, 12, generator=generator())
    slow = sum(slow_ssim(a[c].tolist(), b[c].tolist()) for c in range(3)) / 3
    assert ssim(a[None], b[None]).item() == pytest.approx(slow, abs=1e-5)


def test_ssim_is_1_for_the_same_and_falls_with_noise():
    a = torch.rand(4, 3, 16, 16, generator=generator())
    noise = torch.randn(a.shape, generator=generator(1))
    assert ssim(a, a) == pytest.approx(torch.ones(4), abs=1e-5)
    assert (ssim(a, a + 0.05 * noise) > ssim(a, a + 0.5 * noise)).all()
    assert ssim(a, a + 0.2 * noise) == pytest.approx(ssim(a + 0.2 * noise, a), abs=1e-5)


def normal(mean, spread):
    return torch.tensor(mean, dtype=torch.float64), torch.tensor(spread, dtype=torch.float64)


def test_frechet_of_one_dimension_is_the_closed_form():
    found = frechet(normal([1.0], [[4.0]]), normal([-2.0], [[0.25]]))
    assert found == pytest.approx((1 + 2) ** 2 + (2 - 0.5) ** 2)


def test_frechet_of_independent_features_adds_up():
    one, other = normal([0.0, 1.0, 2.0], [[1, 0, 0], [0, 4, 0], [0, 0, 9]]), normal([0.0] * 3, [[0.0] * 3] * 3)
    assert frechet(one, other) == pytest.approx(5 + 14)
    scaled = normal([0.0, 1.0, 2.0], [[4, 0, 0], [0, 4, 0], [0, 0, 1]])
    assert frechet(one, scaled) == pytest.approx((1 - 2) ** 2 + 0 + (3 - 1) ** 2)


def test_frechet_of_correlated_features_agrees_with_the_eigenvalues_of_the_product():
    """tr (C C')^½ is the sum of the roots of the product's eigenvalues, which needs no symmetric root."""
    for seed in range(5):
        samples = torch.randn(2, 40, 6, generator=generator(seed), dtype=torch.float64)
        samples[1] @= torch.randn(6, 6, generator=generator(seed + 9), dtype=torch.float64)
        (m, c), (m_, c_) = moments(samples[0]), moments(samples[1])
        roots = torch.linalg.eigvals(c @ c_).real.clamp(min=0).sqrt().sum()
        wanted = (m - m_).square().sum() + c.trace() + c_.trace() - 2 * roots
        assert frechet((m, c), (m_, c_)) == pytest.approx(wanted.item())
        assert frechet((m_, c_), (m, c)) == pytest.approx(wanted.item())
        assert frechet((m, c), (m, c)) == pytest.approx(0, abs=1e-9)


def test_the_error_of_a_frechet_distance_is_about_its_scatter():
    reference = normal([0.0, 0.0, 0.0], torch.eye(3).tolist())
    found = []
    for seed in range(60):
        values = 1 + torch.randn(170, 3, generator=generator(seed), dtype=torch.float64)
        found.append(frechet_with_error(values, reference))
    distances, errors = torch.tensor(found).unbind(1)
    assert distances.mean().item() == pytest.approx(3, abs=0.2)
    assert errors.mean().item() == pytest.approx(distances.std().item(), rel=0.35)


def test_features_are_32_numbers_that_know_where_and_how_bright():
    torch.manual_seed(0)
    autoencoder = Autoencoder().eval()
    pictures = torch.zeros(3, 3, 64, 64)
    pictures[1, :, :32, :32] = 1
    pictures[2, :, 32:, 32:] = 1
    found = features(autoencoder, pictures)
    assert found.shape == (3, 32) and found.dtype == torch.float64
    latents = autoencoder.encode(pictures[1:2]).detach()
    quarter = latents[0, :, :4, 4:]
    assert found[1, 1:16:4] == pytest.approx(quarter.mean(dim=(1, 2)).double(), abs=1e-5)
    assert found[1, 17:32:4] == pytest.approx(quarter.std(dim=(1, 2), correction=0).double(), abs=1e-4)
    assert not torch.allclose(found[1], found[2])
