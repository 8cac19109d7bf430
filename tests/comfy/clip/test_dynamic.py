"""SkrrApply under dynamic VRAM, simulated (see dynamic_vram): classes, book-keeping and outputs."""

import functools

import pytest
import torch

from .. import steps
from ..dynamic_vram import CARD, CPU, DEVICES, VBar, simulate, wide_clip, wide_wanted
from ..formats import FORMATS, GGUF, make_clip, pointers
from ..steps import REUSE, SKIP, encode, make_lora, with_lora

ALL = range(12)
KB = 1024
SOME = 4400 * KB  # room for the embedding and little more


@pytest.fixture(scope="module")
def prune(pack):
    return functools.partial(steps.prune, pack)


@pytest.fixture(params=[0, SOME, 1 << 30], ids=["no room", "some room", "all fits"])
def room(request, monkeypatch):
    """Each amount of memory on the card."""
    simulate(monkeypatch, request.param)
    return request.param


@pytest.fixture
def large_card(monkeypatch):
    simulate(monkeypatch, 1 << 30)


def shared(first, second):
    """Whether all parameters of `first` are stored where those of `second` are. One scalar may not be: ComfyUI moves
    the parameters of modules that have modules for good."""
    ours, theirs = pointers(first.patcher.model), pointers(second.patcher.model)
    return {name for name in ours if ours[name] != theirs[name]} <= {"t5xxl.logit_scale"}


def test_dense_and_pruned_in_turn(prune, pack, room):
    dense = wide_clip()
    patched = prune(dense, SKIP, REUSE)
    pruned = patched.clip
    assert type(pruned.patcher).__name__ == type(dense.patcher).__name__ == "ModelPatcherDynamic"
    assert patched.shared and shared(pruned, dense)
    report = pack("nodes.comfy_host.report.reporting").report_of(patched, 0.01)
    assert "share their storages (dynamic VRAM); both take no more than the dense." in report
    for clip, wanted in [(dense, wide_wanted(skip=(), reuse={})), (pruned, wide_wanted())] * 2:
        for _ in range(2):  # streamed the first time, resident the second
            assert torch.equal(encode(clip), wanted)
    bars = [clip.patcher.model.dynamic_vbars[CARD] for clip in (dense, pruned)]
    loaded = [bar.loaded_size() for bar in bars]
    assert bars == VBar.made and bars[0] is not bars[1]
    assert sum(loaded) <= room and (loaded[0] > 0) == (room > 0)
    if room == 1 << 30:
        assert loaded == [sum(slot.size for slot in bar.slots) for bar in bars]
    for clip in (dense, pruned):
        clip.patcher.detach()
    assert shared(pruned, dense)
    assert [bar.loaded_size() for bar in bars] == [0, 0]


