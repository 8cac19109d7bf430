"""SkrrCLIPLoader's further types, each with a T5 or CLIP of its own kind: what is loaded, and loaded again from the
file that SkrrSaveEncoder writes, is the CLIP that ComfyUI's own loader and SkrrApply make, bit for bit."""

import importlib

import pytest
import torch
from safetensors.torch import save_file

from .. import narrow_files
from ..narrow_files import LLAMA, T5
from ..steps import plan_for, without_free
from ..tiny_models import random_state
from .test_file_formats import assert_same
from .test_several_files import encode, load_all

SMALL_T5 = {"d_model": 64, "d_ff": 128, "d_kv": 16, "num_heads": 4}
# type -> the encoder that is cut, ComfyUI's class of it and the name of its options, its sizes.
KINDS = {
    "stable_audio": ("t5base", "sa_t5.T5BaseModel", "t5base", SMALL_T5),
    "ace": ("umt5base", "ace.UMT5BaseModel", "", SMALL_T5),
    "cosmos": ("t5xxl", "cosmos.T5XXLModel", "t5xxl", SMALL_T5),
    "mochi": ("t5xxl", "sd3_clip.T5XXLModel", "t5xxl", T5),
    "ltxv": ("t5xxl", "sd3_clip.T5XXLModel", "t5xxl", T5),
    "chroma": ("t5xxl", "sd3_clip.T5XXLModel", "t5xxl", T5),
    "cogvideox": ("t5xxl", "sd3_clip.T5XXLModel", "t5xxl", T5),
    "stable_cascade": ("clip_g", None, None, None),
    "stable_diffusion": ("clip_l", None, None, None),
    "hunyuan_video": ("clip_l", None, None, None),
}
SKIP, REUSE = (0, 5, 3, 23), {0: 2, 5: 7}


def known():
    """Those that this release of ComfyUI has."""
    import comfy.sd

    return [kind for kind in KINDS if hasattr(comfy.sd.CLIPType, kind.upper())]


def write(folder, kind):
    """The files of a CLIP of this type."""
    slot, cls, name, sizes = KINDS[kind]
    path = folder / f"{kind}.safetensors"
    if cls is None:
        save_file(narrow_files.clip_state(large=slot == "clip_g"), path)
    else:
        module, _, cls = cls.partition(".")
        make = getattr(importlib.import_module(f"comfy.text_encoders.{module}"), cls)
        options = {"model_name": name, f"{name}_model_config": sizes}
        like = make(device="meta", dtype=torch.float16, model_options=options).transformer.state_dict()
        spiece = {"spiece_model": narrow_files.spiece_model()} if kind == "ace" else {}
        save_file(random_state(like, seed=4) | spiece, path)
    if kind != "hunyuan_video":
        return [path]
    save_file(narrow_files.llama_state(vocabulary=128320), folder / "llama.safetensors")
    return [path, folder / "llama.safetensors"]


@pytest.mark.parametrize("kind", known())
def test_the_same_as_loading_whole_and_cutting(pack, tmp_path, monkeypatch, kind):
    host, (slot, _, name, t5) = "nodes.comfy_host.", KINDS[kind]
    sizes = {"llama_model_config": LLAMA | {"num_hidden_layers": 4}}
    if t5 is not None:
        sizes[f"{name}_model_config"] = t5
    monkeypatch.setattr(narrow_files, "SIZES", narrow_files.SIZES | sizes)
    narrow_files.narrow(monkeypatch)
    monkeypatch.setattr("folder_paths.get_folder_paths", lambda kind: [str(tmp_path)])
    paths = write(tmp_path, kind)
    dense = load_all(paths, kind)
    plan = plan_for(pack, dense, SKIP, REUSE, slot)
    cut = without_free(pack, dense, plan)
    load_kept = pack(host + "files.loading").load_kept
    loaded = load_kept(paths, kind, plan, plan.levels[0])
    assert_same(loaded.clip, cut.clip)
    assert loaded.clip_bytes == cut.clip_bytes and loaded.encoder_bytes == cut.encoder_bytes
    encoder = pack(host + "clip.trees").choose_encoder(loaded.clip, slot)
    pack(host + "files.saving").save_encoder(encoder, "small", bake_lora=False, overwrite=False)
    reopened = load_kept([tmp_path / "small.safetensors", *paths[1:]], kind).clip
    assert_same(reopened, cut.clip)
    if t5 is T5:
        return  # a T5-XXL in another tree; encoding in it is slow, and tested elsewhere
    wanted, found = encode(cut.clip), encode(reopened)
    assert wanted.keys() == found.keys() and all(torch.equal(found[name], wanted[name]) for name in wanted)
    assert not all(torch.equal(wanted[name], value) for name, value in encode(dense).items())
