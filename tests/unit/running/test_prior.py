"""The prior that one level gives the next, against measuring it, and what a race makes of it."""

import pytest
import torch

from skrr_engine.measure.execute import assign
from skrr_engine.measure.objective import Objective
from skrr_engine.running.prior import Estimate, widened
from skrr_engine.running.run import Run
from skrr_engine.running.trial import Trial
from skrr_engine.search.beam import next_level
from skrr_engine.search.racing import FIRST, choose_by_racing, gap


def objective_of(tiny, seed, prompts):
    like = tiny.objective(tiny.stack(layers=4, seed=seed))
    return Objective(like.stack, tiny.rows(prompts, seed), like.projection)


def value(objective, order):
    return objective.measure(assign(8, order)).value


def whole(run, *orders):
    trials = [Trial(run.objective, assign(8, order)) for order in orders]
    run.measure_null(trials)
    run.measure(trials, run.order)
    return trials


@pytest.mark.parametrize("seed", range(3))
def test_the_prior_is_the_sum_of_what_was_measured(tiny, seed):
    """So few prompts that every measurement is on all of them: D(w) + D(b + c) - D(b), to rounding, and no variance but
    that of the sum. Of what a race gave up on the level before less is known."""
    objective = objective_of(tiny, seed, FIRST)
    level, before = [], 0.0
    for size in (1, 2, 3):
        level = next_level(Run(objective), level, 3, choose_by_racing)
        best, known, children = value(objective, level[0].order), 0, 0
        for kept in level:
            *parent, _ = kept.order
            own, left = value(objective, kept.order), value(objective, parent)
            assert kept.prior.gap == pytest.approx(own - best, rel=1e-6, abs=1e-9)
            assert all(kept.prior.children[n].isnan().all() for n in kept.order)
            for child in set(range(8)) - set(kept.order):
                expected, children = kept.prior.of(child), children + 1
                least = (0.3 * (best - before)) ** 2
                if expected.variance == pytest.approx(least, rel=1e-6):
                    assert expected.mean == pytest.approx(own + value(objective, [*parent, child]) - left, rel=1e-6)
                    known += 1
                else:
                    assert expected.variance > least
        assert known == children if size == 1 else known > 1
        before = best


def test_the_prior_predicts_most_of_the_next_level(tiny):
    """Of what a sub-block costs, most is known a level ahead: over six encoders."""
    off, spread = [], []
    for seed in range(6):
        objective = objective_of(tiny, seed, 64)
        (best, *_) = next_level(Run(objective), [], 3, choose_by_racing)
        children = [child for child in range(8) if child not in best.order]
        real = torch.tensor([value(objective, [*best.order, child]) for child in children])
        predicted = torch.tensor([best.prior.of(child).mean for child in children])
        off.append((predicted - real).square().mean())
        spread.append(real.var(correction=0))
    assert sum(off) < 0.3 * sum(spread)


def test_the_gap_weighs_prior_and_measurement_by_precision(tiny):
    run = Run(objective_of(tiny, 1, 40))
    one, two = whole(run, [1], [4])
    rows = run.order[:16]
    measured = gap(run, one, two, rows)
    assert measured.mean == pytest.approx(run.value(one, rows) - run.value(two, rows))
    assert measured.variance == pytest.approx(run.standard_error(one, two, rows) ** 2 * (1 - 16 / 40))
    one.expected, two.expected = Estimate(3.0, 0.5), Estimate(1.0, 0.25)
    assert gap(run, one, two, ()) == Estimate(2.0, 0.75)
    weights = 1 / torch.tensor([measured.variance, 0.75], dtype=torch.float64)
    mean = (weights * torch.tensor([measured.mean, 2.0], dtype=torch.float64)).sum() / weights.sum()
    assert gap(run, one, two, rows) == pytest.approx((mean.item(), 1 / weights.sum().item()))
    assert gap(run, one, two, run.order) == (run.value(one, run.order) - run.value(two, run.order), 0.0)
    assert gap(run, one, one, rows) == (0.0, 0.0)


def test_what_is_expected_to_be_hopeless_is_not_measured(tiny):
    """And its gap to the winner is the expected one."""
    run = Run(objective_of(tiny, 2, 256))
    trials = [Trial(run.objective, assign(8, [n])) for n in range(8)]
    known = whole(run, *([n] for n in range(8)))
    for trial, real in zip(trials, known, strict=True):
        trial.expected = Estimate(run.discrepancy(real).value, 1e-12)
    trials[3].expected = Estimate(100.0, 1.0)
    kept = choose_by_racing(run, trials, 2)
    assert trials[3] not in kept and not trials[3].seen.any() and not trials[3].null_seen
    first = run.discrepancy(known[trials.index(kept[0])]).value
    assert trials[3].gap.mean == pytest.approx(100 - first, rel=1e-3)
    assert trials[3].gap.variance == pytest.approx(1.0, rel=1e-3)
    assert kept[0].gap == (0.0, 0.0)


def test_a_vague_expectation_changes_nothing(tiny):
    run = Run(objective_of(tiny, 3, 128), seed=5)
    found = []
    for vague in (False, True):
        trials = [Trial(run.objective, assign(8, [n])) for n in range(8)]
        for n, trial in enumerate(trials):
            trial.expected = Estimate(1.0 + n, 1e12) if vague else None
        found.append([(trial.assignment, trial.seen.tolist()) for trial in choose_by_racing(run, trials, 3)])
    assert found[0] == found[1]


def test_a_wrong_expectation_is_overcome(tiny):
    """The best one was expected to be the worst, by as much as can be wrong."""
    run = Run(objective_of(tiny, 4, 128))
    known = whole(run, *([n] for n in range(8)))
    real = [run.discrepancy(trial).value for trial in known]
    trials = [Trial(run.objective, assign(8, [n])) for n in range(8)]
    best = min(range(8), key=real.__getitem__)
    for n, trial in enumerate(trials):
        trial.expected = Estimate(max(real) if n == best else real[n], max(real) ** 2)
    (found,) = choose_by_racing(run, trials, 1)
    assert found is trials[best]


def test_variances_grow_from_level_to_level():
    assert widened({"a": Estimate(0.1, 0.01)}, 0.2) == {"a": pytest.approx((0.1, 0.01 + (0.15 * 0.2) ** 2))}


def test_every_choice_takes_the_prompts_in_another_order(tiny):
    run = Run(objective_of(tiny, 1, 64))
    one, two = ([Trial(run.objective, assign(8, [n, k])) for n in range(3)] for k in (5, 6))
    again = Run(run.objective)
    assert run.shuffled(one) == again.shuffled(one) != run.shuffled(two)
    assert sorted(run.shuffled(one)) == sorted(run.order)
    assert Run(run.objective, seed=1).shuffled(one) != run.shuffled(one)
    run.limit(10)
    assert sorted(run.shuffled(one)) == sorted(run.order) and len(run.order) == 10
