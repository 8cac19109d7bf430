"""Intervals, correlations and verdicts of the tables, each against a slow definition or a known truth."""

import itertools

import pytest
import torch

from benchmarks.tables.statistics import Estimate, correlation, estimate, ranks, spearman, verdict

GROUPS = [range(0, 20), range(20, 40), range(40, 60)]


def random(*shape, seed=0):
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_the_mean_is_that_of_the_tasks_not_of_the_cases():
    groups = [range(0, 2), range(2, 12)]
    values = torch.tensor([1.0] * 2 + [0.0] * 10)
    assert estimate(groups, values).value == 0.5


def test_the_interval_covers_the_truth_as_often_as_it_says():
    rates = (0.2, 0.5, 0.9)
    truth, inside = sum(rates) / 3, 0
    for seed in range(200):
        drawn = torch.cat([(random(20, seed=3 * seed + n) < rate) for n, rate in enumerate(rates)])
        found = estimate(GROUPS, drawn.double(), seed)
        inside += found.low <= truth <= found.high
    assert 180 <= inside <= 198


def test_the_interval_is_a_bootstrap_within_tasks_and_over_plans():
    values = random(4, 60, seed=5)
    found, generator = estimate(GROUPS, values), torch.Generator().manual_seed(99)
    means = []
    for _ in range(2000):
        plans = torch.randint(4, (4,), generator=generator)
        drawn = torch.cat([torch.tensor(g)[torch.randint(20, (20,), generator=generator)] for g in GROUPS])
        means.append(values[plans][:, drawn].mean().item())
    low, high = torch.tensor(means).quantile(torch.tensor([0.025, 0.975])).tolist()
    assert found.value == pytest.approx(values.mean().item())
    assert (found.low, found.high) == pytest.approx((low, high), abs=0.006)
    assert found.smallest == pytest.approx((found.high - found.low) / 2)


def test_plans_that_differ_widen_the_interval():
    same = random(1, 60).expand(4, -1)
    moved = same + torch.tensor([-0.3, -0.1, 0.1, 0.3])[:, None]
    assert estimate(GROUPS, moved).smallest > 2 * estimate(GROUPS, same).smallest


def test_a_difference_that_every_case_has_is_without_noise():
    values = random(60)
    found = estimate(GROUPS, values + 0.25 - values)
    assert (found.low, found.value, found.high) == pytest.approx((0.25, 0.25, 0.25))


def slow_ranks(values):
    return [1 + sum(b < a for b in values) + (sum(b == a for b in values) - 1) / 2 for a in values]


def slow_spearman(a, b):
    a, b = slow_ranks(a), slow_ranks(b)
    ma, mb = sum(a) / len(a), sum(b) / len(b)
    top = sum((x - ma) * (y - mb) for x, y in zip(a, b, strict=True))
    return top / (sum((x - ma) ** 2 for x in a) * sum((y - mb) ** 2 for y in b)) ** 0.5


@pytest.mark.parametrize("levels", [3, 1000])
def test_ranks_and_spearman_against_their_definition(levels):
    for seed in range(20):
        a, b = ((random(15, seed=2 * seed + n) * levels).floor() for n in (0, 1))
        assert ranks(a).tolist() == slow_ranks(a.tolist())
        assert spearman(a, b).item() == pytest.approx(slow_spearman(a.tolist(), b.tolist()))


def test_spearman_without_ties_is_the_formula_of_squared_differences():
    for order in itertools.permutations(range(5)):
        gap = sum((i - rank) ** 2 for i, rank in enumerate(order))
        assert spearman(torch.arange(5.0), torch.tensor(order)).item() == pytest.approx(1 - 6 * gap / (5 * 24))


def test_a_constant_predicts_nothing():
    assert spearman(torch.ones(6), torch.arange(6.0)).item() == 0
    found = correlation(torch.ones(6), torch.arange(6.0))
    assert (found.value, found.low, found.high) == (0, 0, 0)


def test_a_correlation_is_found_and_its_interval_holds_it():
    score = random(60)
    found = correlation(score + 0.3 * random(60, seed=1), score)
    assert 0.5 < found.low < found.value < found.high < 1
    nothing = correlation(random(60, seed=2), score)
    assert nothing.low < 0 < nothing.high


def test_rivals_are_compared_over_the_same_draws():
    score, noise = random(60), random(60, seed=1)
    good, bad = score + 0.1 * noise, score + 2 * noise
    assert correlation(good, score, bad).low > 0
    assert correlation(bad, score, good).high < 0
    same = correlation(good, score, 3 * good)
    assert (same.value, same.low, same.high) == (0, 0, 0)


@pytest.mark.parametrize(
    "low, high, said",
    [
        (0.1, 0.2, "reproduced"), (-0.2, -0.1, "not reproduced"), (-0.1, 0.1, "within noise"),
        (0.0, 0.1, "within noise"), (-0.1, 0.0, "within noise"), (0.0, 0.0, "within noise"),
    ],
)  # fmt: skip
def test_the_rule_of_the_verdicts(low, high, said):
    assert verdict(Estimate((low + high) / 2, low, high)) == said
