"""Races among trials whose errors are made up: how many go on, what the final goes by, and what a gap is made of."""

import math

import pytest
import torch

from skrr_engine.running.prior import Estimate
from skrr_engine.search.racing import choose_by_racing, gap

from .made_up import made, names, table


@pytest.fixture
def run(tiny):
    return lambda errors: made(tiny, errors)


@pytest.mark.parametrize("keep", [1, 3])
def test_a_race_finds_about_the_best_and_reads_less(run, keep):
    """Of trials that differ by half: on average the first is within a percent of the best, and the last kept of the
    last that should be."""
    read = everything = 0
    first, last = [], []
    for seed in range(5):
        here = run(table(seed, 0.5, rows=200))
        value = {a: (row[:-1].mean() + row[-1]).item() for a, row in here.errors.items()}
        found = names(choose_by_racing(here, trials := here.trials(), keep))
        assert len(found) == keep == len(set(found))
        first.append(value[found[0]] / value[here.ranked()[0]] - 1)
        last.append(max(map(value.get, found)) / value[here.ranked()[keep - 1]] - 1)
        assert all(trial.gap is not None for trial in trials)
        read, everything = read + here.read, everything + 28 * 201
    assert sum(first) / 5 < 0.05 and sum(last) / 5 < 0.05
    assert read < everything / 2


@pytest.mark.parametrize("trials, first", [(8, 16), (9, 12)])
def test_the_first_chunk_is_larger_where_it_may_decide(run, trials, first):
    here = run(table(0, 0.1, trials=trials))
    choose_by_racing(here, here.trials(), 1)
    assert here.asked[0] == (trials, first)


def test_half_of_them_go_on_at_most_and_the_prompts_double(run):
    """Trials that are all alike: nothing but the rule drops any."""
    here = run(table(1, 0.0, rows=200))
    choose_by_racing(here, here.trials(), 3)
    assert here.asked[:3] == [(28, 12), (14, 24), (7, 48)]
    assert here.asked[3] == (6, 96), "twice as many as are kept may always go on"


def test_the_final_goes_by_all_that_the_race_has_seen(run):
    """The first sixteen prompts speak for one trial, the rest for another; a third one keeps the race going to 32."""
    here = run(torch.zeros(3, 65, dtype=torch.float64))
    one, two, three = trials = here.trials()
    order = here.shuffled(trials)
    early, late = order[:16], order[16:]
    for trial, first, rest in ((one, 1.0, 3.0), (two, 2.0, 1.0), (three, 2.05, 9.0)):
        errors = here.errors[trial.assignment]
        errors[early], errors[late] = first, rest
        errors[early] += 1e-3 * torch.arange(16, dtype=torch.float64)
    here.errors[three.assignment][early] += torch.tensor([0.5, -0.5] * 8, dtype=torch.float64)
    assert names(choose_by_racing(here, trials, 2))[0] == two.assignment
    assert here.asked == [(3, 16), (3, 32), (2, 64)]


def test_on_all_prompts_a_gap_is_what_was_measured(run):
    here = run(table(2, 0.5))
    one, two = trials = here.trials()[:2]
    for trial in trials:
        trial.expected = Estimate(7.0, 0.1)
    here.measure_null(trials)
    here.measure(trials, here.order)
    found = gap(here, one, two, here.order)
    assert found.mean == pytest.approx(here.discrepancy(one).value - here.discrepancy(two).value, rel=1e-9)
    assert found.variance == 0
    assert gap(here, one, one, here.order) == (0, 0)


def test_a_gap_is_prior_and_measurement_by_their_precisions(run):
    here = run(table(3, 0.5))
    one, two = trials = here.trials()[:2]
    rows = here.order[:15]
    here.measure_null(trials)
    here.measure(trials, rows)
    differences = here.errors[one.assignment][rows] - here.errors[two.assignment][rows]
    null = (here.errors[one.assignment][-1] - here.errors[two.assignment][-1]).item()
    mean, variance = differences.mean().item() + null, differences.var().item() / 15 * (1 - 15 / 60)
    assert gap(here, one, two, rows) == pytest.approx((mean, variance))
    one.expected, two.expected = Estimate(5.0, 0.02), Estimate(4.0, 0.03)
    total = 1 / variance + 1 / 0.05
    assert gap(here, one, two, rows) == pytest.approx(((mean / variance + 1.0 / 0.05) / total, 1 / total))
    assert gap(here, one, two, ()) == pytest.approx((1.0, 0.05))
    assert math.isinf(here.standard_error(one, two, rows[:1]))
    assert gap(here, one, two, rows[:1]) == pytest.approx((1.0, 0.05)), "one prompt says nothing of its own spread"
