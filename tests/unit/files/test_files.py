"""Pruned files: what stays is byte for byte what it was, what goes is exactly the skipped sub-blocks."""

import json
import os

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from skrr_engine.encoders.clip import ClipStack
from skrr_engine.encoders.t5 import T5Stack
from skrr_engine.errors import PlanError, SkrrError
from skrr_engine.files.files import PLAN_KEY, open_plan, read_plan, write_pruned
from skrr_engine.files.header import read_header
from skrr_engine.plans.architecture import T5_XXL
from skrr_engine.plans.plan import EncoderInfo, Plan, make_cut, make_level
from skrr_engine.plans.plan_json import dumps
from skrr_engine.plans.presets import load_preset

PREFIXES = ["", "transformer.", "text_encoders.t5xxl.transformer."]


def plan_for(shape, skip, reuse=None, slot="t5xxl"):
    encoders = {slot: EncoderInfo(shape)}
    return Plan("test", encoders, (make_level(encoders, {slot: make_cut(skip, reuse)}),))


@pytest.fixture
def t5_file(tiny, tmp_path):
    """(path, architecture) of a T5 in float16."""
    model = tiny.t5()
    return tiny.save(model, tmp_path / "t5.safetensors", torch.float16), T5Stack(model).architecture


# --- the copy ---


@pytest.mark.parametrize("prefix", PREFIXES)
def test_kept_tensors_are_copied_byte_for_byte(tiny, tmp_path, prefix):
    model = tiny.t5()
    source = tiny.save(model, tmp_path / "a.safetensors", torch.float16, prefix, {"format": "pt", "note": "mine"})
    plan = plan_for(T5Stack(model).architecture, [3, 4, 0], {3: 5})
    written = write_pruned(source, tmp_path / "b.safetensors", plan)
    before, after = load_file(source), load_file(tmp_path / "b.safetensors")
    assert before.keys() - after.keys() == set(written.dropped)
    assert all(torch.equal(before[name], tensor) for name, tensor in after.items())
    parameters = sum(before[name].numel() for name in written.dropped)
    assert parameters == plan.levels[0].removed_parameters
    assert written.source_bytes == os.path.getsize(source)
    assert written.target_bytes == os.path.getsize(tmp_path / "b.safetensors")
    with safe_open(tmp_path / "b.safetensors", "pt") as file:
        metadata = file.metadata()
    assert (metadata["format"], metadata["note"]) == ("pt", "mine")
    assert metadata["skrr_source"] == f"a.safetensors, {written.source_bytes} bytes"
    assert json.loads(metadata["skrr_prefixes"]) == {"t5xxl": prefix}
    assert read_plan(tmp_path / "b.safetensors") == plan


def test_t5_keeps_its_table_and_umt5_does_not(tiny, tmp_path):
    table = "encoder.block.0.layer.0.SelfAttention.relative_attention_bias.weight"
    for umt5 in (False, True):
        model = tiny.t5(umt5=umt5)
        source = tiny.save(model, tmp_path / f"{umt5}.safetensors")
        written = write_pruned(source, tmp_path / f"{umt5}-out", plan_for(T5Stack(model).architecture, [0]))
        assert (table in written.dropped) == umt5
        assert (table in read_header(tmp_path / f"{umt5}-out").tensors) != umt5


def test_clip_by_its_own_names(tiny, tmp_path):
    model = tiny.clip()
    source = tiny.save(model, tmp_path / "a", prefix="clip_l.transformer.")
    write_pruned(source, tmp_path / "b", plan_for(ClipStack(model).architecture, [1, 4], slot="clip_l"))
    gone = read_header(source).tensors.keys() - read_header(tmp_path / "b").tensors.keys()
    layers = "clip_l.transformer.text_model.encoder.layers."
    parts = {name.removeprefix(layers).rpartition(".")[0] for name in gone}
    assert parts == {
        "0.mlp.fc1", "0.mlp.fc2", "0.layer_norm2", "2.layer_norm1",
        "2.self_attn.q_proj", "2.self_attn.k_proj", "2.self_attn.v_proj", "2.self_attn.out_proj",
    }  # fmt: skip


