"""A CLIP without its free parts, in ComfyUI's memory modes and storage formats, with LoRA, hooks and clones: as the
dense one bit for bit, and no byte of what is gone."""

import functools
import json

import comfy.model_management as mm
import pytest
import torch
from comfy.quant_ops import QUANT_ALGOS, QuantizedTensor

from .. import steps
from ..dynamic_vram import DEVICES, VBar, simulate
from ..formats import FORMATS, QUANTISED, make_clip, pointers
from ..free_clips import FAMILIES, assert_same, encoded, families, freed, small_clip
from ..steps import hook, with_hooks, with_lora

KLEIN = "FLUX.2 klein 9B"
GPU = {"load_device": torch.device("cpu:0"), "offload_device": torch.device("cpu")}


@pytest.fixture
def klein(monkeypatch):
    """klein(**options) -> a small CLIP of it, always the same."""
    return functools.partial(small_clip, KLEIN, monkeypatch)


def in_turn(dense, small, wanted):
    """Both give `wanted`, twice, one after the other."""
    for clip in (small, dense) * 2:
        assert_same(encoded(clip, KLEIN), wanted)


@pytest.mark.parametrize("where", [{}, GPU], ids=["in place", "elsewhere"])
def test_load_list_and_storages(pack, klein, where):
    clip = klein(**where)
    dense = encoded(clip, KLEIN)
    patched = freed(pack, clip, tables=True)
    kept, whole = pointers(patched.clip.patcher.model), pointers(clip.patcher.model)
    assert len(kept) < len(whole)
    if where:
        assert kept == {name: whole[name] for name in kept}
    in_turn(clip, patched.clip, dense)
    before, after = patched.clip_bytes
    listed = patched.clip.patcher._load_list()
    sizes = [mm.module_size(entry[-2]) for entry in listed]
    assert sum(sizes) + 4 == after == before - sum(part.size for part in patched.free)  # logit_scale stands alone
    assert {part.kind for part in patched.free} == {"layers", "norm", "table"} | ({"head"} if has_head(clip) else set())


def has_head(clip):
    """Releases differ in what they load of it."""
    return any(name.endswith("lm_head.weight") for name in clip.patcher.model.state_dict())


@pytest.mark.parametrize("name", FORMATS)
def test_the_table_of_a_t5_in_every_format(pack, name, tmp_path):
    clip, _ = make_clip(name, tmp_path)
    text = "a red fox, (two:1.3) lanterns"
    dense, patched = steps.encode(clip, text), freed(pack, clip, tables=True)
    assert [part.kind for part in patched.free] == ["table"]
    assert torch.equal(steps.encode(patched.clip, text), dense)
    assert torch.equal(steps.encode(clip, text), dense)


# Four bits a weight, the input turned in groups of 256 columns, or here 64.
TURNED = ("convrot_w4a4", "asym_w4a8_int8")


@pytest.mark.parametrize("name", [*QUANTISED, "int8_tensorwise rows", *TURNED])
def test_quantised_matrices_and_tables(pack, klein, name):
    """Kept tensors stay what they are, byte for byte."""
    name, _, rows = name.partition(" ")
    if name not in QUANT_ALGOS:
        pytest.skip(f"this ComfyUI has no {name}")
    sizes = FAMILIES[KLEIN].small["_model_config"] | {"intermediate_size": 128}
    sizes = {"_model_config": sizes, "qwen3_8b_model_config": sizes}
    state = quantised(klein(**sizes).patcher.model.state_dict(), name, bool(rows))
    clip = klein(state=state, quantization_metadata={"mixed_ops": True}, **sizes)
    dense, patched = encoded(clip, KLEIN), freed(pack, clip, tables=True)
    in_turn(clip, patched.clip, dense)
    raw = pack("nodes.comfy_host.weights.weights").raw_tensors
    whole = dict(raw(clip.patcher.model))
    for key, tensor in raw(patched.clip.patcher.model):
        assert tensor.dtype == whole[key].dtype and torch.equal(as_bytes(tensor), as_bytes(whole[key]))


def as_bytes(tensor):
    """The raw bytes of a plain tensor."""
    return tensor.detach().reshape(-1).view(torch.uint8)


def quantised(state, name, rows):
    """`state` with the layers' matrices (and, where ComfyUI can look up rows of it, the table) in a format."""
    layout, found = QUANT_ALGOS[name]["comfy_tensor_layout"], {}
    turned = {"convrot_groupsize": 64} if name in TURNED else {}
    for key, tensor in state.items():
        table = key.endswith("embed_tokens.weight") and name in ("float8_e4m3fn", "int8_tensorwise")
        if tensor.ndim == 2 and (".layers." in key or table):
            if table and rows:
                scale = tensor.float().abs().amax(1, keepdim=True) / 127
                found[key] = (tensor.float() / scale).round().to(torch.int8)
                found[f"{key}_scale"] = scale
            else:
                options = {"scale": "recalculate"} if name.startswith("float8") else turned
                found.update(QuantizedTensor.from_float(tensor, layout, **options).state_dict(key))
            mark = list(json.dumps({"format": name} | turned).encode())
            found[key.removesuffix("weight") + "comfy_quant"] = torch.tensor(mark, dtype=torch.uint8)
        else:
            found[key] = tensor
    return found


LORA = ("0.self_attn.q_proj", "26.mlp.down_proj", "35.mlp.up_proj")  # the last is for a dead layer


