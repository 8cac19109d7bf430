"""Sub-blocks that nothing reads: a search takes them first and measures nothing else for it."""

import pytest

from skrr_engine.jobs.search import Settings, find_plan
from skrr_engine.measure.objective import Objective
from skrr_engine.measure.projection import no_projection
from skrr_engine.running.run import Run
from skrr_engine.search.beam import next_level
from skrr_engine.search.reference import algorithm_1
from skrr_engine.search.reuse import find_reuse

DEAD = {6, 7}


def clip(tiny, outputs=("sequence",), layer=2):
    """A CLIP of 4 layers."""
    return Objective(tiny.clip_stack(layers=4, layer=layer), tiny.rows(pooled=True), no_projection(outputs))


def test_what_is_dead_depends_on_what_is_read(tiny):
    assert set(clip(tiny).dead) == DEAD
    assert not clip(tiny, layer=1).dead
    assert not clip(tiny, ("sequence", "pooled")).dead and not clip(tiny, ("pooled",)).dead
    assert set(clip(tiny, layer=3).dead) == {4, 5, 6, 7}
    assert not tiny.objective(tiny.stack()).dead


def test_dead_ones_go_first_and_the_rest_is_as_published(tiny):
    objective, levels = clip(tiny), 5
    published = algorithm_1(objective, 3, levels)
    run, beams = Run(objective), []
    for number in range(levels):
        before = objective.applications
        beams = next_level(run, beams, 3)
        order, found = beams[0].order, beams[0].discrepancy
        assert set(order) == set(published[number][0])
        assert found.value == pytest.approx(published[number][1].value, rel=1e-9, abs=1e-15)
        if number < 2:  # two candidates, then one: dead ones only
            assert set(order) <= DEAD and found.value == pytest.approx(0, abs=1e-15)
            dense = objective.tokens * 8 * (not number)
            assert objective.applications - before <= 9 * objective.tokens + dense


def test_nothing_is_re_used_where_nothing_is_read(tiny, monkeypatch):
    """Not even tried."""
    measured, plain = [], Run._sweep
    spy = lambda run, some, portions: (measured.extend(some), plain(run, some, portions))[1]  # noqa: E731
    monkeypatch.setattr(Run, "_sweep", spy)
    pairs, _ = find_reuse(clip(tiny), (7, 6, 3, 0))
    assert not DEAD & set(pairs)
    assert any(places[3] is not None for places in measured)
    assert all(places[place] is None for places in measured for place in DEAD)


@pytest.mark.parametrize("mode", ["exact", "fast"])
def test_a_plan_begins_with_what_is_free(tiny, mode):
    objective = clip(tiny)
    settings = Settings("clip_l", objective.stack.sparsity((1, 3, 6, 7)), mode=mode)
    plan = find_plan(objective, settings)
    cuts = [level.cuts["clip_l"] for level in plan.levels]
    assert all(set(cut.skip) <= DEAD for cut in cuts[:2])
    assert all(set(cut.skip[:2]) == DEAD and not DEAD & set(cut.reuse_map) for cut in cuts[2:])
    assert len(cuts) >= 4


def test_files_of_searches_that_knew_no_dead_ones_go_on_only_where_there_are_none(tiny, tmp_path, monkeypatch):
    """A file begun before is another search's where sub-blocks are dead, and this one's everywhere else."""
    settings = Settings("clip_l", 0.1)
    for objective, same in ((clip(tiny), False), (clip(tiny, layer=1), True)):
        folder = tmp_path / str(same)
        folder.mkdir()
        with monkeypatch.context() as earlier:
            earlier.setattr(Objective, "dead", range(0))
            find_plan(objective, settings, folder)
        find_plan(objective, settings, folder)
        assert (len(list(folder.iterdir())) == 1) is same
