"""SkrrCLIPLoader and SkrrSaveEncoder in every storage format of a T5-XXL's file: what is loaded is what ComfyUI's own
loader and SkrrApply make, what is saved is what was in the file, bit for bit, and so is the command line's file."""

import pytest
import torch
from safetensors import safe_open

from .. import narrow_files
from ..narrow_files import LISTED, PLAIN, SCALED
from ..oracle import t5_prefixes
from ..steps import encode, make_lora, plan_for, with_lora, without_free

# The owner of T5's table, an attention and feed-forwards, two of them re-used from both sides.
SKIP, REUSE = (0, 3, 10, 46, 47, 21), {0: 2, 3: 1, 47: 45}
FORMATS = (*PLAIN, SCALED, LISTED, *narrow_files.quantised())


@pytest.fixture(autouse=True)
def narrow(monkeypatch):
    narrow_files.narrow(monkeypatch)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("models")


@pytest.fixture(autouse=True)
def here(folder, monkeypatch):
    monkeypatch.setattr("folder_paths.get_folder_paths", lambda kind: [str(folder)])


def write(folder, name):
    """The file of a format, written once."""
    path = folder / f"t5 {name}.safetensors"
    return path if path.exists() else narrow_files.write_t5(path, name)


def load_dense(path, kind="pixart", **options):
    import comfy.sd

    return comfy.sd.load_clip([str(path)], clip_type=getattr(comfy.sd.CLIPType, kind.upper()), **options)


def bits(tensor):
    return tensor.as_subclass(torch.Tensor).detach().reshape(-1).view(torch.uint8)


def content(module):
    """Names -> dtype, shape and bytes."""
    return {name: (t.dtype, t.shape, bits(t)) for name, t in module.state_dict().items()}


def assert_same(one, other):
    """Names, storage formats, values to the bit and sizes."""
    first, second = content(one.patcher.model), content(other.patcher.model)
    assert first.keys() == second.keys()
    for name, (dtype, shape, raw) in first.items():
        assert (dtype, shape) == second[name][:2] and torch.equal(raw, second[name][2]), name
    assert one.patcher.model_size() == other.patcher.model_size()


def tensors(path):
    with safe_open(path, "pt") as opened:
        return {name: opened.get_tensor(name) for name in opened.keys()}


@pytest.mark.parametrize("name", FORMATS)
def test_round_trip(pack, folder, name):
    host, file = "nodes.comfy_host.", write(folder, name)
    dense = load_dense(file)
    plan = plan_for(pack, dense, SKIP, REUSE)
    cut = without_free(pack, dense, plan)
    load_kept = pack(host + "files.loading").load_kept
    loaded = load_kept([file], "pixart", plan, plan.levels[0])
    assert_same(loaded.clip, cut.clip)
    assert loaded.encoder_bytes == cut.encoder_bytes and loaded.clip_bytes == cut.clip_bytes
    assert not any(p.is_meta for p in loaded.clip.patcher.model.parameters())
    output = encode(cut.clip)
    assert torch.equal(encode(loaded.clip), output)

    # Saved out of either, it opens with nothing else given.
    save, choose = pack(host + "files.saving").save_encoder, pack(host + "clip.trees").choose_encoder
    save(choose(cut.clip), "from cut", bake_lora=False, overwrite=True)
    save(choose(loaded.clip), "from loaded", bake_lora=False, overwrite=True)
    saved, twin = tensors(folder / "from cut.safetensors"), tensors(folder / "from loaded.safetensors")
    assert saved.keys() == twin.keys() and all(torch.equal(bits(saved[name]), bits(twin[name])) for name in saved)
    reopened = load_kept([folder / "from cut.safetensors"], "pixart").clip
    assert_same(reopened, cut.clip)
    assert torch.equal(encode(reopened), output)

    # What is in it is what was in the file, under the same names; ComfyUI renames the scales of the older scaled fp8.
    # A re-used sub-block is there once, in its own place.
    original = tensors(file)
    prefixes = tuple(t5_prefixes(SKIP))
    for key, tensor in saved.items():
        assert not key.startswith(prefixes)
        key = key.replace("weight_scale", "scale_weight") if name == SCALED else key
        if key in original:
            assert tensor.dtype == original[key].dtype and torch.equal(bits(tensor), bits(original[key])), key
        else:
            assert key.endswith(".comfy_quant")
    kept = [key for key in original if not key.startswith(prefixes) and key.endswith(".weight")]
    assert {*kept} - {"encoder.embed_tokens.weight"} <= saved.keys()

    # The command line's streaming twin.
    pack("skrr_engine.files.files").write_pruned(file, folder / "streamed.safetensors", plan, overwrite=True)
    assert_same(load_kept([folder / "streamed.safetensors"], "pixart").clip, cut.clip)


