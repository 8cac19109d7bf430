"""Exact choices against measuring everything, races against exact choices, on errors that are made up or measured."""

from itertools import combinations

import pytest
import torch

from skrr_engine.events import Notice, Step
from skrr_engine.measure.execute import assign
from skrr_engine.measure.objective import Objective
from skrr_engine.running.run import Run
from skrr_engine.running.trial import Trial
from skrr_engine.search.exact import choose_exactly
from skrr_engine.search.racing import FIRST, choose_by_racing, expected_improvement


def pairs(objective):
    """A trial for every set of two skipped sub-blocks."""
    count = len(objective.stack.subblocks)
    return [Trial(objective, assign(count, two)) for two in combinations(range(count), 2)]


def ranked(objective):
    """The assignments of `pairs`, best first, each measured alone."""
    return sorted(pairs(objective), key=lambda trial: objective.measure(trial.assignment).value)


def many(tiny, seed, prompts=24, **options):
    """An objective over `prompts` prompts."""
    like = tiny.objective(tiny.stack(seed=seed))
    return Objective(like.stack, tiny.rows(prompts, seed), like.projection, **options)


def names(trials):
    return [trial.assignment for trial in trials]


@pytest.mark.parametrize("keep", [1, 3, None])
@pytest.mark.parametrize("seed", range(3))
def test_exact_is_the_best_of_all_in_order_for_less_work(tiny, seed, keep):
    objective = many(tiny, seed)
    expected = names(ranked(objective))[:keep]
    objective.applications = 0
    found = choose_exactly(Run(objective), pairs(objective), keep)
    work = objective.applications
    assert names(found) == expected
    assert all(bool(trial.seen.all()) for trial in found)
    objective.applications = 0
    choose_exactly(Run(objective), pairs(objective), None)
    assert work < objective.applications or keep is None


def test_exact_with_the_threshold_known_does_less_still(tiny):
    objective = many(tiny, 1)
    found = choose_exactly(Run(objective), pairs(objective), 3)
    bound, errors = objective.measure(found[-1].assignment).value, sum(trial.squared for trial in found)
    objective.applications = 0
    again = choose_exactly(Run(objective), pairs(objective), 3, bound, errors)
    with_threshold, objective.applications = objective.applications, 0
    choose_exactly(Run(objective), pairs(objective), 3)
    assert names(again) == names(found)
    assert with_threshold < objective.applications


@pytest.mark.parametrize("choose", [choose_exactly, choose_by_racing])
def test_of_equal_ones_the_first_listed_goes_first(tiny, choose, one_at_a_time):
    """Sub-blocks that do nothing can be skipped in any order; being left out must not depend on chance."""
    model = tiny.t5(seed=5)
    for n in (1, 2, 3):
        model.encoder.block[n].layer[1].DenseReluDense.wo.weight.data.zero_()
    from skrr_engine.encoders.t5 import T5Stack

    like = tiny.objective(T5Stack(model))
    objective = Objective(like.stack, tiny.rows(20), like.projection)
    listed = [Trial(objective, assign(8, [i])) for i in (0, 7, 3, 5, 1)]
    assert names(choose(Run(objective), listed, 2)) == [assign(8, [7]), assign(8, [3])]


def test_sets_within_rounding_are_told(tiny):
    model = tiny.t5(seed=5)
    for n in (1, 2):
        model.encoder.block[n].layer[1].DenseReluDense.wo.weight.data.zero_()
    from skrr_engine.encoders.t5 import T5Stack

    events = []
    objective = tiny.objective(T5Stack(model), report=events.append)
    listed = [Trial(objective, assign(8, [i, 0])) for i in (3, 5)]
    choose_exactly(Run(objective), listed, 1)
    (notice,) = [event.text for event in events if isinstance(event, Notice)]
    assert notice.startswith("Within rounding of each other: 0, 3 (D ") and "taken first) and 0, 5 (D " in notice


