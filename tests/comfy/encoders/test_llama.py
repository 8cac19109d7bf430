"""Language models of the Llama kind, a line a family: the walk equals ComfyUI's encode, a plan equals the oracle."""

from dataclasses import replace

import pytest
import torch

from .. import corrected
from ..free_clips import IDS, small_clip
from ..oracle import llama_forward

# family -> how many states it hands on, side by side
FAMILIES = {
    "HiDream-I1": 33, "HunyuanVideo": 1, "HunyuanImage 2.1, HunyuanVideo 1.5": 1, "Kandinsky 5": 1, "Qwen-Image": 1,
    "LongCat-Image": 1, "OmniGen2": 1, "Lumina 2": 1, "Lumina 2 with Gemma 3": 1,
    "Lumina 2 with Gemma 3 and its tower": 1, "NewBie": 1, "PixelDiT": 1, "LTX-2": 49, "Gemma 3 12B alone": 49,
    "Z-Image": 1, "FLUX.2 dev": 3, "FLUX.2 dev, pruned file": 3, "FLUX.2 klein 4B": 3, "FLUX.2 klein 9B": 3,
    "Ovis-Image": 1, "ERNIE-Image": 1, "Anima": 1, "Ideogram 4": 13, "Ideogram 4, VL file": 13, "Boogu": 1,
    "Krea 2": 12, "MageFlow": 1, "JoyImage": 1, "MiniMax H3": 1, "Qwen3-VL-4B alone": 1, "Qwen3-VL-8B alone": 1,
}  # fmt: skip
WINDOWS = ("Lumina 2 with Gemma 3", "LTX-2")
# In the place of 4, a local attention in Gemma 3, runs 10, a global one; in that of 22, global, the local 20.
SKIP, REUSE = (9, 22, 4, 1, 0, 25, 12), {4: 10, 22: 20, 1: 3}


@pytest.fixture
def made(pack, monkeypatch):
    """made(family, **options) -> (CLIP, TextEncoder of its language model)."""

    def make(name, **options):
        clip = small_clip(name, monkeypatch, **{"dtype": torch.float32, **options})
        encoders = pack("nodes.comfy_host.clip.trees").text_encoders(clip)
        (one,) = (e for e in encoders.values() if e.adapter is pack("nodes.comfy_host.encoders.llama"))
        pack("nodes.comfy_host.weights.memory").rest(clip.patcher)
        return clip, one

    return make


def stack_of(encoder):
    stack = encoder.adapter.stack(encoder)
    stack.prepare()
    return stack


def walked(pack, stack, ids, skip=(), reuse=None):
    """The stack's outputs for one row."""
    execute = pack("skrr_engine.measure.execute")
    batch = pack("skrr_engine.encoders.stack").TokenBatch(torch.tensor([ids]), (0,), len(ids), {})
    with torch.inference_mode():
        return execute.encode(stack, execute.assign(len(stack.subblocks), skip, reuse), batch)["sequence"]


def handed_on(encoder, ids):
    """What ComfyUI's own encode gives, states side by side."""
    z = encoder.sd_model.encode_token_weights([[(token, 1.0) for token in ids]])[0]
    return z if z.dim() == 3 else z.movedim(1, 2).flatten(2)


def short_windows(transformer, window=7):
    for layer in transformer.model.layers:
        layer.sliding_attention = window if getattr(layer, "sliding_attention", False) else False


def planned(pack, encoder, skip=SKIP, reuse=REUSE):
    """The CLIP that Skrr Apply makes of a plan, and that plan's text read again."""
    plans, text = pack("skrr_engine.plans.plan"), pack("skrr_engine.plans.plan_text")
    info = {encoder.slot: plans.EncoderInfo(encoder.architecture, encoder.sketch)}
    level = plans.make_level(info, {encoder.slot: plans.make_cut(skip, reuse)})
    plan = plans.Plan("made up", info, (level,))
    again = text.loads_level(text.dumps_level(plan, level))
    return pack("nodes.comfy_host.clip.patching").apply_level(encoder.clip, again, again.levels[0])