def test_sizes_are_those_of_a_tree_without_the_modules(prune, large_card):
    """After loading, using, a partial unload, and another use."""
    skip = (3, 6)
    bare = wide_clip()
    for place in skip:
        bare.cond_stage_model.t5xxl.transformer.encoder.block[place // 2].layer[place % 2] = torch.nn.Module()
    bare.patcher.size = 0
    pruned = prune(wide_clip(), skip).clip
    transformers = [clip.cond_stage_model.t5xxl.transformer for clip in (pruned, bare)]
    assert pruned.patcher.model_size() == bare.patcher.model_size()
    for clip in (pruned, bare):
        clip.load_model()
    assert sizes(pruned) == sizes(bare)
    for transformer in transformers:
        touch(transformer, set(ALL) - set(skip))
    assert sizes(pruned) == sizes(bare)
    assert pruned.patcher.loaded_size() > 4000 * KB
    freed = [clip.patcher.partially_unload(CPU, 300 * KB) for clip in (pruned, bare)]
    assert freed[0] == freed[1] >= 300 * KB
    assert sizes(pruned) == sizes(bare)
    assert torch.equal(encode(pruned), wide_wanted(skip=skip, reuse={}))


def sizes(clip):
    """What is loaded, and the slots reserved on the card."""
    slots = clip.patcher.model.dynamic_vbars[CARD].slots
    return clip.patcher.loaded_size(), sorted(slot.size for slot in slots)


def touch(transformer, places):
    """Runs the sub-blocks `places` and the embedding once, which brings them onto the card."""
    x = transformer.shared(torch.tensor([[5, 6]]), out_dtype=torch.float32)
    for place in places:
        layer = transformer.encoder.block[place // 2].layer[place % 2]
        layer.DenseReluDense(x) if place % 2 else layer.SelfAttention(x, optimized_attention=lambda q, *_: q)


def test_partial_unloads_between_uses(prune, room):
    dense = wide_clip()
    pruned = prune(dense, SKIP, REUSE).clip
    for size in (100 * KB, 1e32, 1):
        encode(dense)
        assert torch.equal(encode(pruned), wide_wanted())
        loaded = pruned.patcher.loaded_size()
        assert pruned.patcher.partially_unload(CPU, size) >= min(size, loaded)
        assert pruned.patcher.loaded_size() <= max(0, loaded - size)
        assert torch.equal(encode(pruned), wide_wanted())
        assert torch.equal(encode(dense), wide_wanted(skip=(), reuse={}))


def test_no_load_state_comes_along(prune, large_card):
    """Of a dense CLIP that is on the card with a LoRA: no slots, no signatures, no functions; files stay known."""
    dense = wide_clip()
    styled = with_lora(dense, make_lora(dense, ALL))
    encode(styled)
    dense.patcher.model.t5xxl.transformer.shared.weight.untyped_storage()._comfy_tensor_file_slice = "slice"
    assert hasattr(dense.patcher.model.t5xxl.transformer.shared, "_v")
    tree = prune(styled, SKIP, REUSE).clip.patcher.model
    left = {"_v", "_v_signature", "_v_weight", "_v_bias", "_prefetch", "weight_lowvram_function", "_pin_state"}
    assert [name for module in tree.modules() for name in module.__dict__ if name in left] == []
    assert tree.dynamic_vbars == {}
    assert tree.t5xxl.transformer.shared.weight.untyped_storage()._comfy_tensor_file_slice == "slice"


def test_lora_in_turn(prune, room):
    """ComfyUI patches a weight when it goes onto the card, unrounded in that use, rounded in later ones (so a source
    may be the one in its re-use and the other in its own place); what stays behind is unrounded in each use."""
    dense = wide_clip()
    first, second = make_lora(dense, ALL, seed=1), make_lora(dense, ALL, seed=2)
    pruned = prune(with_lora(dense, first), SKIP, REUSE).clip
    clips = [
        (pruned, (first,), {}),
        (with_lora(dense, second), (second,), {"skip": (), "reuse": {}}),
        (with_lora(pruned, second), (first, second), {}),
        (dense, (), {"skip": (), "reuse": {}}),
    ]
    for clip, loras, cut in clips * 2:
        encode(clip)
        found, wanted = encode(clip), wide_wanted(*loras, **cut, rounded=room == 1 << 30)
        assert (found - wanted).norm() < (0.05 if room == SOME else 1e-4) * wanted.norm()


@pytest.mark.parametrize("name", FORMATS)
def test_every_format(prune, large_card, tmp_path, name):
    """Against a dense CLIP under dynamic VRAM too, where ComfyUI rounds small quantised modules anew. GGUF has a
    patcher of its own, which is never dynamic."""
    dense = make_clip(name, tmp_path, **DEVICES)[0]
    pruned = prune(dense, SKIP, REUSE).clip
    assert pruned.patcher.is_dynamic() == dense.patcher.is_dynamic() == (name != GGUF)
    wanted = steps.while_loaded(make_clip(name, tmp_path, **DEVICES)[0])
    for _ in range(2):
        assert torch.equal(encode(pruned), wanted)
        encode(dense)


def test_a_pruned_clip_dropped_while_on_the_card(prune, large_card):
    dense = wide_clip()
    encode(prune(dense, SKIP, REUSE).clip)
    assert torch.equal(encode(dense), wide_wanted(skip=(), reuse={}))
    assert torch.equal(encode(prune(dense, SKIP, REUSE).clip), wide_wanted())
