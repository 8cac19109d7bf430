"""The look back: a set without one of its sub-blocks against the best set that the level before has kept."""

import pytest

from skrr_engine.events import LevelDone
from skrr_engine.jobs.search import find_plan
from skrr_engine.jobs.settings import Settings
from skrr_engine.measure.execute import assign
from skrr_engine.measure.objective import Objective
from skrr_engine.running.run import Run
from skrr_engine.search.beam import next_level
from skrr_engine.search.candidate import Candidate
from skrr_engine.search.exact import choose_exactly
from skrr_engine.search.look_back import look_back
from skrr_engine.search.racing import choose_by_racing


class Beams:
    """Notes what the levels of a search have kept first."""

    def __init__(self, orders: list):
        self.orders = orders

    def __call__(self, event):
        if isinstance(event, LevelDone):
            self.orders.append(event.beams[0].order)


def objective_of(tiny, seed, layers=4, prompts=20):
    like = tiny.objective(tiny.stack(layers=layers, seed=seed))
    return Objective(like.stack, tiny.rows(prompts, seed), like.projection)


@pytest.mark.parametrize("choose", [choose_exactly, choose_by_racing])
@pytest.mark.parametrize("seed", range(4))
def test_the_best_part_is_found(tiny, seed, choose):
    """Against measuring every subset on all prompts, with an incumbent that is far from the best."""
    objective = objective_of(tiny, seed)
    levels = [next_level(Run(objective), [], None)]
    levels.append(next_level(Run(objective), levels[0], None))
    worst = Candidate(levels[1][-1].order, objective.measure(assign(8, levels[1][-1].order)))
    (best, *_) = next_level(Run(objective), levels[1], 1)
    parts = [tuple(i for i in best.order if i != out) for out in best.order]
    values = {order: objective.measure(assign(8, order)).value for order in parts if set(order) != set(worst.order)}
    found, _ = look_back(Run(objective), [worst], best, choose, {})
    least = min(values, key=values.get)
    assert found.order == least and found.discrepancy.value == pytest.approx(values[least], rel=1e-9)
    again, _ = look_back(Run(objective), [found], best, choose, {})
    assert again is None


def test_what_the_beams_have_is_not_measured_again(tiny):
    objective = objective_of(tiny, 1)
    beams = next_level(Run(objective), next_level(Run(objective), [], None), None)
    (best,) = next_level(Run(objective), beams, 1)
    before = objective.applications
    assert look_back(Run(objective), beams, best, choose_by_racing, {}) == (None, {})
    assert objective.applications == before


def test_a_search_takes_the_better_set(tiny, tmp_path):
    """With one beam a search passes sets by. Levels of the fast mode are no worse than what its beam kept first,
    some better; a longer search that goes on from a shorter one ends as one from the start."""
    better = 0
    for seed in range(1, 5):
        objective, kept = objective_of(tiny, seed, layers=6, prompts=32), []
        objective.report = Beams(kept)
        settings = Settings("t5xxl", 0.6, beam=1, mode="fast", reuse=False)
        plan = find_plan(objective, settings)
        for level, theirs in zip(plan.levels, kept, strict=True):
            ours = level.cuts["t5xxl"].skip
            gain = objective.measure(assign(12, theirs)).value - objective.measure(assign(12, ours)).value
            assert gain >= 0 and (gain > 0) == (set(ours) != set(theirs))
            better += gain > 0
        objective.report = lambda event: None
        find_plan(objective, Settings("t5xxl", 0.3, beam=1, mode="fast", reuse=False), tmp_path / f"{seed}.json")
        assert find_plan(objective, settings, tmp_path / f"{seed}.json").levels == plan.levels
    assert better > 2


def test_the_exact_mode_does_not_look_back(tiny):
    objective, kept = objective_of(tiny, 2, layers=6), []
    objective.report = Beams(kept)
    plan = find_plan(objective, Settings("t5xxl", 0.6, beam=1, mode="exact", reuse=False))
    assert [level.cuts["t5xxl"].skip for level in plan.levels] == kept
