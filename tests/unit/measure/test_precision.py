"""Products in less than float32: close, never overflowing, and never what a plan states."""

import pytest
import torch

from skrr_engine.encoders.t5 import T5Stack
from skrr_engine.jobs.search import Settings, find_plan, refine_plan
from skrr_engine.measure.execute import assign
from skrr_engine.measure.feeding import Feeder
from skrr_engine.measure.objective import Objective
from skrr_engine.measure.sweep import measure_many
from skrr_engine.precision import matrix_dtype, narrow, product

CPU = torch.device("cpu")
NARROW = [torch.bfloat16, torch.float16]


def narrowed(objective, dtype, resident=()):
    stack = objective.stack
    stack.feeder = Feeder(stack.subblocks, CPU, resident, dtype)
    return objective


def prompts(tiny, model, count=40):
    like = tiny.objective(T5Stack(model))
    return Objective(like.stack, tiny.rows(count), like.projection)


@pytest.mark.parametrize("dtype", [*NARROW, torch.float32, torch.float64], ids=str)
def test_a_product_is_the_product(dtype):
    generator = torch.Generator().manual_seed(0)
    values = torch.randn(3, 5, 64, generator=generator)
    weight, bias = torch.randn(7, 64, generator=generator), torch.randn(7, generator=generator)
    expected = values @ weight.T + bias
    found = product(values, weight.to(dtype), bias.to(dtype))
    assert found.dtype == (torch.float32 if dtype == torch.float16 else dtype)
    tolerance = {torch.bfloat16: 0.2, torch.float16: 0.02}.get(dtype, 1e-4)
    torch.testing.assert_close(found.float(), expected, rtol=0, atol=tolerance)


def test_a_product_in_float16_cannot_overflow():
    """Not in its operands, not in its result, not for rows of zeros; a plain one does."""
    values = torch.tensor([[3e15, -2e15, 1e13, 0.0], [7e4, 7e4, 7e4, 7e4], [0.0, 0.0, 0.0, 0.0]])
    weight = torch.tensor([[200.0, 100.0, 0.5, 1.0], [30.0, 30.0, 30.0, 30.0]])
    found = product(values, weight.half())
    assert not torch.isfinite(torch.nn.functional.linear(values.half(), weight.half())[:2]).all()
    torch.testing.assert_close(found, values @ weight.T, rtol=2e-3, atol=0)


def test_what_goes_into_a_sub_block():
    values = torch.ones(2)
    assert narrow(values, torch.bfloat16).dtype == torch.bfloat16
    assert all(narrow(values, dtype) is values for dtype in (torch.float16, torch.float32, None))


def test_only_cuda_is_narrow(monkeypatch):
    assert matrix_dtype(CPU) is None and matrix_dtype(torch.device("mps")) is None
    for capability, expected in (((7, 5), torch.float16), ((8, 0), torch.bfloat16), ((9, 0), torch.bfloat16)):
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device, found=capability: found)
        assert matrix_dtype(torch.device("cuda")) == expected


def large_t5(tiny):
    """A T5 whose feed-forwards leave float16's range inside and behind, as T5-XXL's do, with their norms kept small
    enough for float32."""
    model = tiny.t5(dtype=torch.float32, seed=2)
    for block in model.encoder.block:
        dense = block.layer[1].DenseReluDense
        for layer in (dense.wi_0, dense.wi_1, dense.wo):
            layer.weight.data *= 60
    return model


@pytest.mark.parametrize("dtype", NARROW, ids=str)
def test_activations_beyond_float16_are_measured(tiny, dtype):
    """Such a feed-forward is infinite in plain float16; ours is close to float32 in either dtype."""
    model = large_t5(tiny)
    stack = T5Stack(model)
    hidden, context = stack.embed(tiny.rows().batches[0])
    assert stack.subblocks[1].residual(hidden, context).abs().max() > 65504
    half = large_t5(tiny).half().encoder.block[0].layer[1]
    assert not torch.isfinite(half.DenseReluDense(half.layer_norm(hidden.half()))).all()
    exact, objective = prompts(tiny, model), narrowed(prompts(tiny, model), dtype)
    with objective.narrowed():
        for portion in objective.portions:
            found, expected = objective.dense(portion)[0]["sequence"], exact.dense(portion)[0]["sequence"]
            error = (found - expected).norm() / expected.norm()
            assert 0 < error < {torch.float16: 0.005, torch.bfloat16: 0.05}[dtype]
        for value in measure_many(objective, [assign(8, [i]) for i in range(8)]).values():
            assert 0 < value.value < 1000


@pytest.mark.parametrize("dtype", NARROW, ids=str)
def test_a_fast_search_states_float32(tiny, dtype):
    """Its sets may be others, by rounding; every discrepancy it states is that of float32, re-use included."""
    model = tiny.t5(layers=4, seed=3, dtype=torch.float32)
    objective = narrowed(prompts(tiny, model), dtype, {2, 5})
    plan = find_plan(objective, Settings("t5xxl", 0.4, beam=3))
    slow = prompts(tiny, model)
    for level in plan.levels:
        cut = level.cuts["t5xxl"]
        expected = slow.measure(assign(8, cut.skip, cut.reuse_map)).to_json()
        assert level.discrepancy == pytest.approx(expected, rel=1e-4, abs=1e-9)
    measured = {key[0] for key in objective._dense}
    assert measured == {dtype, None}


def test_the_exact_search_and_a_single_measurement_are_in_float32(tiny):
    model = tiny.t5(layers=3, seed=3, dtype=torch.float32)
    settings = Settings("t5xxl", 0.3, beam=2, mode="exact")
    objective = narrowed(prompts(tiny, model), torch.bfloat16)
    plan = find_plan(objective, settings)
    assert plan.levels == find_plan(prompts(tiny, model), settings).levels
    refine_plan(objective, plan, Settings("t5xxl", 0.3, reuse=False))
    assert {key[0] for key in objective._dense} == {None}


@pytest.mark.parametrize("mode", ["fast", "exact"])
def test_a_search_in_other_products_is_another_search(tiny, tmp_path, mode):
    """Findings in bf16 must not go on in float32, or the other way round."""
    model = tiny.t5(layers=3, seed=3, dtype=torch.float32)
    settings = Settings("t5xxl", 0.2, beam=1, mode=mode)
    find_plan(prompts(tiny, model), settings, tmp_path)
    find_plan(narrowed(prompts(tiny, model), torch.bfloat16), settings, tmp_path)
    assert len(list(tmp_path.iterdir())) == (2 if mode == "fast" else 1)