@pytest.mark.parametrize("name", ["fp16", "fp8 e4m3fn", SCALED, "nvfp4"])
def test_lora_is_baked_into_plain_weights_and_refused_in_quantised_ones(pack, folder, name):
    host, file = "nodes.comfy_host.", write(folder, name)
    dense = load_dense(file)
    plan = plan_for(pack, dense, SKIP, REUSE)
    loaded = pack(host + "files.loading").load_kept([file], "pixart", plan, plan.levels[0]).clip
    styled = with_lora(loaded, make_lora(loaded, (1, 2, 45)))
    save, choose = pack(host + "files.saving").save_encoder, pack(host + "clip.trees").choose_encoder
    assert "LoRA left out" in save(choose(styled), "styled", bake_lora=False, overwrite=True)
    if name in PLAIN:
        assert "LoRA baked in" in save(choose(styled), "styled", bake_lora=True, overwrite=True)
        baked = pack(host + "files.loading").load_kept([folder / "styled.safetensors"], "pixart").clip
        assert torch.equal(encode(baked), encode(styled))
        assert not torch.equal(encode(baked), encode(loaded))
    else:
        with pytest.raises(pack("skrr_engine.errors").SkrrError, match=r"cannot be baked into .* quantised"):
            save(choose(styled), "styled", bake_lora=True, overwrite=True)


def test_a_file_with_the_table_under_its_other_name_alone(pack, folder):
    """Some exporters keep only encoder.embed_tokens; ComfyUI's own loader leaves such a T5 without a vocabulary."""
    from safetensors.torch import save_file

    whole = narrow_files.write_t5(folder / "whole.safetensors", "fp16")
    dense = load_dense(whole)
    plan = plan_for(pack, dense, SKIP, REUSE)
    load_kept = pack("nodes.comfy_host.files.loading").load_kept
    state = tensors(whole)
    del state["shared.weight"]
    save_file(state, folder / "other.safetensors")
    other = load_kept([folder / "other.safetensors"], "pixart", plan, plan.levels[0]).clip
    assert_same(other, load_kept([whole], "pixart", plan, plan.levels[0]).clip)


def test_a_quantised_file_that_is_not_whole_is_a_sentence(pack, folder):
    from safetensors.torch import save_file

    errors = pack("skrr_engine.errors").SkrrError
    load_kept = pack("nodes.comfy_host.files.loading").load_kept
    path = narrow_files.write_t5(folder / "listed.safetensors", LISTED)
    plan = plan_for(pack, load_dense(path), SKIP, REUSE)
    pack("skrr_engine.files.files").write_pruned(path, folder / "small.safetensors", plan, overwrite=True)
    metadata = dict(pack("skrr_engine.files.header").read_header(folder / "small.safetensors").metadata)
    state = tensors(folder / "small.safetensors")
    lost = "encoder.block.4.layer.1.DenseReluDense.wo.weight"
    save_file({name: t for name, t in state.items() if name != lost}, folder / "lost.safetensors", metadata)
    with pytest.raises(errors, match=f"is not whole: it lacks 1 tensors, the first {lost}"):
        load_kept([folder / "lost.safetensors"], "pixart")
    for damage in ("{", "[]", '{"layers": 3}'):
        save_file(state, folder / "lost.safetensors", metadata | {"_quantization_metadata": damage})
        with pytest.raises(errors, match="its list of quantised layers cannot be read"):
            load_kept([folder / "lost.safetensors"], "pixart")


