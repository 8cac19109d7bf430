"""Re-use: what the Skip phase has measured is not measured again, and a race's answer is checked before it counts."""

import pytest
import torch

from skrr_engine.beam import next_level
from skrr_engine.exact import choose_exactly
from skrr_engine.execute import assign
from skrr_engine.objective import Objective, Tally
from skrr_engine.racing import choose_by_racing
from skrr_engine.reference import algorithm_2
from skrr_engine.reuse import reuse_for
from skrr_engine.run import Run

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

    reuse, found = reuse_for(Run(objective), order, worst)
    assert len(asked) == 3 and found.value <= skipped * (1 + 1e-9)
    assert found.value == pytest.approx(objective.measure(assign(8, order, reuse)).value, rel=1e-9)