@pytest.fixture
def scaled_file(t5_file):
    """The T5 with fp8 linears and their companions, in odd sizes."""
    path, shape = t5_file
    state = {}
    for name, tensor in load_file(path).items():
        module = name.removesuffix(".weight")
        if "SelfAttention." in name and "bias" not in name:
            state[name] = tensor.to(torch.float8_e4m3fn)
            state[f"{module}.comfy_quant"] = torch.arange(27, dtype=torch.uint8)
            state[f"{module}.weight_scale"] = torch.tensor(0.5)
        elif "DenseReluDense" in name:
            state[name] = tensor.to(torch.float8_e5m2)
            state[f"{module}.scale_weight"], state[f"{module}.input_scale"] = torch.tensor([0.5]), torch.tensor(2.0)
        else:
            state[name] = tensor
    state["scaled_fp8"] = torch.zeros(2, dtype=torch.float8_e4m3fn)
    state["spiece_model"] = torch.arange(101, dtype=torch.uint8)
    save_file(state, path)
    return path, shape


def test_companions_go_with_their_linear(scaled_file, tmp_path):
    path, shape = scaled_file
    written = write_pruned(path, tmp_path / "b", plan_for(shape, [2, 5]))
    rest = {name.rpartition(".")[2] for name in written.dropped}
    assert rest == {"weight", "comfy_quant", "weight_scale", "scale_weight", "input_scale"}
    assert all(name.startswith(("encoder.block.1.layer.0.", "encoder.block.2.layer.1.")) for name in written.dropped)
    after = load_file(tmp_path / "b")
    assert after["spiece_model"].tolist() == list(range(101))
    assert "scaled_fp8" in after


def test_every_tensor_stays_aligned(scaled_file, tmp_path):
    """Odd sizes go and come; a float32 must still begin at a multiple of 4, or readers refuse it."""
    path, shape = scaled_file
    for skip in ([0], [1], [2, 5], range(8)):
        write_pruned(path, tmp_path / "b", plan_for(shape, skip), overwrite=True)
        header = read_header(tmp_path / "b")
        assert header.data_at % 8 == 0
        widths = {"F32": 4, "F16": 2}
        assert all(entry.start % widths.get(entry.dtype, 1) == 0 for entry in header.tensors.values())


