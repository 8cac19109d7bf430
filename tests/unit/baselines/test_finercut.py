"""FinerCut against Skrr's special case and against its rule written out."""

from dataclasses import replace

import pytest
import torch

from skrr_engine.baselines.finercut import finercut
from skrr_engine.encoders.t5 import T5Stack
from skrr_engine.errors import SkrrError
from skrr_engine.events import LevelDone, Phase, Step, Tick
from skrr_engine.jobs.search import Settings, find_plan
from skrr_engine.measure.calibration import Row, make_calibration
from skrr_engine.measure.execute import assign, encode
from skrr_engine.measure.objective import Objective
from skrr_engine.measure.projection import no_projection
from skrr_engine.search.reference import algorithm_1


def slow_distance(stack, calibration, order, metric):
    """The masked mean, token by token, from outputs of the executor."""
    count = len(stack.subblocks)
    total = 0.0
    for batch in calibration.batches:
        dense = encode(stack, assign(count, ()), batch)["sequence"]
        cut = encode(stack, assign(count, order), batch)["sequence"]
        for row in range(len(batch.row_ids)):
            read = [p for p in range(batch.length) if batch.weights["sequence"][row, p] > 0]
            for p in read:
                a, b = dense[row, p], cut[row, p]
                one = (a - b).square().mean() if metric == "mse" else 1 - a @ b / (a.norm() * b.norm())
                total += one.item() / len(read)
    return total / len(calibration.prompts)


def slow_finercut(stack, calibration, levels, metric):
    order = ()
    for _ in range(levels):
        rest = [i for i in range(len(stack.subblocks)) if i not in order]
        order = (*order, min(rest, key=lambda i: slow_distance(stack, calibration, (*order, i), metric)))
    return order


@pytest.mark.parametrize("seed", range(4))
def test_mse_is_skrr_with_beam_one_and_nothing_else(tiny, seed):
    """k = 1, no null term, no projection: every level of find_plan and of Algorithm 1."""
    stack, calibration = tiny.stack(layers=3 + seed % 2, seed=seed), tiny.rows(seed=seed)
    rungs = finercut(stack, calibration, 0.5)
    objective = Objective(stack, calibration, no_projection(("sequence",)), null_weight=0.0)
    plan = find_plan(objective, Settings("t5xxl", sparsity=0.5, beam=1, reuse=False))
    levels = sorted(plan.levels, key=lambda level: len(level.cuts["t5xxl"].skip))
    assert [level.cuts["t5xxl"].skip for level in levels] == [rung.order for rung in rungs]
    assert [level.sparsity for level in levels] == [rung.sparsity for rung in rungs]
    assert [order for order, _ in algorithm_1(objective, 1, len(rungs))] == [rung.order for rung in rungs]


@pytest.mark.parametrize("metric", ["mse", "cosine"])
@pytest.mark.parametrize("seed", range(3))
def test_the_rule_written_out(tiny, seed, metric):
    stack, calibration = tiny.stack(layers=3, seed=seed), tiny.rows(seed=seed)
    rungs = finercut(stack, calibration, 0.5, metric)
    assert rungs[-1].order == slow_finercut(stack, calibration, len(rungs), metric)
    assert rungs[-1].sparsity >= 0.5 > rungs[-2].sparsity


def test_the_metrics_can_disagree(tiny):
    """A final norm with one large channel makes outputs of different lengths: only the MSE weighs by them."""
    model = tiny.t5(layers=4, seed=1)
    model.encoder.final_layer_norm.weight.data[0] = 30.0
    stack, calibration = T5Stack(model), tiny.rows()
    assert finercut(stack, calibration, 0.5, "mse")[-1].order != finercut(stack, calibration, 0.5, "cosine")[-1].order


