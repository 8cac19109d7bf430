"""The searches against brute force, against each other and against the published special cases."""

from itertools import combinations

import pytest

from skrr_engine.encoders.t5 import T5Stack
from skrr_engine.jobs.search import Settings, find_plan, refine_plan
from skrr_engine.measure.execute import assign
from skrr_engine.measure.sweep import measure_many
from skrr_engine.running.run import Run
from skrr_engine.search.beam import next_level
from skrr_engine.search.reference import algorithm_1, algorithm_2, neighbours
from skrr_engine.search.reuse import find_reuse


def run_beam(objective, beam, levels):
    run, beams, best = Run(objective), [], []
    for _ in range(levels):
        beams = next_level(run, beams, beam)
        best.append((beams[0].order, beams[0].discrepancy))
    return best


def same(found, expected):
    """Equal up to the rounding of float64: streams that are stacked make other matrix shapes."""
    return found.to_json() == pytest.approx(expected.to_json(), rel=1e-9, abs=1e-15)


def same_ladder(found, expected):
    """Equal orders, discrepancies up to rounding."""
    pairs = list(zip(found, expected, strict=True))
    return all(a[0] == b[0] for a, b in pairs) and all(same(a[1], b[1]) for a, b in pairs)


def test_unlimited_beam_finds_the_best_set_of_every_size(tiny):
    """Brute force over all 2^6 sets of a 3-layer encoder agrees with the beam search at unlimited k."""
    objective = tiny.objective(tiny.stack(layers=3, seed=3))
    found = run_beam(objective, None, 6)
    for size in range(1, 7):
        sets = {frozenset(s): objective.measure(assign(6, s)).value for s in combinations(range(6), size)}
        order, discrepancy = found[size - 1]
        assert discrepancy.value == pytest.approx(min(sets.values()), rel=1e-9)
        assert sets[frozenset(order)] == min(sets.values())


@pytest.mark.parametrize("seed", range(12))
def test_first_search_equals_reference(tiny, seed):
    """Orders, discrepancies and re-use pairs of both are equal on 12 random encoders: each depth, each beam."""
    objective = tiny.objective(tiny.stack(layers=2 + seed % 3, seed=seed), seed=seed)
    levels = 4
    reference = algorithm_1(objective, 1 + seed % 4, levels)
    assert same_ladder(run_beam(objective, 1 + seed % 4, levels), reference)
    for order, _ in reference:
        (pairs, ours), (expected, theirs) = find_reuse(objective, order), algorithm_2(objective, order)
        assert pairs == expected and same(ours, theirs)


def test_first_search_equals_reference_on_clip(tiny):
    """The same on a CLIP whose read-out takes an inner layer and the pooled last one."""
    objective = tiny.objective(tiny.clip_stack(layers=3, seed=5, layer=2), project=False)
    assert same_ladder(run_beam(objective, 3, 4), algorithm_1(objective, 3, 4))


def finercut(objective, levels):
    """FinerCut's rule written out: remove the one sub-block whose removal moves the output least, again and again."""
    count, order = len(objective.stack.subblocks), ()
    for _ in range(levels):
        rest = [i for i in range(count) if i not in order]
        order = (*order, min(rest, key=lambda i: objective.measure(assign(count, (*order, i))).conditional))
    return order


@pytest.mark.parametrize("seed", range(3))
def test_finercut_is_the_special_case(tiny, seed):
    """k = 1, no null term, no projection."""
    objective = tiny.objective(tiny.stack(seed=seed), project=False, null_weight=0.0)
    assert run_beam(objective, 1, 6)[-1][0] == finercut(objective, 6)


def test_sweep_equals_measuring_alone_with_less_work(tiny):
    """With re-use in the assignments, and with fewer sub-block applications."""
    objective = tiny.objective(tiny.stack(layers=4))
    assignments = [assign(8, [i, 6], {6: 4} if i != 4 else {}) for i in range(8) if i != 6]
    together = measure_many(objective, assignments)
    shared, objective.applications = objective.applications, 0
    assert list(together) == assignments
    assert all(same(found, objective.measure(assignment)) for assignment, found in together.items())
    assert shared < objective.applications


def test_neighbours_are_nearest_kept_of_the_same_kind():
    assert neighbours(5, {5, 3}, 10) == (1, 7)
    assert neighbours(1, {1}, 4) == (3,)
    assert neighbours(0, {0, 2}, 4) == ()


def test_plan_keeps_the_best_set_of_every_level_and_its_reuse(tiny):
    objective = tiny.objective(tiny.stack(layers=4, seed=1))
    plan = find_plan(objective, Settings("t5xxl", sparsity=0.3, beam=2))
    reference = algorithm_1(objective, 2, len(plan.levels))
    by_size = sorted(plan.levels, key=lambda level: len(level.cuts["t5xxl"].skip))
    for level, (order, _) in zip(by_size, reference, strict=True):
        reuse, found = algorithm_2(objective, order)
        assert level.cuts["t5xxl"].skip == order
        assert level.cuts["t5xxl"].reuse_map == reuse
        assert level.discrepancy == pytest.approx(found.to_json(), rel=1e-9)
    assert by_size[-1].sparsity >= 0.3
    assert all(level.sparsity < 0.3 for level in by_size[:-1])


def test_refining_costs_two_measurements_a_place(tiny):
    """The re-use pairs of a given order, at most 2 n + 1 evaluations."""
    objective = tiny.objective(tiny.stack(layers=4, seed=2))
    plain = find_plan(objective, Settings("t5xxl", sparsity=0.4, beam=2, reuse=False))
    level = plain.level_for(0.4)
    n = len(level.cuts["t5xxl"].skip)
    objective.applications = 0
    refined = refine_plan(objective, plain, Settings("t5xxl", sparsity=0.4))
    tokens = sum(len(b.row_ids) * b.length for b in objective.batches)
    assert objective.applications <= (2 * n + 1) * 8 * tokens
    reuse, found = algorithm_2(objective, level.cuts["t5xxl"].skip)
    assert refined.level_for(0.4).cuts["t5xxl"].reuse_map == reuse
    assert refined.level_for(0.4).discrepancy == pytest.approx(found.to_json(), rel=1e-9)
    # Nothing is known of the other levels on these weights, so they are left out.
    assert len(refined.levels) == 1
    assert refined.encoders["t5xxl"].weights_sketch == objective.stack.sketch


def test_of_equal_sets_the_one_that_keeps_fewer_bytes_goes_first(tiny, one_at_a_time):
    """Attention 2 and feed-forward 5 both write zeros: the larger one goes first, though its number is higher."""
    model = tiny.t5(layers=4, seed=5)
    model.encoder.block[1].layer[0].SelfAttention.o.weight.data.zero_()
    model.encoder.block[2].layer[1].DenseReluDense.wo.weight.data.zero_()
    objective = tiny.objective(T5Stack(model))
    sizes = [subblock.bytes for subblock in objective.stack.subblocks]
    assert sizes[5] > sizes[2]
    assert [candidate.order for candidate in next_level(Run(objective), [], 2)] == [(5,), (2,)]
