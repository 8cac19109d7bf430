"""The closed forms of the published searches' work against searches that are run and counted."""

import pytest

from skrr_engine.running.run import Run
from skrr_engine.search.beam import next_level
from skrr_engine.search.reference import algorithm_1, algorithm_2
from skrr_engine.search.work import dense_work, published_work, reuse_work, skip_work


def kept(objective, beam, levels):
    """The sets that every level keeps."""
    run, beams, found = Run(objective), [], []
    for _ in range(levels):
        beams = next_level(run, beams, beam)
        found.append([candidate.order for candidate in beams])
    return found


@pytest.mark.parametrize("beam", [1, 3])
def test_the_closed_forms_equal_a_run(tiny, beam):
    """Skip with beams that meet in one set, the dense features, and Re-use with pairs accepted."""
    objective = tiny.objective(tiny.stack(layers=3, seed=4))
    levels = kept(objective, beam, 3)
    objective = tiny.objective(tiny.stack(layers=3, seed=4))
    reference = algorithm_1(objective, beam, 3)
    assert [order for order, _ in reference] == [beams[0] for beams in levels]
    dense = dense_work(6, objective.tokens)
    assert objective.applications == dense + skip_work(6, objective.tokens, levels)
    for order, _ in reference:
        before = objective.applications
        pairs, _ = algorithm_2(objective, order)
        assert objective.applications - before == reuse_work(6, objective.tokens, order, pairs)


def test_beams_that_never_meet_are_the_printed_algorithm():
    """The paper's setting: 48 sub-blocks, 24 levels, beam size 3 are 2,532 evaluations, about 1,922 dense passes."""
    evaluations = sum((3 if n > 1 else 1) * (48 - n + 1) for n in range(1, 25))
    assert evaluations == 2532
    assert round(published_work(48, 1, 3, 24) / 48) == 1922
    # Beams of one set each: nothing can meet.
    assert published_work(6, 7, 1, 3) == skip_work(6, 7, [[(5,)], [(5, 1)], [(5, 1, 2)]])
    assert skip_work(6, 7, []) == 0