def test_padding_does_not_count(tiny):
    """The same tokens with padding behind them that nobody reads: the order is that of the written-out rule."""
    generator = torch.Generator().manual_seed(4)
    rows = []
    for number, count in enumerate((4, 2, 3)):
        tokens = torch.randint(2, 38, (count,), generator=generator).tolist()
        weights = (1 / count,) * count + (0.0,) * (6 - count)
        rows.append(Row((*tokens, *([0] * (6 - count))), number, {"sequence": weights}))
    calibration = make_calibration(["a", "b", "c"], rows, rows[:1])
    stack = tiny.stack(layers=3, seed=7)
    rungs = finercut(stack, calibration, 0.5)
    assert rungs[-1].order == slow_finercut(stack, calibration, len(rungs), "mse")


def test_ties_go_by_index(tiny, one_at_a_time):
    """Sub-blocks that write zeros are all equally good to remove, whatever their size."""
    model = tiny.t5(layers=4)
    for i in (6, 3, 1):
        layer = model.encoder.block[i // 2].layer[i % 2]
        (layer.DenseReluDense.wo if i % 2 else layer.SelfAttention.o).weight.data.zero_()
    assert finercut(T5Stack(model), tiny.rows(), 0.4)[-1].order[:3] == (1, 3, 6)


def test_the_null_prompt_and_the_projection_play_no_part(tiny):
    stack = tiny.stack(layers=3)
    rows = tiny.rows()
    other = make_calibration(rows.prompts, _rows(rows), [Row((7, 8, 9), 0, {"sequence": (1 / 3,) * 3})])
    assert finercut(stack, rows, 0.5) == finercut(stack, other, 0.5)
    # It is not even run: a calibration without one costs as many sub-block calls.
    counts = []
    for calibration in (rows, replace(rows, null=())):
        events = []
        finercut(stack, calibration, 0.5, report=events.append)
        counts.append(sum(isinstance(e, Tick) for e in events))
    assert counts[0] == counts[1] > 0


def _rows(calibration):
    rows = {}
    for batch in calibration.batches:
        for place, number in enumerate(batch.row_ids):
            weights = {name: tuple(values[place].tolist()) for name, values in batch.weights.items()}
            rows[number] = Row(tuple(batch.tokens[place].tolist()), number, weights)
    return [rows[n] for n in sorted(rows)]


def test_a_clip_can_be_judged_by_both_outputs(tiny, one_at_a_time):
    stack, calibration = tiny.clip_stack(layer=2), tiny.rows(pooled=True)
    both = finercut(stack, calibration, 0.5, outputs=("sequence", "pooled"))
    objective = Objective(stack, calibration, no_projection(("sequence", "pooled")), null_weight=0.0)
    assert [r.order for r in both] == [order for order, _ in algorithm_1(objective, 1, len(both))]
    # The last layer is behind the state that is read: without the pooled output it is free to go.
    for outputs, free in ((("sequence",), True), (("sequence", "pooled"), False)):
        events = []
        rungs = finercut(stack, calibration, 0.3, outputs=outputs, report=events.append)
        first = next(e for e in events if isinstance(e, LevelDone))
        assert (first.discrepancy == 0 and set(rungs[1].order) == {4, 5}) is free


@pytest.mark.parametrize("metric", ["jsd", "norm", ""])
def test_other_metrics_are_refused(tiny, metric):
    with pytest.raises(SkrrError, match="expected mse or cosine"):
        finercut(tiny.stack(), tiny.rows(), 0.5, metric)


def test_a_target_out_of_reach_is_refused_before_any_work(tiny):
    with pytest.raises(SkrrError, match=r"The sparsity is 0\.99"):
        finercut(tiny.stack(), tiny.rows(), 0.99, report=lambda event: pytest.fail("worked"))


def test_it_reports_every_level(tiny):
    events = []
    rungs = finercut(tiny.stack(layers=3), tiny.rows(), 0.5, report=events.append)
    done = [e for e in events if isinstance(e, LevelDone)]
    assert [e.skipped for e in done] == list(range(1, len(rungs) + 1))
    assert [e.sparsity for e in done] == [rung.sparsity for rung in rungs]
    assert sum(isinstance(e, Phase) for e in events) == 1
    assert sum(e.evaluations for e in events if isinstance(e, Step)) == pytest.approx(
        sum(6 - n for n in range(len(rungs)))
    )