def test_races_find_nearly_the_best_for_less_work(tiny):
    """The best one, and none kept that is much worse than the worst that should be; over three encoders."""
    work = {choose_by_racing: 0, choose_exactly: 0}
    for seed in range(3):
        objective = many(tiny, seed, prompts=256)
        found = {}
        for choose in work:
            objective.applications = 0
            found[choose] = choose(Run(objective, seed=seed), pairs(objective), 3)
            work[choose] += objective.applications
        kept = [trial.assignment for trials in found.values() for trial in trials]
        value = {assignment: objective.measure(assignment).value for assignment in kept}
        raced, exact = ([value[trial.assignment] for trial in trials] for trials in found.values())
        assert raced[0] <= 1.02 * exact[0]
        assert max(raced) <= 1.05 * exact[-1]
    assert work[choose_by_racing] < work[choose_exactly] / 1.5


def test_a_race_of_few_prompts_is_exact(tiny):
    """Nothing is dropped before everything was seen."""
    for seed in range(3):
        objective = many(tiny, seed, prompts=FIRST)
        assert names(choose_by_racing(Run(objective), pairs(objective), 3)) == names(ranked(objective))[:3]


def test_a_race_is_the_same_again_and_depends_on_the_seed_alone(tiny):
    objective = many(tiny, 2, prompts=64)
    one, two = (choose_by_racing(Run(objective, seed=7), pairs(objective), 3) for _ in range(2))
    assert names(one) == names(two)
    assert all(torch.equal(a.seen, b.seen) for a, b in zip(one, two, strict=True))
    assert Run(objective, seed=7).order != Run(objective, seed=8).order


@pytest.mark.parametrize("gap, deviation", [(0.0, 1.0), (0.5, 1.0), (2.0, 0.7), (1e-3, 1e-4), (5.0, 1.0)])
def test_the_expected_improvement_is_that_of_a_normal(gap, deviation):
    """Against the integral, summed."""
    x = torch.linspace(-12 * deviation - gap, 0, 200_001, dtype=torch.float64)
    density = torch.exp(-(((x - gap) / deviation) ** 2) / 2) / (deviation * (2 * torch.pi) ** 0.5)
    expected = torch.trapezoid(-x * density, x).item()
    assert expected_improvement(gap, deviation) == pytest.approx(expected, rel=1e-5, abs=1e-15)


def test_the_expected_improvement_without_variance_and_with_an_infinite_one():
    assert expected_improvement(0.3, 0.0) == 0 and expected_improvement(0.3, torch.inf) == torch.inf


def test_a_race_weighs_the_null_prompt_as_the_objective_does(tiny):
    """Two prompts in play and a heavy null prompt: the null term decides at once."""
    objective = many(tiny, 3, prompts=32, null_weight=1e6)
    best = min(pairs(objective), key=lambda trial: objective.measure(trial.assignment).null)
    assert names(choose_by_racing(Run(objective), pairs(objective), 1)) == names([best])


@pytest.mark.parametrize("choose", [choose_exactly, choose_by_racing])
def test_steps_add_up_to_the_candidates(tiny, choose):
    """What is given up counts as done: a bar that is fed by steps ends where it should."""
    steps = []
    objective = many(tiny, 1, report=lambda event: steps.append(event) if isinstance(event, Step) else None)
    first, *_ = choose(Run(objective), pairs(objective), 3)
    Run(objective).give_up(first)
    assert sum(step.evaluations for step in steps) == pytest.approx(len(pairs(objective)))


def test_rows_in_play(tiny):
    """Fewer prompts: bounds and estimates are over those alone, and no other is run."""
    objective = many(tiny, 1, prompts=32)
    run = Run(objective, seed=3)
    run.limit(16)
    (best,) = choose_exactly(run, pairs(objective), 1)
    assert sorted(run.order) == best.seen.nonzero().flatten().tolist()
    smaller = Objective(objective.stack, tiny.rows(32, 1), objective.projection)
    values = {t.assignment: value_on(smaller, run.order, t) for t in pairs(smaller)}
    assert best.assignment == min(values, key=values.get)
    assert run.discrepancy(best).value == pytest.approx(values[best.assignment], rel=1e-9)


def value_on(objective, rows, trial):
    """D over the prompts `rows`, from measurements on all prompts."""
    run = Run(objective)
    run.measure_null([trial])
    run.measure([trial], range(run.rows))
    return trial.squared[rows].mean().item() + trial.null
