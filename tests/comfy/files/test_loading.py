"""SkrrCLIPLoader and SkrrSaveEncoder on files of real size: the same CLIP as loading whole and cutting after."""

import os
import tempfile
from pathlib import Path

import pytest
import torch

from .. import model_files
from ..steps import without_free

SKIP, REUSE = (0, 1, 5, 22, 13), {5: 7, 0: 2}
big = pytest.mark.skipif(not os.environ.get("SKRR_BIG_TESTS"), reason="5 GB of disk, 12 GB of memory: SKRR_BIG_TESTS=1")


@pytest.fixture(scope="module")
def models():
    with tempfile.TemporaryDirectory(prefix="skrr-models-") as folder:
        model_files.write_ordinary_files(Path(folder))
        yield Path(folder)


@pytest.fixture
def here(models, monkeypatch):
    """ComfyUI looks for text encoders in the folder of this test."""
    monkeypatch.setattr("folder_paths.get_folder_paths", lambda kind: [str(models / kind)])
    return models


def dense_clip(path, kind):
    import comfy.sd

    return comfy.sd.load_clip([str(path)], clip_type=getattr(comfy.sd.CLIPType, kind.upper()))


def plan_of(pack, clip, slot, skip=SKIP, reuse=REUSE):
    plan = pack("skrr_engine.plans.plan")
    info = {slot: plan.EncoderInfo(pack("nodes.comfy_host.clip.trees").choose_encoder(clip, slot).architecture)}
    level = plan.make_level(info, {slot: plan.make_cut(skip, reuse)})
    return plan.Plan("test", info, (level,))


def encode(clip):
    cond, pooled = clip.encode_from_tokens(clip.tokenize("a red fox reading a map"), return_pooled=True)
    return cond.clone(), pooled.clone()


def assert_same(one, other):
    """Outputs, keys, values and sizes."""
    assert all(torch.equal(a, b) for a, b in zip(encode(one), encode(other), strict=True))
    first, second = one.patcher.model.state_dict(), other.patcher.model.state_dict()
    assert first.keys() == second.keys()
    assert all(torch.equal(first[key], second[key]) for key in first)
    assert one.patcher.model_size() == other.patcher.model_size()


@pytest.mark.parametrize("kind", ["stable_diffusion", "sd3"])
def test_loading_the_kept_equals_loading_whole_and_cutting(pack, here, kind):
    path = here / "text_encoders" / model_files.CLIP_L
    dense = dense_clip(path, kind)
    plan = plan_of(pack, dense, "clip_l")
    cut = without_free(pack, dense, plan)
    loaded = pack("nodes.comfy_host.files.loading").load_kept([path], kind, plan, plan.levels[0])
    assert_same(loaded.clip, cut.clip)
    assert loaded.encoder_bytes == cut.encoder_bytes and loaded.clip_bytes == cut.clip_bytes
    assert type(loaded.clip.patcher) is type(dense.patcher)
    rebuilt = loaded.clip.patcher.cached_patcher_init
    again = rebuilt[0](*rebuilt[1], disable_dynamic=True)
    assert again.model_size() == cut.clip.patcher.model_size()


def test_only_the_kept_is_read(pack, here, monkeypatch):
    """Not one skipped tensor is asked of the file, and no warning about them reaches the user."""
    import logging

    loading = pack("nodes.comfy_host.files.loading")
    path = here / "text_encoders" / model_files.CLIP_L
    plan = plan_of(pack, dense_clip(path, "sd3"), "clip_l")
    read, said = [], []
    reader = pack("skrr_engine.files.tensor_reading").TensorReader
    usual = reader.read

    def watched(self, name, *rest):
        read.append(name)
        return usual(self, name, *rest)

    monkeypatch.setattr(reader, "read", watched)
    listener = logging.Handler()
    listener.emit = lambda record: said.append(record.getMessage())
    root, level = logging.getLogger(), logging.getLogger().level
    root.addHandler(listener)
    root.setLevel(logging.INFO)
    try:
        loading.load_kept([path], "sd3", plan, plan.levels[0])
    finally:
        root.removeHandler(listener)
        root.setLevel(level)
    from ..oracle import clip_prefixes

    assert read and not any(name.startswith(tuple(clip_prefixes(SKIP))) for name in read)
    assert said and not any("missing" in text for text in said)


