"""Re-use: what the Skip phase has measured is not measured again, and a race's answer is checked before it counts."""

from collections import Counter

import pytest
import torch

from skrr_engine.beam import next_level
from skrr_engine.exact import choose_exactly
from skrr_engine.execute import assign
from skrr_engine.objective import Objective, Tally
from skrr_engine.racing import choose_by_racing
from skrr_engine.reference import algorithm_2, neighbours
from skrr_engine.reuse import reuse_for
from skrr_engine.run import Run
from skrr_engine.search import _Search
from skrr_engine.settings import Settings

CHOOSERS = {"exact": choose_exactly, "fast": choose_by_racing}


def objective_of(tiny, seed, prompts=32):
    like = tiny.objective(tiny.stack(layers=4, seed=seed))
    return Objective(like.stack, tiny.rows(prompts, seed), like.projection)


def whole(objective, assignment):
    run, tally = Run(objective), Tally(objective, assignment)
    run.measure_null([tally])
    run.measure([tally], run.order)
    return tally


def test_errors_come_back_as_they_were(tiny):
    objective = objective_of(tiny, 1)
    tally = whole(objective, assign(8, [2, 5]))
    again = Tally(objective, tally.assignment)
    again.recall(tally.errors(), range(32))
    assert again.total() == tally.total() and torch.equal(again.errors(), tally.errors())


def test_of_errors_only_the_rows_asked_for_are_taken(tiny):
    """A search with a limit of time may have fewer prompts in play than before, or more."""
    objective = objective_of(tiny, 1)
    tally = whole(objective, assign(8, [2, 5]))
    some = Tally(objective, tally.assignment)
    some.recall(tally.errors(), [4, 7])
    assert some.seen.nonzero().flatten().tolist() == [4, 7] and some.squared[7] == tally.squared[7]
    more = Tally(objective, tally.assignment)
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


def test_what_is_hopeless_is_not_tried(tiny):
    """Without any hope nothing is measured but the set itself; with one pair refused the others are still tried."""
    objective = objective_of(tiny, 1)
    (candidate, _) = next_level(Run(objective), next_level(Run(objective), [], 2), 2)
    order = candidate.order
    every = [(place, source) for place in order for source in neighbours(place, set(order), 8)]
    before = objective.applications
    pairs, found, refused = reuse_for(Run(objective), order, errors=candidate.errors, hopeless=every)
    assert (pairs, refused, objective.applications) == ({}, [], before)
    assert found.value == pytest.approx(candidate.discrepancy.value, rel=1e-9)
    pairs, _, refused = reuse_for(Run(objective), order, errors=candidate.errors, hopeless=every[:1])
    assert every[0] not in pairs.items() and every[0] not in refused


@pytest.mark.parametrize("seed", range(4))
def test_the_refused_are_worse_than_going_without(tiny, seed):
    """By the slow way: each refused pair alone, beside those accepted before its place, on all prompts. An exact choice
    gives a trial up when it is worse for certain."""
    objective = objective_of(tiny, seed)
    order = (1, 4, 6)
    pairs, _, refused = reuse_for(Run(objective), order)
    assert refused
    for place, source in refused:
        assert place not in pairs
        accepted = {p: pairs[p] for p in order[: order.index(place)] if p in pairs}
        without = objective.measure(assign(8, order, accepted)).value
        assert objective.measure(assign(8, order, {**accepted, place: source})).value > without


def test_the_fast_mode_gives_up_what_two_larger_levels_refused(tiny):
    """In the file of a search: what two levels have refused is in no smaller one, neither accepted nor refused."""
    found = {}
    for mode in CHOOSERS:
        objective = objective_of(tiny, 3)
        job = _Search(objective, Settings("t5xxl", 0.6, beam=2, mode=mode), None)
        job.go()
        times = Counter()
        again = 0
        for level in sorted(job.state.reuse, key=int, reverse=True):
            entry = job.state.reuse[level]
            named = [*map(tuple, entry["pairs"]), *map(tuple, entry["refused"])]
            again += sum(times[pair] > 1 for pair in named)
            times.update(map(tuple, entry["refused"]))
        found[mode] = again, max(times.values())
    assert found["fast"] == (0, 2) and found["exact"][0] > 0
