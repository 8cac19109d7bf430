"""Encoders opened from disk compute what the library's own model computes; everything else is a sentence."""

import json
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import CLIPTextModel

from skrr_engine.encoders.clip import ClipStack
from skrr_engine.encoders.t5 import T5Stack
from skrr_engine.errors import SkrrError
from skrr_engine.files.files import write_pruned
from skrr_engine.measure.execute import assign, encode
from skrr_engine.measure.feeding import Feeder, linears
from skrr_engine.opening.open_encoder import default_slot, open_encoder
from skrr_engine.plans.plan import EncoderInfo, Plan, make_cut, make_level

MODELS = {
    "t5": lambda tiny: tiny.t5(dtype=torch.float32),
    "plain t5": lambda tiny: tiny.t5(dtype=torch.float32, feed_forward_proj="relu"),
    "umt5": lambda tiny: tiny.t5(dtype=torch.float32, umt5=True),
    "clip": lambda tiny: tiny.clip(dtype=torch.float32),
    "clip without projection": lambda tiny: CLIPTextModel(tiny.clip().config).eval(),
}


def stack_of(model):
    return ClipStack(model, 2, final_norm=False) if "clip" in model.config.model_type else T5Stack(model)


def save(tiny, model, path, prefix="", dtype=torch.float32):
    """In file names: transformers 5 leaves text_model out of the CLIP without projection."""
    bare = model.config.model_type == "clip_text_model" and not hasattr(model, "text_model")
    return tiny.save(model, path, dtype, prefix + "text_model." * bare)


def equal_outputs(tiny, one, two):
    rows = tiny.rows(pooled=one.stack.architecture.family == "clip")
    for batch in (*rows.batches, *rows.null):
        expected, found = encode(two, tuple(range(len(two.subblocks))), batch), encode(one.stack, one.assignment, batch)
        assert found.keys() == expected.keys()
        assert all(torch.equal(found[name], expected[name]) for name in expected)


@pytest.mark.parametrize("prefix", ["", "text_encoders.some.transformer."])
@pytest.mark.parametrize("make", MODELS.values(), ids=MODELS.keys())
def test_one_file(tiny, tmp_path, make, prefix):
    model = make(tiny)
    path = save(tiny, model, tmp_path / "a.safetensors", prefix)
    found = open_encoder(path, heads=2 if "clip" in model.config.model_type else None)
    assert found.plan is None
    assert found.stack.architecture == stack_of(model).architecture
    equal_outputs(tiny, found, stack_of(model))


@pytest.mark.parametrize("make", MODELS.values(), ids=MODELS.keys())
def test_a_transformers_folder(tiny, tmp_path, make):
    model = make(tiny)
    model.config.save_pretrained(tmp_path)
    save(tiny, model, tmp_path / "model.safetensors")
    found = open_encoder(tmp_path)
    assert found.stack.identity == stack_of(model).identity
    equal_outputs(tiny, found, stack_of(model))


def test_a_folder_tells_what_shapes_do_not(tiny, tmp_path):
    """Epsilon, bias distance, activation and heads."""
    told = {"relative_attention_max_distance": 60, "layer_norm_epsilon": 0.1, "feed_forward_proj": "gelu"}
    t5 = tiny.t5(dtype=torch.float32, relative_attention_num_buckets=4, **told)
    clip = tiny.clip(dtype=torch.float32)
    for name, model in (("t5", t5), ("clip", clip)):
        model.config.save_pretrained(tmp_path / name)
        save(tiny, model, tmp_path / name / "model.safetensors")
        equal_outputs(tiny, open_encoder(tmp_path / name), stack_of(model))