def test_a_saved_encoder_opens_with_nothing_else_given(pack, here):
    """Bit for bit, original names, no tensor twice, never over an existing file unasked."""
    from safetensors import safe_open

    host, path = "nodes.comfy_host.", here / "text_encoders" / model_files.CLIP_L
    dense = dense_clip(path, "sd3")
    plan = plan_of(pack, dense, "clip_l")
    cut = without_free(pack, dense, plan)
    saving, errors = pack(host + "files.saving"), pack("skrr_engine.errors").SkrrError
    encoder = pack(host + "clip.trees").choose_encoder(cut.clip)
    sentence = saving.save_encoder(encoder, "small", bake_lora=False, overwrite=False)
    assert "LoRA none" in sentence
    small = here / "text_encoders" / "small.safetensors"
    with safe_open(small, "pt") as written, safe_open(path, "pt") as original:
        assert set(written.keys()) < set(original.keys())
        tensors = {key: written.get_tensor(key) for key in written.keys()}
        assert all(torch.equal(tensors[key], original.get_tensor(key)) for key in tensors if tensors[key].numel())
    loaded = pack(host + "files.loading").load_kept([small], "sd3")
    assert_same(loaded.clip, cut.clip)
    assert pack(host + "clip.trees").choose_encoder(loaded.clip).applied == plan.levels[0].cuts["clip_l"]
    with pytest.raises(errors, match="exists already"):
        saving.save_encoder(encoder, "small.safetensors", bake_lora=False, overwrite=False)
    with pytest.raises(errors, match="is dense"):
        saving.save_encoder(pack(host + "clip.trees").choose_encoder(dense), "dense", False, False)
    with pytest.raises(errors, match="brings its plan"):
        pack(host + "files.loading").load_kept([small], "sd3", plan, plan.levels[0])
    rebuild, arguments = loaded.clip.patcher.cached_patcher_init
    assert rebuild(*arguments, disable_dynamic=True).model_size() == cut.clip.patcher.model_size()
    assert not list(here.glob("**/*.part"))


