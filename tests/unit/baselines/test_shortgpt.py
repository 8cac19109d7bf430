"""Block influence against hidden states that transformers itself hands out, token by token."""

import pytest
import torch

from skrr_engine.baselines.shortgpt import block_influence, shortgpt
from skrr_engine.encoders.t5 import T5Stack
from skrr_engine.errors import SkrrError
from skrr_engine.events import Phase, Step, Tick
from skrr_engine.measure.calibration import Row, make_calibration


def slow_influence(model, calibration, normed=False):
    """BI token by token. The library's last hidden state is the normed one; `normed=False` takes the stream from
    in front of the final norm with a hook."""
    cosines = [[] for _ in model.encoder.block]
    for batch in calibration.batches:
        caught = []
        norm = model.encoder.final_layer_norm
        hook = norm.register_forward_pre_hook(lambda module, args, caught=caught: caught.append(args[0]))
        states = list(model(input_ids=batch.tokens, output_hidden_states=True).hidden_states)
        hook.remove()
        if not normed:
            states[-1] = caught[0]
        for block, found in enumerate(cosines):
            for row in range(len(batch.row_ids)):
                for position in range(batch.length):
                    if batch.weights["sequence"][row, position] > 0:
                        a, b = states[block][row, position], states[block + 1][row, position]
                        found.append((a @ b / (a.norm() * b.norm())).item())
    return [1 - sum(found) / len(found) for found in cosines]


def padded(read=(4, 2), length=6, seed=1):
    """Two rows of which the denoiser reads only the first positions; the rest is padding (token 0)."""
    generator = torch.Generator().manual_seed(seed)
    rows = []
    for number, count in enumerate(read):
        tokens = torch.randint(2, 38, (count,), generator=generator).tolist()
        weights = (1 / count,) * count + (0.0,) * (length - count)
        rows.append(Row((*tokens, *([0] * (length - count))), number, {"sequence": weights}))
    return make_calibration(["a", "b"], rows, [rows[0]])


@pytest.mark.parametrize("normed", [False, True])
@pytest.mark.parametrize("seed", range(3))
def test_scores_are_those_of_the_librarys_hidden_states(tiny, seed, normed):
    """Prompts of two lengths: every token counts once, not every prompt."""
    model = tiny.t5(seed=seed)
    calibration = tiny.rows(count=5, seed=seed, lengths=(3, 9))
    found = block_influence(T5Stack(model), calibration, behind_final_norm=normed)
    assert found == pytest.approx(slow_influence(model, calibration, normed), abs=1e-12)


def test_padding_does_not_count(tiny):
    model = tiny.t5()
    calibration = padded()
    found = block_influence(T5Stack(model), calibration)
    assert found == pytest.approx(slow_influence(model, calibration), abs=1e-12)
    tokens = calibration.batches[0].tokens.tolist()
    rows = [Row(tuple(row), number, {"sequence": (1 / 6,) * 6}) for number, row in enumerate(tokens)]
    everything = make_calibration(["a", "b"], rows, rows[:1])
    assert found != pytest.approx(block_influence(T5Stack(model), everything), abs=1e-6)


def test_where_no_position_is_read_all_count(tiny):
    stack = tiny.clip_stack()
    both = tiny.rows(pooled=True)
    rows = [
        Row(tuple(tokens), n, {"pooled": (1.0,)})
        for n, tokens in enumerate(row for batch in both.batches for row in batch.tokens.tolist())
    ]
    pooled = make_calibration(both.prompts, rows, rows[:1])
    assert block_influence(stack, pooled) == pytest.approx(block_influence(stack, both), abs=1e-12)


def test_the_trap_of_t5_hides_the_last_block(tiny):
    """A final norm with uneven weights makes a last block that does nothing look important; only that score moves."""
    model = tiny.t5()
    last = model.encoder.block[-1]
    last.layer[0].SelfAttention.o.weight.data.zero_()
    last.layer[1].DenseReluDense.wo.weight.data.zero_()
    model.encoder.final_layer_norm.weight.data[:8] = 9.0
    stack, calibration = T5Stack(model), tiny.rows()
    plain = block_influence(stack, calibration)
    published = block_influence(stack, calibration, behind_final_norm=True)
    assert plain[:-1] == published[:-1]
    assert plain[-1] == pytest.approx(0, abs=1e-12)
    assert published[-1] > 0.05
    assert shortgpt(stack, calibration)[0].order == (6, 7)
    assert shortgpt(stack, calibration, behind_final_norm=True)[0].order != (6, 7)


