"""The search that knows of corrections against the same thing written out, and the stand-ins against plain least
squares."""

import pytest
import torch

from skrr_engine.corrections.stand_ins import fit_stand_ins
from skrr_engine.errors import SkrrError
from skrr_engine.events import LevelDone, Phase, Step
from skrr_engine.measure.execute import advance, assign
from skrr_engine.search.with_stand_ins import Level, polish, search_with_stand_ins


@pytest.fixture
def pair(tiny):
    """(objective, its stand-ins of rank 3)."""
    objective = tiny.objective(tiny.stack())
    return objective, fit_stand_ins(objective, rank=3)


def value(objective, stand_ins, order):
    return objective.measure(assign(8, order, None, {i: stand_ins[i] for i in order})).value


def test_every_stand_in_is_the_least_squares_solution_on_the_dense_stream(tiny):
    objective = tiny.objective(tiny.stack())
    stand_ins = fit_stand_ins(objective, rank=16, ridge=0.2)
    streams = [(one, *objective.stack.embed(one.batch)) for one in objective.portions]
    for place in range(8):
        rows, wanted, weights, after = [], [], [], []
        for portion, hidden, context in streams:
            behind = advance(objective.stack, place, hidden, context)
            normed = hidden / hidden.square().mean(-1, keepdim=True).sqrt()
            x = torch.cat([normed, torch.ones_like(hidden[..., :1])], -1)
            rows.append(x.flatten(0, 1))
            wanted.append((behind - hidden).flatten(0, 1))
            weights.append((portion.null, 1 / behind.square().sum(-1).flatten()))
            after.append((portion, behind, context))
        total = {null: sum(w.sum() for n, w in weights if n == null) for null in (True, False)}
        root = torch.cat([(0.1 if null else 0.9) * w / total[null] for null, w in weights]).sqrt()[:, None]
        a, r = root * torch.cat(rows), root * torch.cat(wanted)
        penalty = (0.2 * a.square().sum() / 17).sqrt() * torch.eye(17).double()
        solution = torch.linalg.lstsq(torch.cat([a, penalty]), torch.cat([r, torch.zeros(17, 16).double()])).solution
        added = stand_ins[place].added(streams[0][1], None).flatten(0, 1)
        torch.testing.assert_close(added, rows[0] @ solution, rtol=1e-4, atol=1e-5)  # kept as float32
        streams = after


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_it_is_greedy_by_the_rise_of_d_per_parameter(tiny, seed):
    objective = tiny.objective(tiny.stack(seed=seed), seed=seed)
    stand_ins = fit_stand_ins(objective, rank=3)
    levels = search_with_stand_ins(objective, stand_ins, 0.5, shortlist=8)
    order, before = (), 0.0
    for level in levels:
        found = {i: value(objective, stand_ins, (*order, i)) for i in range(8) if i not in order}
        best = min(found, key=lambda i: (found[i] - before) / objective.stack.subblocks[i].parameters)
        order, before = (*order, best), found[best]
        assert level.order == order and level.discrepancy == pytest.approx(before, rel=1e-9)
    assert levels[-1].sparsity >= 0.5 > levels[-2].sparsity == objective.stack.sparsity(order[:-1])


def test_a_level_measures_the_short_list_alone(pair, monkeypatch):
    asked = []
    usual = search_with_stand_ins.__globals__["measure_many"]

    def counted(objective, assignments):
        assignments = list(assignments)
        asked.append(len(assignments))
        return usual(objective, assignments)

    monkeypatch.setitem(search_with_stand_ins.__globals__, "measure_many", counted)
    search_with_stand_ins(*pair, 0.5, shortlist=2)
    assert asked[0] == 8 and set(asked[1:]) == {2}


def test_dead_sub_blocks_go_first_and_free(tiny):
    stack = tiny.clip_stack(layers=4, layer=2)
    objective = tiny.objective(stack)
    stand_ins = fit_stand_ins(objective, rank=2)
    assert set(stand_ins) == set(range(objective.dead.start))
    levels = search_with_stand_ins(objective, stand_ins, 0.4)
    dead = list(objective.dead)
    assert dead
    assert [level.order[-1] for level in levels[: len(dead)]] == dead
    assert all(level.discrepancy == 0.0 for level in levels[: len(dead)])


def test_a_polish_keeps_the_size_and_never_raises_d(pair):
    objective, stand_ins = pair
    order = (0, 3, 7)
    start = Level(order, objective.stack.sparsity(order), value(objective, stand_ins, order))
    found = polish(objective, stand_ins, start, rounds=9)
    assert found.discrepancy == pytest.approx(value(objective, stand_ins, found.order), rel=1e-9)
    assert found.discrepancy < start.discrepancy and found.sparsity == start.sparsity
    assert sorted(i % 2 for i in found.order) == [0, 1, 1]
    swaps = [[j if n == i else n for n in found.order] for i in found.order for j in range(i % 2, 8, 2)]
    swaps = [one for one in swaps if len(set(one)) == 3]
    assert min(value(objective, stand_ins, one) for one in swaps) >= found.discrepancy * (1 - 1e-9)


def test_what_is_reported(tiny):
    heard = []
    objective = tiny.objective(tiny.stack(), report=heard.append)
    stand_ins = fit_stand_ins(objective, rank=2)
    assert heard[0] == Phase("stand-ins", 8) and sum(isinstance(event, Step) for event in heard) == 8
    levels = search_with_stand_ins(objective, stand_ins, 0.3)
    done = [event for event in heard if isinstance(event, LevelDone)]
    assert [one.skipped for one in done] == list(range(1, len(levels) + 1))
    assert done[-1].bytes_saved == sum(objective.stack.subblocks[i].bytes for i in levels[-1].order)


@pytest.mark.parametrize("sparsity", [0, 1.5, float("nan")])
def test_a_sparsity_that_cannot_be_reached_is_a_sentence(pair, sparsity):
    with pytest.raises(SkrrError, match=r"expected more than 0 and at most 0\.9"):
        search_with_stand_ins(*pair, sparsity)