def test_a_saved_encoder_says_where_its_plan_comes_from(pack, here):
    """The plan's name, records and discrepancy go into the file and are in the report when it is opened again; what
    speaks of another encoder, or of another cut, does not."""
    import dataclasses

    host, plans = "nodes.comfy_host.", pack("skrr_engine.plans.plan")
    apply, choose = pack(host + "clip.patching").apply_level, pack(host + "clip.trees").choose_encoder
    save, read = pack(host + "files.saving").save_encoder, pack("skrr_engine.files.files").read_plan
    folder = here / "text_encoders"
    dense = dense_clip(folder / model_files.CLIP_L, "sd3")
    plain = plan_of(pack, dense, "clip_l")
    shape, cut = plain.encoders["clip_l"].architecture, plain.levels[0].cuts["clip_l"]
    measured = {"value": 0.5, "conditional": 0.3, "null": 0.2, "cosine": 0.1, "null_norm": 1.5, "null_weight": 1.0}
    info = {"clip_l": plans.EncoderInfo(shape, choose(dense).sketch)}
    records = {"denoiser": {"family": "flux"}, "calibration": {"prompts": 64}, "search": {"beam": 3}}
    level = plans.make_level(info, {"clip_l": cut}, measured)
    plan = plans.Plan("found by hand", info, (level,), ("A note.",), **records)
    save(choose(apply(dense, plan, level).clip), "whence", False, False)
    assert read(folder / "whence.safetensors") == plan
    loaded = pack(host + "files.loading").load_kept([folder / "whence.safetensors"], "sd3")
    report = pack(host + "report.reporting").report_of(loaded, None)
    assert "'found by hand': inside the file" in report and "Discrepancy 0.5 " in report
    assert "was found for flux" in report and "other weights" not in report and "does not say on which" not in report
    save(choose(loaded.clip), "again", False, False)
    assert read(folder / "again.safetensors") == plan
    # Two plans, one after the other.
    twice = apply(loaded.clip, *(lambda p: (p, p.levels[0]))(plan_of(pack, dense, "clip_l", (8,), {}))).clip
    save(choose(twice), "twice", False, False)
    found = read(folder / "twice.safetensors")
    assert set(found.levels[0].cuts["clip_l"].skip) == {*SKIP, 8}
    assert found.levels[0].discrepancy is None and not found.denoiser and "several plans" in found.notes[0]
    # A plan for two encoders, its discrepancy that of both.
    both = info | {"t5xxl": pack("skrr_engine.plans.presets").load_preset("sd3").encoders["t5xxl"]}
    level = plans.make_level(both, {"clip_l": cut, "t5xxl": plans.make_cut((3,))}, measured)
    encoder = choose(apply(dense, plan, plan.levels[0]).clip)
    attached = encoder.clip.patcher.get_attachment("skrr")
    wide = dataclasses.replace(plan, encoders=both, levels=(level,))
    attached["clip_l"] = dataclasses.replace(attached["clip_l"], plan=wide)
    save(encoder, "one of two", False, False)
    found = read(folder / "one of two.safetensors")
    assert list(found.encoders) == list(found.levels[0].cuts) == ["clip_l"]
    assert found.levels[0].discrepancy is None and found.denoiser == plan.denoiser


def test_lora_is_baked_in_only_when_asked(pack, here):
    host, path = "nodes.comfy_host.", here / "text_encoders" / model_files.CLIP_L
    dense = dense_clip(path, "sd3")
    plan = plan_of(pack, dense, "clip_l")
    cut = without_free(pack, dense, plan).clip
    patched = cut.clone()
    key = "clip_l.transformer.text_model.encoder.layers.3.mlp.fc1.weight"
    patched.add_patches({key: ("diff", (torch.full((3072, 768), 0.01),))}, 1.0)
    encoder = pack(host + "clip.trees").choose_encoder(patched)
    assert "LoRA left out" in pack(host + "files.saving").save_encoder(encoder, "without", False, False)
    assert "LoRA baked in" in pack(host + "files.saving").save_encoder(encoder, "with", True, False)
    load, folder = pack(host + "files.loading").load_kept, here / "text_encoders"
    assert_same(load([folder / "without.safetensors"], "sd3").clip, cut)
    baked = load([folder / "with.safetensors"], "sd3").clip
    assert all(torch.equal(a, b) for a, b in zip(encode(baked), encode(patched), strict=True))


def test_what_cannot_be_loaded_is_a_sentence(pack, here):
    loading, errors = pack("nodes.comfy_host.files.loading"), pack("skrr_engine.errors").SkrrError
    path = here / "text_encoders" / model_files.CLIP_L
    preset = pack("skrr_engine.plans.presets").load_preset("sd3")
    with pytest.raises(errors, match="holds a CLIP text encoder"):
        loading.load_kept([path], "sd3", preset, preset.level_for(0.4))
    for name, words in (("x.gguf", "ComfyUI-GGUF's CLIPLoader"), ("x.pt", "ComfyUI's own CLIP loader")):
        with pytest.raises(errors, match=words):
            loading.load_kept([path.with_name(name)], "sd3", preset, preset.levels[0])