@pytest.mark.parametrize("name", FAMILIES)
def test_the_walk_equals_encode_and_a_plan_the_oracle(pack, made, name):
    """Bit for bit in float32, with all states that the CLIP reads; counts are those of the tensors. ComfyUI's encode
    of the cut CLIP has skipped and re-used sub-blocks, and the dense one stays as it was."""
    _, encoder = made(name)
    stack = stack_of(encoder)
    dense = handed_on(encoder, IDS)
    assert torch.equal(walked(pack, stack, IDS), dense)
    shape = stack.architecture
    assert dense.shape[-1] == FAMILIES[name] * shape.width
    assert shape.total_parameters == stack.total_parameters
    assert shape.parameters_of(range(4)) == sum(block.parameters for block in stack.subblocks[:4])
    assert len(stack.sketch) == shape.sub_blocks and all(stack.sketch)

    planned_walk = walked(pack, stack, IDS, SKIP, REUSE)
    patched = planned(pack, encoder)
    small = pack("nodes.comfy_host.clip.trees").text_encoders(patched.clip)[encoder.slot]
    found = handed_on(small, IDS)
    assert torch.equal(found, planned_walk) and torch.equal(handed_on(encoder, IDS), dense)
    before, after = patched.encoder_bytes[encoder.slot]
    assert before - after == sum(stack.subblocks[index].bytes for index in SKIP)
    wanted = llama_forward(encoder.transformer, IDS, SKIP, REUSE)[max(stack.taps.values()) // 2]
    last = found[..., -shape.width :]
    norm = encoder.transformer.model.norm
    if norm is not None and (max(stack.taps.values()) == shape.sub_blocks and "read" not in stack.taps):
        wanted = norm(wanted)
    if norm is not None and "last" not in stack.taps and encoder.sd_model.layer_norm_hidden_state:
        wanted = norm(wanted)
    torch.testing.assert_close(last, wanted, rtol=1e-5, atol=1e-5)


CORRECTED = ("FLUX.2 klein 4B", "Qwen-Image", "Lumina 2", "Lumina 2 with Gemma 3")


@pytest.mark.parametrize("name", CORRECTED)
def test_corrections_equal_the_engines(pack, made, name):
    """Matrices in front of a norm, bridges and a bias; a re-used attention of another kind of window among them."""
    clip, encoder = made(name)
    short_windows(encoder.transformer)
    one = corrected.made_up(pack, clip, encoder.slot, (9, 22, 4, 1, 0, 25, 12), {4: 10, 22: 20},
                            matrices=(2, 7, 14, 19), dtype=torch.float32)  # fmt: skip
    one = replace(one, added=one.added | {9: one.added[0]})
    stack = stack_of(encoder)
    applied = one.applied(stack)
    batch = pack("skrr_engine.encoders.stack").TokenBatch(torch.tensor([IDS]), (0,), len(IDS), {})
    with torch.inference_mode():
        wanted = pack("skrr_engine.measure.execute").encode(applied.stack, applied.assignment, batch)["sequence"]
    small = corrected.corrected_clip(pack, clip, one, encoder.slot).clip
    found = handed_on(pack("nodes.comfy_host.clip.trees").text_encoders(small)[encoder.slot], IDS)
    # Norms behind random matrices make much of the last bits; what a correction does is thousands of times more.
    assert (found - wanted).norm() < 3e-5 * wanted.norm()
    assert (walked(pack, stack, IDS, one.cut.skip, one.cut.reuse_map) - wanted).norm() > 0.1 * wanted.norm()


@pytest.mark.parametrize("name", WINDOWS)
def test_a_reused_attention_keeps_its_kind_of_window(pack, made, name):
    """Global in a local place and the other way round, over more tokens than the window holds."""
    _, encoder = made(name)
    short_windows(encoder.transformer)
    stack = stack_of(encoder)
    assert torch.equal(walked(pack, stack, IDS), handed_on(encoder, IDS))
    reuse = {4: 10, 22: 20}
    patched = planned(pack, encoder, (4, 22), reuse)
    small = pack("nodes.comfy_host.clip.trees").text_encoders(patched.clip)[encoder.slot]
    found = handed_on(small, IDS)
    assert torch.equal(found, walked(pack, stack, IDS, (4, 22), reuse))
    states = llama_forward(encoder.transformer, IDS, (4, 22), reuse)
    width, at = stack.architecture.width, 13
    if name == "LTX-2":
        torch.testing.assert_close(found[..., at * width : (at + 1) * width], states[at], rtol=1e-5, atol=1e-5)
    else:
        torch.testing.assert_close(found, states[stack.taps["read"] // 2], rtol=1e-5, atol=1e-5)


def test_qwen35_is_refused_by_its_name(pack, monkeypatch):
    error, trees = pack("skrr_engine.errors").SkrrError, pack("nodes.comfy_host.clip.trees")
    clip = small_clip("Qwen3.5-2B", monkeypatch)
    with pytest.raises(error, match=r"this CLIP holds qwen35_2b \(a Qwen3\.5, whose DeltaNet layers Skrr does not cut"):
        trees.choose_encoder(clip)