@pytest.mark.parametrize("name", ["fp16", SCALED])
def test_umt5_takes_its_tokenizer_along(pack, folder, name):
    """Wan's text encoder: a position table in every layer, and the tokenizer's vocabulary in the file."""
    host, file = "nodes.comfy_host.", narrow_files.write_t5(folder / "umt5.safetensors", name, umt5=True)
    dense = load_dense(file, "wan")
    plan = plan_for(pack, dense, SKIP, REUSE, "umt5xxl")
    cut = without_free(pack, dense, plan).clip
    load_kept = pack(host + "files.loading").load_kept
    loaded = load_kept([file], "wan", plan, plan.levels[0]).clip
    save, choose = pack(host + "files.saving").save_encoder, pack(host + "clip.trees").choose_encoder
    save(choose(loaded), "small umt5", bake_lora=False, overwrite=True)
    reopened = load_kept([folder / "small umt5.safetensors"], "wan").clip
    pack("skrr_engine.files.files").write_pruned(file, folder / "streamed.safetensors", plan, overwrite=True)
    streamed = load_kept([folder / "streamed.safetensors"], "wan").clip
    for clip in (loaded, reopened, streamed):
        assert_same(clip, cut)
        assert clip.tokenize("a red fox") == dense.tokenize("a red fox")
    output = encode(cut)
    assert torch.equal(encode(reopened), output) and not torch.equal(encode(dense), output)
    saved = tensors(folder / "small umt5.safetensors")
    assert torch.equal(saved["spiece_model"], tensors(file)["spiece_model"])
    tables = [key for key in saved if "relative_attention_bias" in key]
    assert len(tables) == 24 - sum(place % 2 == 0 for place in SKIP)


def test_a_device_that_cannot_take_the_storage_format(pack, folder, monkeypatch):
    """Such an encoder stays where it is kept, as ComfyUI decides it (fp8 on a Mac)."""
    import comfy.model_management as mm

    usual, device = mm.supports_cast, torch.device("cpu:0")
    monkeypatch.setattr(mm, "text_encoder_device", lambda: device)
    monkeypatch.setattr(mm, "supports_cast", lambda d, dtype: usual(d, dtype) and (d != device or dtype.itemsize > 1))
    for name, runs in (("fp8 e4m3fn", torch.device("cpu")), ("fp16", device)):
        file = write(folder, name)
        dense = load_dense(file)
        plan = plan_for(pack, dense, SKIP, REUSE)
        loaded = pack("nodes.comfy_host.files.loading").load_kept([file], "pixart", plan, plan.levels[0]).clip
        assert loaded.patcher.load_device == dense.patcher.load_device == runs
        assert loaded.patcher.offload_device == dense.patcher.offload_device


def test_gguf_is_refused_with_the_cure(pack, tmp_path):
    """The loader by its name, the saver by its tensors."""
    from ..formats import GGUF, make_clip
    from ..steps import prune

    errors, host = pack("skrr_engine.errors").SkrrError, "nodes.comfy_host."
    preset = pack("skrr_engine.plans.presets").load_preset("sd3")
    with pytest.raises(errors, match=r"Use ComfyUI-GGUF's CLIPLoader \(GGUF\), then Skrr Apply"):
        pack(host + "files.loading").load_kept([tmp_path / "t5.gguf"], "pixart", preset, preset.levels[0])
    cut = prune(pack, make_clip(GGUF, tmp_path)[0]).clip
    with pytest.raises(errors, match="load the GGUF file and put Skrr Apply behind it"):
        pack(host + "files.saving").save_encoder(pack(host + "clip.trees").choose_encoder(cut), "never", False, False)


def test_gguf_through_its_own_loader_and_skrr_apply(pack, folder, monkeypatch):
    """The two nodes as a graph has them: CLIPLoader (GGUF), then Skrr Apply."""
    from ..formats import gguf_nodes, write_gguf
    from ..steps import by_hand

    loader, path = gguf_nodes().CLIPLoaderGGUF(), folder / "t5.gguf"
    write_gguf(path, narrow_files.t5_state())
    monkeypatch.setattr("folder_paths.get_full_path", lambda kind, name: str(folder / name))
    dense = loader.load_clip("t5.gguf", "pixart")[0]
    plan = plan_for(pack, dense, SKIP, REUSE)
    clip, report = pack("nodes.apply").SkrrApply.execute(dense, plan, plan.levels[0].sparsity).args
    assert type(clip.patcher) is type(dense.patcher) and "6 of 48 sub-blocks skipped" in report
    # Packed as they were: 18 and 34 bytes for 32 weights.
    attention, feed_forward = 4 * 32 * 32 * 34 // 32 + 32 * 4, 3 * 32 * 10240 * 18 // 32 + 32 * 4
    gone = sum(feed_forward if place % 2 else attention for place in SKIP)
    assert dense.patcher.model_size() - clip.patcher.model_size() == gone
    wanted = by_hand(loader.load_clip("t5.gguf", "pixart")[0], SKIP, REUSE)
    assert torch.equal(encode(clip), wanted)
    assert not torch.equal(encode(dense), wanted)