def test_an_encoder_inside_a_checkpoint_is_refused_with_the_cure(pack, here, tmp_path):
    from safetensors.torch import load_file, save_file

    loading, errors = pack("nodes.comfy_host.files.loading"), pack("skrr_engine.errors").SkrrError
    path = here / "text_encoders" / model_files.CLIP_L
    plan = plan_of(pack, dense_clip(path, "sd3"), "clip_l")
    checkpoint = tmp_path / "checkpoint.safetensors"
    state = {f"cond_stage_model.transformer.{name}": tensor for name, tensor in load_file(path).items()}
    save_file(state | {"model.diffusion_model.out.2.bias": torch.zeros(4)}, checkpoint)
    cure = "checkpoint with the encoder inside. Load it with ComfyUI's own checkpoint loader and put Skrr Apply behind"
    with pytest.raises(errors, match=cure):
        loading.load_kept([checkpoint], "stable_diffusion", plan, plan.levels[0])


def test_files_that_do_not_make_the_type_are_refused(pack, here):
    """A wrong guess of ComfyUI's, or a file that is not whole, would show at sampling only, or never."""
    from safetensors.torch import load_file, save_file

    host, folder = "nodes.comfy_host.", here / "text_encoders"
    path, errors = folder / model_files.CLIP_L, pack("skrr_engine.errors").SkrrError
    loading = pack(host + "files.loading")
    plan = plan_of(pack, dense_clip(path, "sd3"), "clip_l")
    for kind in ("flux", "pixart", "sdxl"):
        with pytest.raises(errors, match=f"Type {kind} and these 1 files make a CLIP of type sd1"):
            loading.load_kept([path], kind, plan, plan.levels[0])
    with pytest.raises(errors, match="chosen twice"):
        loading.load_kept([path, path], "sdxl", plan, plan.levels[0])
    state = load_file(path)
    other = folder / "other.safetensors"
    save_file(state, other)
    with pytest.raises(errors, match="these 2 files make a CLIP of type"):
        loading.load_kept([path, other], "sd3", plan, plan.levels[0])
    encoder = pack(host + "clip.trees").choose_encoder(
        pack(host + "clip.patching").apply_level(dense_clip(path, "sd3"), plan, plan.levels[0]).clip
    )
    pack(host + "files.saving").save_encoder(encoder, "damaged", False, True)
    damaged = folder / "damaged.safetensors"
    metadata = pack("skrr_engine.files.header").read_header(damaged).metadata
    kept = load_file(damaged)
    removed = kept.pop("text_model.encoder.layers.3.mlp.fc1.bias")
    save_file(kept, damaged, dict(metadata))
    with pytest.raises(errors, match=r"is not whole: it lacks 1 tensors, the first text_model.encoder.layers.3.mlp"):
        loading.load_kept([damaged], "sd3")
    save_file({**kept, "text_model.encoder.layers.3.mlp.fc1.bias": removed[:5].clone()}, damaged, dict(metadata))
    with pytest.raises(errors, match="has not the shape"):
        loading.load_kept([damaged], "sd3")
    save_file({f"te.{name}": tensor for name, tensor in kept.items()}, damaged, dict(metadata))
    with pytest.raises(errors, match="pruned out of a checkpoint"):
        loading.load_kept([damaged], "sd3")


def test_every_type_is_one_that_comfyui_knows(pack):
    import comfy.sd

    known = {kind.name.lower() for kind in comfy.sd.CLIPType} | {"sdxl"}
    assert set(pack("nodes.comfy_host.files.loading").CLIP_TYPES) <= known


@big
def test_a_real_size_t5_in_fp8(pack, here):
    """The published PixArt plan: 4.76 GB become 2.63 GB, the table stays in the file, nothing else is read."""
    t5 = here / "text_encoders" / model_files.T5XXL_FP8
    model_files.write_t5xxl_fp8(t5)
    plan = pack("skrr_engine.plans.presets").load_preset("pixart-sigma")
    loaded = pack("nodes.comfy_host.files.loading").load_kept([t5], "pixart", plan, plan.level_for(0.4))
    assert loaded.clip.patcher.model.t5xxl.transformer.shared.weight.dtype == torch.float8_e4m3fn
    assert loaded.encoder_bytes["t5xxl"][1] == 2_765_735_936 - 32128 * 4096
    t5.unlink()
