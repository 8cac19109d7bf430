"""The adapters against the transformers models' own forward, and the executor against surgery on a copy."""

import copy

import pytest
import torch
from transformers import CLIPTextModel

from skrr_engine.encoders.clip import ClipStack
from skrr_engine.encoders.t5 import T5Stack
from skrr_engine.errors import SkrrError
from skrr_engine.jobs.settings import Settings
from skrr_engine.measure.execute import assign, encode


def own_t5(model, batch):
    return model(input_ids=batch.tokens).last_hidden_state


@pytest.mark.parametrize("umt5", [False, True])
def test_t5_equals_the_library(tiny, umt5):
    model = tiny.t5(umt5=umt5)
    stack = T5Stack(model)
    for batch in tiny.rows().batches:
        ours = encode(stack, tuple(range(8)), batch)["sequence"]
        torch.testing.assert_close(ours, own_t5(model, batch).detach(), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_skipping_sub_block_0_keeps_the_position_bias(tiny, dtype):
    """Skip 0 equals the dense model with attention 0's output matrix set to zero (trap 15)."""
    model = tiny.t5(dtype=dtype)
    zeroed = copy.deepcopy(model)
    zeroed.encoder.block[0].layer[0].SelfAttention.o.weight.data.zero_()
    for batch in tiny.rows().batches:
        ours = encode(T5Stack(model), assign(8, [0]), batch)["sequence"]
        assert not torch.allclose(ours, own_t5(model, batch), rtol=1e-2)
        torch.testing.assert_close(ours, own_t5(zeroed, batch).detach(), rtol=1e-5, atol=1e-5)


def test_skip_and_reuse_equal_a_model_with_the_weights_copied(tiny):
    """Skip = output matrix zero; re-use = the source's weights, norm included, copied into the place."""
    model = tiny.t5()
    surgery = copy.deepcopy(model)
    layers = [layer for block in surgery.encoder.block for layer in block.layer]
    layers[3].DenseReluDense.wo.weight.data.zero_()
    layers[4].SelfAttention.o.weight.data.zero_()
    layers[2].load_state_dict(layers[6].state_dict())
    batch = tiny.rows().batches[0]
    ours = encode(T5Stack(model), assign(8, [3, 4, 2], {2: 6}), batch)["sequence"]
    torch.testing.assert_close(ours, own_t5(surgery, batch).detach(), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("layer", [1, 2])
def test_clip_equals_the_library(tiny, layer):
    model = tiny.clip()
    batch = tiny.rows(pooled=True).batches[0]
    ours = encode(ClipStack(model, layer, final_norm=False), tuple(range(6)), batch)
    theirs = model(input_ids=batch.tokens, output_hidden_states=True)
    read = theirs.last_hidden_state if layer == 1 else theirs.hidden_states[-layer]
    torch.testing.assert_close(ours["sequence"], read.detach(), rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(ours["pooled"], theirs.text_embeds.detach(), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("make", ["stack", "clip_stack"])
def test_a_residual_leaves_the_stream_alone(tiny, make):
    """A cached prefix must survive every sub-block."""
    stack = getattr(tiny, make)()
    batch = tiny.rows(pooled=make == "clip_stack").batches[0]
    hidden, context = stack.embed(batch)
    before = hidden.clone()
    for block in stack.subblocks:
        assert block.residual(hidden, context) is not hidden
        assert torch.equal(hidden, before)


VARIANTS = {
    "T5 gated": lambda tiny: T5Stack(tiny.t5()),
    "T5 not gated": lambda tiny: T5Stack(tiny.t5(feed_forward_proj="relu")),
    "T5 with heads wider than the stream": lambda tiny: T5Stack(tiny.t5(d_kv=24, num_heads=3)),
    "T5 of one layer, few buckets": lambda tiny: T5Stack(tiny.t5(layers=1, relative_attention_num_buckets=8)),
    "umT5": lambda tiny: T5Stack(tiny.t5(umt5=True)),
    "umT5 not gated": lambda tiny: T5Stack(tiny.t5(umt5=True, feed_forward_proj="gelu_new", d_kv=6)),
    "umT5 of one layer": lambda tiny: T5Stack(tiny.t5(layers=1, umt5=True)),
    "CLIP": lambda tiny: ClipStack(tiny.clip()),
    "CLIP with a projection of another width": lambda tiny: ClipStack(tiny.clip(projection_dim=10)),
    "CLIP without projection": lambda tiny: ClipStack(CLIPTextModel(tiny.clip().config).double().eval()),
    "CLIP read at an inner layer": lambda tiny: ClipStack(tiny.clip(), layer=2),
}


@pytest.mark.parametrize("variant", VARIANTS)
def test_the_formulas_count_what_the_tensors_hold(tiny, variant):
    """Plans are made where there are no tensors; a search counts those."""
    stack = VARIANTS[variant](tiny)
    shape, count = stack.architecture, len(stack.subblocks)
    assert stack.total_parameters == shape.total_parameters == sum(p.numel() for p in stack.model.parameters())
    assert stack.total_bytes == 8 * shape.total_parameters
    for block in stack.subblocks:
        assert block.parameters == shape.parameters_of([block.index])
        assert block.bytes == 8 * block.parameters
    for some in ((), (0,), (1,), range(count), range(0, count, 2)):
        assert stack.sparsity(some) == shape.sparsity(some)


def test_counts_are_those_of_the_tensors_where_no_formula_tells_them(tiny):
    """Keys that several heads share, and a norm of the queries; a search's target goes by them."""
    model = tiny.t5()
    for block in model.encoder.block:
        attention = block.layer[0].SelfAttention
        attention.k = torch.nn.Linear(16, 4, bias=False, dtype=torch.float64)
        attention.v = torch.nn.Linear(16, 4, bias=False, dtype=torch.float64)
        attention.q_norm = torch.nn.LayerNorm(4, bias=False, dtype=torch.float64)
    stack = T5Stack(model)
    attention = 2 * 16 * 8 + 2 * 16 * 4 + 4 + 16
    assert [block.parameters for block in stack.subblocks[::2]] == 4 * [attention]
    assert stack.total_parameters == sum(p.numel() for p in model.parameters())
    every = range(0, 8, 2)
    sparsity = stack.sparsity(every)
    assert sparsity == 4 * attention / stack.total_parameters < stack.architecture.sparsity(every)
    assert Settings("t5xxl", sparsity).reached(stack, every)
    assert not Settings("t5xxl", stack.architecture.sparsity(every)).reached(stack, every)
    with pytest.raises(SkrrError, match=f"it is {100 * stack.sparsity(range(8)):.2f} %"):
        Settings("t5xxl", stack.architecture.sparsity(range(8))).check(stack)