def lora_for(clip):
    """A LoRA as trainers name it, over kept and dead layers."""
    lora = {}
    for name in LORA:
        weight = clip.patcher.model.get_submodule(f"qwen3_8b.transformer.model.layers.{name}").weight
        base = f"text_encoders.qwen3_8b.transformer.model.layers.{name}"
        generator = torch.Generator().manual_seed(len(name))
        lora[f"{base}.lora_up.weight"] = torch.randn((weight.shape[0], 2), generator=generator) / 3
        lora[f"{base}.lora_down.weight"] = torch.randn((2, weight.shape[1]), generator=generator) / 3
        lora[f"{base}.alpha"] = torch.tensor(2.0)
    return lora


def test_lora_before_and_after(pack, klein):
    clip = klein()
    plain, with_it = encoded(clip, KLEIN), with_lora(clip, lora_for(clip))
    wanted = encoded(with_it, KLEIN)
    assert not torch.equal(wanted["cond"], plain["cond"])
    before = freed(pack, with_it, tables=True)
    assert [key.partition(".layers.")[2] for key in before.dropped_patches] == ["35.mlp.up_proj.weight"]
    small = freed(pack, clip, tables=True).clip
    after = with_lora(small, lora_for(clip))
    for each in (before.clip, after) * 2:
        assert_same(encoded(each, KLEIN), wanted)
        assert_same(encoded(small, KLEIN), plain)


def test_clones_hooks_and_rebuilding(pack, klein):
    clip = klein()
    hooks = hook(lora_for(clip), 0.4, 1.0)
    wanted = with_hooks(clip.clone(), hooks).encode_from_tokens_scheduled(tokens())
    small = freed(pack, clip, tables=True).clip
    found = with_hooks(small.clone(), hooks).encode_from_tokens_scheduled(tokens())
    assert len(found) == len(wanted)
    for (ours, _), (theirs, _) in zip(found, wanted, strict=True):
        assert torch.equal(ours, theirs)
    assert_same(encoded(small.clone(), KLEIN), encoded(clip, KLEIN))
    attached = pack("nodes.comfy_host.clip.trees").text_encoders(small.clone())["qwen3_8b"].freed
    assert {part.kind for part in attached} >= {"layers", "table"}


def tokens():
    """Of klein."""
    return families.tokens_for(FAMILIES[KLEIN], range(7, 40))


@pytest.mark.parametrize("room", [0, 300 << 10, 1 << 30], ids=["no room", "some room", "all fits"])
def test_dynamic_vram(pack, klein, monkeypatch, room):
    wanted = encoded(klein(), KLEIN)
    simulate(monkeypatch, room)
    clip = klein(**DEVICES)
    patched = freed(pack, clip, tables=True)
    assert type(patched.clip.patcher).__name__ == "ModelPatcherDynamic" and patched.shared
    assert "table" in {part.kind for part in patched.free}
    in_turn(clip, patched.clip, wanted)
    slots = [sum(slot.size for slot in bar.slots) for bar in VBar.made]
    assert (len(slots) == 2 and min(slots) < max(slots)) or room == 0
    for each in (clip, patched.clip):
        each.patcher.detach()


@pytest.mark.parametrize("name", ["Krea 2", "JoyImage", "MiniMax H3"])
def test_a_picture_reaches_the_first_layers(pack, monkeypatch, name):
    """DeepStack: Qwen3-VL adds what its tower saw to the stream behind its first layers too."""
    clip = small_clip(name, monkeypatch)
    tokens = families.tokens_for(FAMILIES[name], range(5, 40))
    (slot,) = tokens
    picture = torch.rand(1, 64, 64, 3, generator=torch.Generator().manual_seed(1))
    tokens[slot][0][20] = ({"type": "image", "data": picture, "original_type": "image"}, 1.0)
    dense = clip.encode_from_tokens(tokens, return_dict=True)
    kept, gone = freed(pack, clip, pictures=True, tables=True), freed(pack, clip, tables=True)
    assert {part.kind for part in gone.free} - {part.kind for part in kept.free} == {"tower"}
    for each in (kept.clip, clip):
        assert_same(each.encode_from_tokens(tokens, return_dict=True), dense)
    with pytest.raises(pack("skrr_engine.errors").SkrrError, match=r"cannot look at pictures any more.*pictures"):
        gone.clip.encode_from_tokens(tokens, return_dict=True)
    for merger in getattr(clip.patcher.model, slot).transformer.visual.deepstack_merger_list:
        torch.nn.init.zeros_(merger.linear_fc2.weight)
    assert not torch.equal(clip.encode_from_tokens(tokens, return_dict=True)["cond"], dense["cond"])


def test_a_plan_beside_free_parts(pack, monkeypatch):
    """SDXL's CLIP-L has a dead layer; a plan may name its sub-blocks, before or after it is gone."""
    clip = small_clip("SDXL", monkeypatch)
    patching, find = pack("nodes.comfy_host.clip.patching"), pack("nodes.comfy_host.clip.free").find_free
    plan = steps.plan_for(pack, clip, (6, 7, 2), slot="clip_l")
    cut = encoded(patching.apply_level(clip, plan, plan.levels[0]).clip, "SDXL")
    free = find(clip, tables=True)
    together = patching.make_smaller(clip, plan, plan.levels[0], free)
    one = freed(pack, clip, tables=True).clip
    later = patching.make_smaller(one, plan, plan.levels[0], find(one, tables=True))
    for patched in (together, later):
        assert_same(encoded(patched.clip, "SDXL"), cut)
    assert together.clip_bytes[1] == later.clip_bytes[1]
    report = pack("nodes.comfy_host.report.reporting").report_of(together, 0.3)
    assert "clip_l: 1 layer," in report and "this CLIP reads layer 3 of 4." in report and "To share" in report