def test_packed_4_bit_weights_are_recognised(t5_file, tmp_path):
    """Two values in a byte halve the last side; the first sides tell the architecture."""
    path, shape = t5_file
    state = load_file(path)
    for name, tensor in list(state.items()):
        if "SelfAttention.q" in name or "wi_0" in name:
            state[name] = torch.zeros(tensor.shape[0], tensor.shape[1] // 2, dtype=torch.uint8)
    save_file(state, path)
    assert write_pruned(path, tmp_path / "b", plan_for(shape, [2])).dropped


def test_memory_stays_small(tmp_path):
    """A tensor far larger than the copy buffer (sparse on disk) never lies in memory as a whole."""
    import tracemalloc

    big = 64 * 1024 * 1024
    header = json.dumps({"a": {"dtype": "U8", "shape": [big], "data_offsets": [0, big]}}).encode()
    with open(tmp_path / "a", "wb") as file:
        file.write(len(header).to_bytes(8, "little") + header)
        file.truncate(8 + len(header) + big)
    # No encoder is cut, so everything is copied.
    empty = Plan("none", {"t5xxl": EncoderInfo(T5_XXL)}, (make_level({"t5xxl": EncoderInfo(T5_XXL)}, {}),))
    tracemalloc.start()
    write_pruned(tmp_path / "a", tmp_path / "b", empty)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert os.path.getsize(tmp_path / "b") > big
    assert peak < 8 * 1024 * 1024


def test_two_encoders_in_one_file(tiny, tmp_path):
    t5, clip = tiny.t5(), tiny.clip()
    state = {
        **load_file(tiny.save(t5, tmp_path / "t", prefix="text_encoders.t5xxl.transformer.")),
        **load_file(tiny.save(clip, tmp_path / "c", prefix="text_encoders.clip_l.transformer.")),
    }
    save_file(state, tmp_path / "both")
    encoders = {
        "t5xxl": EncoderInfo(T5Stack(t5).architecture),
        "clip_l": EncoderInfo(ClipStack(clip).architecture),
    }
    level = make_level(encoders, {"t5xxl": make_cut([1]), "clip_l": make_cut([2])})
    written = write_pruned(tmp_path / "both", tmp_path / "out", Plan("both", encoders, (level,)))
    assert {name.split(".")[1] for name in written.dropped} == {"t5xxl", "clip_l"}


def test_the_same_encoder_twice_is_chosen_by_slot(tiny, tmp_path):
    one, shape = load_file(tiny.save(tiny.t5(), tmp_path / "t")), T5Stack(tiny.t5()).architecture
    save_file({f"{p}.{n}": t.clone() for p in ("t5xxl", "other") for n, t in one.items()}, tmp_path / "both")
    written = write_pruned(tmp_path / "both", tmp_path / "out", plan_for(shape, [1]))
    assert all(name.startswith("t5xxl.") for name in written.dropped)
    with pytest.raises(PlanError, match=r"holds 2 encoders that plan 'test' fits, under 'other\.', 't5xxl\.'"):
        write_pruned(tmp_path / "both", tmp_path / "out2", plan_for(shape, [1], slot="umt5xxl"))


# --- what is refused ---


def test_an_existing_file_stays_unless_told(t5_file, tmp_path):
    path, shape = t5_file
    (tmp_path / "b").write_text("precious")
    with pytest.raises(SkrrError, match="b exists already"):
        write_pruned(path, tmp_path / "b", plan_for(shape, [1]))
    assert (tmp_path / "b").read_text() == "precious"
    write_pruned(path, tmp_path / "b", plan_for(shape, [1]), overwrite=True)
    assert read_plan(tmp_path / "b").name == "test"


@pytest.mark.parametrize("link", [None, os.symlink, os.link])
def test_never_over_itself(t5_file, tmp_path, link):
    path, shape = t5_file
    target = path
    if link:
        target = tmp_path / "other-name"
        link(path, target)
    before = path.read_bytes()
    with pytest.raises(SkrrError, match="would be written over itself"):
        write_pruned(path, target, plan_for(shape, [1]), overwrite=True)
    assert path.read_bytes() == before


def test_a_failure_leaves_nothing_behind(t5_file, tmp_path, monkeypatch):
    path, shape = t5_file
    (tmp_path / "b").write_text("precious")

    def full(*_):
        raise OSError(28, "No space left on device")

    for name in ("fsync", "replace"):
        with monkeypatch.context() as patch:
            patch.setattr(f"os.{name}", full)
            with pytest.raises(SkrrError, match=r"b cannot be written into .*: No space left on device. Free"):
                write_pruned(path, tmp_path / "b", plan_for(shape, [1]), overwrite=True)
        assert (tmp_path / "b").read_text() == "precious"
        assert sorted(p.name for p in tmp_path.iterdir()) == ["b", "t5.safetensors"]


def test_a_source_that_shrinks_is_noticed(t5_file, tmp_path, monkeypatch):
    path, shape = t5_file
    header = read_header(path)
    with open(path, "r+b") as file:
        file.truncate(header.data_at + 10)
    monkeypatch.setattr("skrr_engine.files.files.read_header", lambda _: header)
    with pytest.raises(SkrrError, match=r"t5.safetensors became shorter while it was read"):
        write_pruned(path, tmp_path / "b", plan_for(shape, [1]))
    assert not (tmp_path / "b").exists()


def test_a_pruned_file_is_not_pruned_again(t5_file, tmp_path):
    path, shape = t5_file
    write_pruned(path, tmp_path / "b", plan_for(shape, [1]))
    with pytest.raises(SkrrError, match="b is pruned already"):
        write_pruned(tmp_path / "b", tmp_path / "c", plan_for(shape, [3]))


def test_one_level_a_file(t5_file, tmp_path):
    with pytest.raises(PlanError, match="A file takes one level; plan 'sd3' has 24"):
        write_pruned(t5_file[0], tmp_path / "b", load_preset("sd3"))


def test_a_plan_for_another_encoder_names_both(t5_file, tmp_path):
    plan = load_preset("sd3")
    with pytest.raises(PlanError, match=r"'sd3' is for a T5 text encoder, 24 layers, .* holds a T5 text encoder, 4"):
        write_pruned(t5_file[0], tmp_path / "b", plan.with_levels(plan.levels[:1]))
    save_file({"a": torch.zeros(1)}, tmp_path / "c")
    with pytest.raises(PlanError, match="c holds no T5 or CLIP text encoder"):
        write_pruned(tmp_path / "c", tmp_path / "b", plan.with_levels(plan.levels[:1]))


def test_umt5_is_not_t5(tiny, tmp_path):
    """The same depth and widths; only the tables tell them apart."""
    source = tiny.save(tiny.t5(umt5=True), tmp_path / "umt5")
    with pytest.raises(PlanError, match="position bias first -> every"):
        write_pruned(source, tmp_path / "b", plan_for(T5Stack(tiny.t5()).architecture, [1]))


BROKEN = {
    "a layer is missing": (lambda n: n.startswith("encoder.block.1."), "sub-block 2 .* is missing or not like"),
    "a sub-block is missing": (lambda n: n.startswith("encoder.block.2.layer.1"), "sub-block 5 .* is missing"),
    "a weight is missing": (lambda n: n.endswith("block.3.layer.1.DenseReluDense.wo.weight"), "sub-block 7 "),
    "no final norm": (lambda n: "final_layer_norm" in n, "final_layer_norm.weight should have 1 sides, found no such"),
    "no table": (lambda n: "relative" in n, "relative_attention_bias.weight should have 2 sides"),
    "no embedding": (lambda n: n == "shared.weight", "embed_tokens.weight should have 2 sides"),
}


@pytest.mark.parametrize("drop, sentence", BROKEN.values(), ids=BROKEN.keys())
def test_half_an_encoder_is_refused(t5_file, tmp_path, drop, sentence):
    path, shape = t5_file
    save_file({n: t for n, t in load_file(path).items() if not drop(n)}, tmp_path / "half")
    with pytest.raises(SkrrError, match=sentence):
        write_pruned(tmp_path / "half", tmp_path / "b", plan_for(shape, [1]))


# --- plans in files ---


def test_a_dense_file_has_no_plan(t5_file):
    with pytest.raises(SkrrError, match=r"t5.safetensors has no plan inside"):
        read_plan(t5_file[0])


def test_a_hostile_plan_inside_is_refused(tmp_path):
    save_file({"a": torch.zeros(1)}, tmp_path / "a.safetensors", {PLAN_KEY: "[" * 100_000})
    with pytest.raises(PlanError, match="RecursionError"):
        read_plan(tmp_path / "a.safetensors")


def test_plans_are_opened_by_what_they_are_called(t5_file, tmp_path):
    path, shape = t5_file
    plan = plan_for(shape, [1])
    (tmp_path / "plan.json").write_text("\ufeff" + dumps(plan), encoding="utf-8")
    write_pruned(path, tmp_path / "b.safetensors", plan)
    assert open_plan(str(tmp_path / "plan.json")) == open_plan(str(tmp_path / "b.safetensors")) == plan
    assert open_plan("sd3") == load_preset("sd3")


def test_what_is_no_plan_is_refused(tmp_path):
    with pytest.raises(SkrrError, match="'nothing' is neither a file nor a preset; the presets are flux1-dev"):
        open_plan("nothing")
    (tmp_path / "a.json").write_bytes(b"\xff\xfe\0")
    with pytest.raises(PlanError, match=r"a.json is not a plan: it is not UTF-8"):
        open_plan(str(tmp_path / "a.json"))
    with open(tmp_path / "b.json", "wb") as file:
        file.truncate(9_000_000)
    with pytest.raises(PlanError, match=r"b.json has 9000000 bytes; a plan has at most 2000000"):
        open_plan(str(tmp_path / "b.json"))
