"""Re-use: what the Skip phase has measured is not measured again, and a race's answer is checked before it counts."""

import pytest
import torch

from skrr_engine.jobs.job import Job
from skrr_engine.jobs.reuse_phase import expected_gaps
from skrr_engine.jobs.search import Settings, complete
from skrr_engine.measure.execute import assign
from skrr_engine.measure.objective import Objective
from skrr_engine.running.prior import Estimate
from skrr_engine.running.run import Run
from skrr_engine.running.trial import Trial
from skrr_engine.search.beam import next_level
from skrr_engine.search.exact import choose_exactly
from skrr_engine.search.racing import choose_by_racing
from skrr_engine.search.reference import algorithm_2, neighbours
from skrr_engine.search.reuse import reuse_for

CHOOSERS = {"exact": choose_exactly, "fast": choose_by_racing}


def objective_of(tiny, seed, prompts=32):
    like = tiny.objective(tiny.stack(layers=4, seed=seed))
    return Objective(like.stack, tiny.rows(prompts, seed), like.projection)


def whole(objective, assignment):
    run, trial = Run(objective), Trial(objective, assignment)
    run.measure_null([trial])
    run.measure([trial], run.order)
    return trial


def test_errors_come_back_as_they_were(tiny):
    objective = objective_of(tiny, 1)
    trial = whole(objective, assign(8, [2, 5]))
    again = Trial(objective, trial.assignment)
    again.recall(trial.errors(), range(32))
    assert again.total() == trial.total() and torch.equal(again.errors(), trial.errors())


def test_of_errors_only_the_rows_asked_for_are_taken(tiny):
    """A search with a limit of time may have fewer prompts in play than before, or more."""
    objective = objective_of(tiny, 1)
    trial = whole(objective, assign(8, [2, 5]))
    some = Trial(objective, trial.assignment)
    some.recall(trial.errors(), [4, 7])
    assert some.seen.nonzero().flatten().tolist() == [4, 7] and some.squared[7] == trial.squared[7]
    more = Trial(objective, trial.assignment)
    more.recall(some.errors(), range(32))
    assert more.seen.nonzero().flatten().tolist() == [4, 7] and more.null_seen


@pytest.mark.parametrize("mode", CHOOSERS)
@pytest.mark.parametrize("seed", range(3))
def test_what_skip_has_measured_saves_work_and_changes_nothing(tiny, seed, mode):
    objective = objective_of(tiny, seed)
    (candidate, _) = next_level(Run(objective), next_level(Run(objective), [], 2), 2)
    order = candidate.order
    found, work = [], []
    for errors in (None, candidate.errors):
        objective.applications = 0
        found.append(reuse_for(Run(objective), order, CHOOSERS[mode], errors))
        work.append(objective.applications)
    assert found[0][0] == found[1][0] and found[0][1].value == pytest.approx(found[1][1].value, rel=1e-9)
    assert work[1] < work[0]
    expected, theirs = algorithm_2(objective, order)
    if mode == "exact":
        assert found[1][0] == expected and found[1][1].value == pytest.approx(theirs.value, rel=1e-9)


def test_a_wrong_choice_is_not_accepted(tiny):
    """A chooser that is always wrong: re-use still ends no worse than without."""
    objective = objective_of(tiny, 2)
    order = (1, 2, 5)
    skipped = objective.measure(assign(8, order)).value
    asked = []

    def worst(run, tallies, keep):
        asked.append(len(tallies))
        return choose_exactly(run, tallies, None)[-1:]

    reuse, found, _ = reuse_for(Run(objective), order, worst)
    assert len(asked) == 3 and found.value <= skipped * (1 + 1e-9)
    assert found.value == pytest.approx(objective.measure(assign(8, order, reuse)).value, rel=1e-9)


def test_what_is_expected_to_be_hopeless_is_not_tried(tiny):
    """Nothing is measured but the set itself; with nothing expected of one pair, that is tried, and the others are not
    forgotten."""
    objective = objective_of(tiny, 1, prompts=256)
    (candidate, _) = next_level(Run(objective), next_level(Run(objective), [], 2), 2)
    order = candidate.order
    every = [(place, source) for place in order for source in neighbours(place, set(order), 8)]
    bad = dict.fromkeys(every, Estimate(0.5, 0.01))
    before = objective.applications
    pairs, found, gaps = reuse_for(Run(objective), order, choose_by_racing, candidate.errors, bad)
    assert (pairs, objective.applications) == ({}, before)
    assert found.value == pytest.approx(candidate.discrepancy.value, rel=1e-9)
    assert gaps == {pair: pytest.approx((0.5, 0.01)) for pair in every}
    bad[every[0]] = Estimate(0.0, 100.0)
    gaps = reuse_for(Run(objective), order, choose_by_racing, candidate.errors, bad).gaps
    assert objective.applications > before and gaps.keys() == set(every)
    assert gaps[every[0]].variance < 1 and gaps[every[1]] == pytest.approx((0.5, 0.01))


def test_the_relative_gaps_are_those_measured_alone(tiny):
    """By the slow way, each pair alone beside those accepted before its place, on all prompts: mostly within the
    race's own standard deviation."""
    off = []
    for seed in range(6):
        objective = objective_of(tiny, seed, prompts=128)
        order = (1, 4, 6)
        pairs, _, gaps = reuse_for(Run(objective, fast=True), order, choose_by_racing)
        for (place, source), gap in gaps.items():
            accepted = {p: pairs[p] for p in order[: order.index(place)] if p in pairs}
            without = objective.measure(assign(8, order, accepted)).value
            really = objective.measure(assign(8, order, {**accepted, place: source})).value / without - 1
            off.append(abs(gap.mean - really) / (gap.variance**0.5 + 1e-9))
    assert len(off) > 12 and sorted(off)[len(off) // 2] < 1.5 and max(off) < 6


def test_the_exact_mode_expects_nothing(tiny):
    """What a race would not even try is measured all the same."""
    objective = objective_of(tiny, 1)
    order = (1, 4, 6)
    expected = reuse_for(Run(objective), order)
    every = [(place, source) for place in order for source in neighbours(place, set(order), 8)]
    found = reuse_for(Run(objective), order, expected=dict.fromkeys(every, Estimate(0.5, 0.0)))
    assert found == expected and found.gaps == {}


def test_the_fast_mode_tries_less_on_every_smaller_level(tiny):
    """In the file of a search: what a larger level has found clearly worse is expected to be so on the smaller one,
    and not tried there."""
    handed_on = 0
    for seed in range(2):
        job = Job(objective_of(tiny, seed), Settings("t5xxl", 0.6, beam=2, mode="fast"), None)
        complete(job)
        rungs = job.rungs()
        for n in range(len(rungs) - 1):
            expected = expected_gaps(job, rungs, n)
            found = job.saved.reuse_gaps(n)
            for pair in found.keys() & expected.keys():
                if found[pair] == pytest.approx(expected[pair], rel=1e-9):
                    handed_on += 1
                    assert expected[pair].mean > 0
    assert handed_on