def test_the_ladder_takes_whole_blocks_from_the_least_influence_up(tiny):
    stack, calibration = tiny.stack(layers=6, seed=2), tiny.rows()
    scores = block_influence(stack, calibration)
    rungs = shortgpt(stack, calibration)
    assert [rung.order[-2] // 2 for rung in rungs] == sorted(range(6), key=scores.__getitem__)
    for n, rung in enumerate(rungs, 1):
        assert rung.order[: 2 * n - 2] == rungs[n - 2].order * (n > 1)
        assert rung.order[-1] == rung.order[-2] + 1
        assert rung.sparsity == stack.architecture.sparsity(rung.order)
    up_to = shortgpt(stack, calibration, 0.4)
    assert up_to == rungs[: len(up_to)]
    assert up_to[-1].sparsity >= 0.4 > up_to[-2].sparsity


def test_equal_blocks_go_in_their_order(tiny):
    model = tiny.t5(layers=4)
    for block in model.encoder.block:
        block.layer[0].SelfAttention.o.weight.data.zero_()
        block.layer[1].DenseReluDense.wo.weight.data.zero_()
    assert shortgpt(T5Stack(model), tiny.rows())[-1].order == tuple(range(8))


def test_opposite_directions_score_above_one(tiny):
    """A cosine below zero is not cut off: a block that turns the stream round is the most important there is."""
    model = tiny.t5(layers=2)
    model.encoder.block[1].layer[1].DenseReluDense.wo.weight.data *= 1e4
    stack = T5Stack(model)
    scores = block_influence(stack, tiny.rows(count=1))
    assert scores == pytest.approx(slow_influence(model, tiny.rows(count=1)), abs=1e-10)
    one = make_calibration(["a"], [Row((5,), 0, {"sequence": (1.0,)})], [Row((1,), 0, {"sequence": (1.0,)})])
    layer = model.encoder.block[0].layer[0]
    layer.SelfAttention.v.weight.data.zero_()
    ff = model.encoder.block[0].layer[1]
    x = stack.embed(one.batches[0])[0][0, 0]
    inner = ff.DenseReluDense.act(ff.DenseReluDense.wi_0(ff.layer_norm(x))) * ff.DenseReluDense.wi_1(ff.layer_norm(x))
    ff.DenseReluDense.wo.weight.data = -3 * torch.outer(x, inner) / inner.dot(inner)
    assert block_influence(stack, one)[0] == pytest.approx(2, abs=1e-9)


def test_errors_are_sentences(tiny):
    with pytest.raises(SkrrError, match="Only T5's last hidden state"):
        shortgpt(tiny.clip_stack(), tiny.rows(pooled=True), behind_final_norm=True)
    with pytest.raises(SkrrError, match=r"The sparsity is 1\.5"):
        shortgpt(tiny.stack(), tiny.rows(), 1.5)
    model = tiny.t5()
    model.encoder.block[2].layer[0].SelfAttention.o.weight.data.fill_(float("nan"))
    with pytest.raises(SkrrError, match="stream behind block 2 is not finite"):
        shortgpt(T5Stack(model), tiny.rows())


def test_it_reports_and_can_be_cancelled(tiny):
    events = []
    block_influence(tiny.stack(layers=3), tiny.rows(), report=events.append)
    assert sum(e.evaluations for e in events if isinstance(e, Phase)) == 1
    assert sum(e.evaluations for e in events if isinstance(e, Step)) == pytest.approx(1)
    assert sum(isinstance(e, Tick) for e in events) == 6 * len(tiny.rows().batches)

    def stop(event):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        block_influence(tiny.stack(layers=3), tiny.rows(), report=stop)