def test_shards_with_an_index(tiny, tmp_path):
    model = tiny.t5(dtype=torch.float32)
    model.config.save_pretrained(tmp_path)
    state = load_file(tiny.save(model, tmp_path / "all"))
    names = sorted(state)
    for n, part in enumerate((names[:9], names[9:]), 1):
        save_file({name: state[name] for name in part}, tmp_path / f"model-0000{n}-of-00002.safetensors")
    (tmp_path / "model.safetensors.index.json").write_text("{}")
    equal_outputs(tiny, open_encoder(tmp_path), T5Stack(model))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_stored_formats_become_float32_and_bytes_stay_the_files(tiny, tmp_path, dtype):
    model = tiny.t5()
    found = open_encoder(tiny.save(model, tmp_path / "a", dtype))
    stack = T5Stack(model.to(dtype).to(torch.float32))
    equal_outputs(tiny, found, stack)
    assert found.stack.total_bytes == stack.total_bytes * dtype.itemsize // 4
    assert [b.bytes for b in found.stack.subblocks] == [b.bytes * dtype.itemsize // 4 for b in stack.subblocks]


def test_the_embedding_goes_by_either_name(tiny, tmp_path):
    model = tiny.t5(dtype=torch.float32)
    state = load_file(tiny.save(model, tmp_path / "a"))
    state["encoder.embed_tokens.weight"] = state.pop("shared.weight")
    save_file(state, tmp_path / "b")
    equal_outputs(tiny, open_encoder(tmp_path / "b"), T5Stack(model))


@pytest.mark.parametrize("make", MODELS.values(), ids=MODELS.keys())
@pytest.mark.parametrize("skip, reuse", [([0, 3], {}), ([2, 3, 5], {3: 1}), ([0, 1, 4], {0: 2, 4: 2})])
def test_a_pruned_file_runs_as_its_plan_says(tiny, tmp_path, make, skip, reuse):
    """And never makes what was removed."""
    model = make(tiny)
    stack = stack_of(model)
    encoders = {"some": EncoderInfo(stack.architecture)}
    plan = Plan("p", encoders, (make_level(encoders, {"some": make_cut(skip, reuse)}),))
    write_pruned(save(tiny, model, tmp_path / "a", "x."), tmp_path / "b", plan)
    found = open_encoder(tmp_path / "b")
    assert (found.plan, found.slot) == (plan, "some")
    places = assign(len(stack.subblocks), skip, reuse)
    assert found.assignment == places
    for batch in tiny.rows(pooled=stack.architecture.family == "clip").batches:
        expected, outputs = encode(stack, places, batch), encode(found.stack, found.assignment, batch)
        assert all(torch.equal(outputs[name], expected[name]) for name in expected)
    removed = sum(p.numel() for p in found.stack.model.parameters() if p.is_meta)
    assert removed == plan.levels[0].removed_parameters


def test_slots_are_named_as_comfyui_does(tiny, tmp_path):
    names = {make: open_encoder(save(tiny, MODELS[make](tiny), tmp_path / make), heads=2).slot for make in MODELS}
    assert set(names.values()) == {"t5xxl", "umt5xxl", "clip_l"}
    assert names["umt5"] == "umt5xxl"
    clip = open_encoder(tmp_path / "clip", heads=2, slot="mine")
    assert clip.slot == "mine"
    assert default_slot(clip.stack.architecture) == "clip_l"


def test_one_of_several_encoders_is_chosen_by_slot(tiny, tmp_path):
    t5, clip = tiny.t5(dtype=torch.float32), tiny.clip(dtype=torch.float32)
    parts = save(tiny, t5, tmp_path / "t", "t5xxl."), save(tiny, clip, tmp_path / "c", "clip_l.")
    save_file({**load_file(parts[0]), **load_file(parts[1])}, tmp_path / "both")
    equal_outputs(tiny, open_encoder(tmp_path / "both", slot="t5xxl"), T5Stack(t5))
    assert open_encoder(tmp_path / "both", slot="clip_l", heads=2).stack.architecture.family == "clip"
    with pytest.raises(SkrrError, match=r"both holds 2 text encoders, under '.*', '.*'. Name one with --slot"):
        open_encoder(tmp_path / "both")


def test_fp8_is_refused_for_search_with_the_way_out(tiny, tmp_path):
    with pytest.raises(SkrrError, match=r"as F8_E4M3; .* Search on the unquantised file: its plan can be applied"):
        open_encoder(tiny.save(tiny.t5(), tmp_path / "a", torch.float8_e4m3fn))


def test_a_weight_of_another_shape_is_refused(tiny, tmp_path):
    state = load_file(tiny.save(tiny.t5(), tmp_path / "a"))
    state["encoder.block.2.layer.0.SelfAttention.q.weight"] = torch.zeros(8, 3)
    save_file(state, tmp_path / "b")
    with pytest.raises(SkrrError, match=r"block.2.layer.0.SelfAttention.q.weight has shape \[8, 3\]; .* has \[8, 16\]"):
        open_encoder(tmp_path / "b")


def test_an_unknown_activation_in_a_plan_is_refused(tiny, tmp_path):
    model = tiny.t5()
    shape = replace(T5Stack(model).architecture, activation="quick_gelu")
    encoders = {"t5xxl": EncoderInfo(shape)}
    plan = Plan("p", encoders, (make_level(encoders, {"t5xxl": make_cut([1])}),))
    write_pruned(tiny.save(model, tmp_path / "a"), tmp_path / "b", plan)
    with pytest.raises(SkrrError, match="with gated activation 'quick_gelu' is unknown"):
        open_encoder(tmp_path / "b")


@pytest.mark.parametrize("device", ["tpu", "cpu:9", "cpu:x", "cuda:9", "cuda:", ""])
def test_a_missing_device_is_refused(tiny, tmp_path, device):
    with pytest.raises(SkrrError, match=f"no device '{device}' for this PyTorch; it has cpu"):
        open_encoder(tiny.save(tiny.t5(), tmp_path / "a"), device=device)


def test_devices_are_counted(tiny, tmp_path, monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    with pytest.raises(SkrrError, match=r"no device 'cuda:2' .* it has cpu, cuda:0, cuda:1\. Choose"):
        open_encoder(tiny.save(tiny.t5(), tmp_path / "a"), device="cuda:2")


def test_told_heads_win_over_the_folder(tiny, tmp_path):
    tiny.clip().config.save_pretrained(tmp_path)
    tiny.save(tiny.clip(), tmp_path / "model.safetensors")
    assert open_encoder(tmp_path).stack.architecture.heads == 2
    assert open_encoder(tmp_path, heads=4).stack.architecture.heads == 4


def test_what_is_no_encoder_is_refused(tmp_path):
    save_file({"model.layers.0.mlp.weight": torch.zeros(1)}, tmp_path / "llm.safetensors")
    with pytest.raises(SkrrError, match=r"llm.safetensors holds no T5, umT5 or CLIP text encoder"):
        open_encoder(tmp_path / "llm.safetensors")


def test_a_pickle_is_never_opened(tiny, tmp_path):
    tiny.t5().config.save_pretrained(tmp_path)
    torch.save({}, tmp_path / "pytorch_model.bin")
    with pytest.raises(SkrrError, match=r"Pickled weights \(.bin, .pt\) are never opened"):
        open_encoder(tmp_path)
    with pytest.raises(SkrrError, match="not a safetensors file"):
        open_encoder(tmp_path / "pytorch_model.bin")


CONFIGS = {
    "no config": (None, "has no config.json"),
    "no JSON": ("{", "is not the config of a text encoder of type t5"),
    "list": ("[]", "is not the config of a text encoder"),
    "other model": ('{"model_type": "llama"}', "is not the config of a text encoder of type t5, umt5, clip_text_model"),
    "deep nesting": ("[" * 100_000, "is not the config"),
    "unknown activation": ('{"model_type": "t5", "feed_forward_proj": "gated-silu"}', "'gated-silu'; expected one of"),
    "epsilon a text": ('{"model_type": "t5", "layer_norm_epsilon": "small"}', "'small'; expected a number above 0"),
    "heads 0": ('{"model_type": "clip_text_model", "num_attention_heads": 0}', "is 0; expected a number above 0"),
    "other family": ('{"model_type": "clip_text_model"}', "of a CLIP, but the weights beside it are of a T5"),
}


@pytest.mark.parametrize("config, sentence", CONFIGS.values(), ids=CONFIGS.keys())
def test_wrong_configs_are_refused(tiny, tmp_path, config, sentence):
    tiny.save(tiny.t5(), tmp_path / "model.safetensors")
    if config is not None:
        (tmp_path / "config.json").write_text(config)
    with pytest.raises(SkrrError, match=sentence):
        open_encoder(tmp_path)


@pytest.mark.parametrize("prefixes", ["[", "[]", "{}", '{"t5xxl": 3}', '{"other": ""}'])
def test_a_pruned_file_with_odd_prefixes_is_refused(tiny, tmp_path, prefixes):
    model = tiny.t5()
    encoders = {"t5xxl": EncoderInfo(T5Stack(model).architecture)}
    plan = Plan("p", encoders, (make_level(encoders, {"t5xxl": make_cut([1])}),))
    write_pruned(tiny.save(model, tmp_path / "a"), tmp_path / "b", plan)
    from skrr_engine.files.header import read_header

    metadata = {**read_header(tmp_path / "b").metadata, "skrr_prefixes": prefixes}
    assert json.loads(metadata["skrr_plan"])
    save_file(load_file(tmp_path / "b"), tmp_path / "c", metadata)
    with pytest.raises(SkrrError, match="no pruned encoder"):
        open_encoder(tmp_path / "c")


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("make", MODELS.values(), ids=MODELS.keys())
def test_an_encoder_to_be_fed_keeps_its_matrices_as_stored_and_computes_the_same(tiny, tmp_path, make, dtype):
    path = save(tiny, make(tiny), tmp_path / "a.safetensors", dtype=dtype)
    heads = 2 if "clip" in make(tiny).config.model_type else None
    plain, fed = open_encoder(path, heads=heads), open_encoder(path, heads=heads, fed=True)
    fed.stack.feeder = Feeder(fed.stack.subblocks, torch.device("cpu"), {1})
    equal_outputs(tiny, fed, plain.stack)
    stored = min(dtype, torch.float32, key=lambda kind: kind.itemsize)
    for block in fed.stack.subblocks:
        assert {layer.weight.dtype for layer in linears(block)} == {stored}
    assert fed.stack.total_bytes == plain.stack.total_bytes
