"""The adapters against the transformers models' own forward, and the executor against surgery on a copy."""

import copy

import pytest
import torch

from skrr_engine.encoders.clip import ClipStack
from skrr_engine.encoders.t5 import T5Stack
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


@pytest.mark.parametrize("make", ["t5", "clip"])
def test_parameter_counts_follow_from_the_architecture(tiny, make):
    model = getattr(tiny, make)(dtype=torch.float32)
    stack = T5Stack(model) if make == "t5" else ClipStack(model)
    shape = stack.architecture
    assert shape.total_parameters == sum(p.numel() for p in model.parameters())
    assert stack.total_bytes == 4 * shape.total_parameters
    for block in stack.subblocks:
        assert block.bytes == 4 * shape.parameters_of([block.index])


def test_umt5_counts_its_table_in_every_attention(tiny):
    model = tiny.t5(umt5=True, dtype=torch.float32)
    stack = T5Stack(model)
    assert stack.architecture.total_parameters == sum(p.numel() for p in model.parameters())
    assert all(b.bytes == 4 * stack.architecture.parameters_of([b.index]) for b in stack.subblocks)
