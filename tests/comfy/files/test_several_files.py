"""SkrrCLIPLoader on two, three and four files: the same CLIP, bit for bit, as ComfyUI's own loader and SkrrApply."""

import pytest
import torch
from safetensors.torch import save_file

from .. import narrow_files
from ..narrow_files import CLIP, LLAMA
from ..steps import TEXT, plan_for, without_free
from ..tiny_models import random_state
from .test_file_formats import assert_same, load_dense

# SD3 sets T5's tokens beside the two CLIPs', 4096 wide; with three files ComfyUI counts no layers.
WIDE_T5 = {"d_model": 4096, "d_ff": 64, "d_kv": 16, "num_heads": 4, "num_layers": 2}
SHALLOW_T5 = {"d_model": 32, "d_ff": 64, "d_kv": 16, "num_heads": 2}
# type, files in this order, the encoder that is cut, its T5. What is stored as float32 ComfyUI holds as float16.
CASES = {
    "flux": ("flux", ("t5 bf16", "clip_l"), "t5xxl", SHALLOW_T5),
    "flux, a long CLIP": ("flux", ("t5 fp16", "long_clip_l"), "clip_l", SHALLOW_T5),
    "flux, the CLIP cut and first": ("flux", ("clip_l", "t5 fp8 e4m3fn"), "clip_l", SHALLOW_T5),
    "sdxl": ("sdxl", ("clip_l", "clip_g"), "clip_g", SHALLOW_T5),
    "sdxl, open_clip's names": ("sdxl", ("open_clip_g", "clip_l fp32"), "clip_l", SHALLOW_T5),
    "sd3, two": ("sd3", ("clip_g", "clip_l"), "clip_l", WIDE_T5),
    "sd3": ("sd3", ("clip_g", "t5 fp32", "clip_l"), "t5xxl", WIDE_T5),
    "hidream": ("hidream", ("clip_l", "clip_g", "t5 fp16", "llama"), "t5xxl", SHALLOW_T5),
}


def write(folder, name, t5):
    path, (kind, _, stored) = folder / f"{name}.safetensors", name.partition(" ")
    if kind == "t5":
        from comfy.text_encoders import sd3_clip

        options = {"t5xxl_model_config": t5}
        like = sd3_clip.T5XXLModel(device="meta", dtype=narrow_files.PLAIN[stored], model_options=options).transformer
        save_file(random_state(like.state_dict(), seed=3), path)
    elif kind == "llama":
        save_file(narrow_files.llama_state(), path)
    else:
        state = narrow_files.clip_state(large=kind.endswith("g"))
        state = {key: tensor.float() for key, tensor in state.items()} if stored == "fp32" else state
        if kind.startswith("long"):
            table = "text_model.embeddings.position_embedding.weight"
            state[table] = state[table].repeat(4, 1)[:248]
        save_file(in_open_clip_names(state) if kind.startswith("open") else state, path)
    return path


def in_open_clip_names(state):
    """A CLIP-G as open_clip writes it: attention's three matrices as one, the projection transposed."""
    stem = "text_model.encoder.layers.{}."
    found = {
        "token_embedding.weight": state["text_model.embeddings.token_embedding.weight"],
        "positional_embedding": state["text_model.embeddings.position_embedding.weight"],
        "ln_final.weight": state["text_model.final_layer_norm.weight"],
        "ln_final.bias": state["text_model.final_layer_norm.bias"],
        "text_projection": state["text_projection.weight"].T.contiguous(),
        "logit_scale": torch.tensor(4.6),
    }
    names = {"layer_norm1": "ln_1", "layer_norm2": "ln_2", "mlp.fc1": "mlp.c_fc", "mlp.fc2": "mlp.c_proj"}
    for layer in range(32):
        ours, theirs = stem.format(layer), f"transformer.resblocks.{layer}."
        for part in ("weight", "bias"):
            three = [state[f"{ours}self_attn.{x}_proj.{part}"] for x in "qkv"]
            found[f"{theirs}attn.in_proj_{part}"] = torch.cat(three)
            for here, there in {**names, "self_attn.out_proj": "attn.out_proj"}.items():
                found[f"{theirs}{there}.{part}"] = state[f"{ours}{here}.{part}"]
    return found


def load_all(paths, kind):
    import comfy.sd

    clip_type = getattr(comfy.sd.CLIPType, kind.upper(), comfy.sd.CLIPType.STABLE_DIFFUSION)
    return comfy.sd.load_clip([str(path) for path in paths], clip_type=clip_type)


def encode(clip):
    """Everything that reaches the denoiser."""
    cond, extras = clip.encode_from_tokens_scheduled(clip.tokenize(TEXT))[0]
    tensors = {name: value for name, value in extras.items() if torch.is_tensor(value)}
    return {"cond": cond, **tensors}


@pytest.mark.parametrize("case", CASES)
def test_the_same_as_loading_whole_and_cutting(pack, tmp_path, monkeypatch, case):
    kind, names, slot, t5 = CASES[case]
    layers = {"num_hidden_layers": 4}
    sizes = {"t5xxl_model_config": t5, "llama_model_config": LLAMA | layers, "clip_l_model_config": CLIP}
    monkeypatch.setattr(narrow_files, "SIZES", narrow_files.SIZES | sizes)
    narrow_files.narrow(monkeypatch)
    paths = [write(tmp_path, name, t5) for name in names]
    dense = load_all(paths, kind)
    skip, reuse = ((0, 3), {0: 2}) if t5 is WIDE_T5 and slot == "t5xxl" else ((0, 5, 3, 20), {0: 2, 5: 7})
    plan = plan_for(pack, dense, skip, reuse, slot)
    # A file in open_clip's names is translated as a whole, its table with it.
    cut = without_free(pack, dense, plan, in_ram=("clip_g",) if "open_clip_g" in names else ())
    loaded = pack("nodes.comfy_host.files.loading").load_kept(paths, kind, plan, plan.levels[0])
    assert_same(loaded.clip, cut.clip)
    assert loaded.clip_bytes == cut.clip_bytes and loaded.encoder_bytes == cut.encoder_bytes
    wanted, found = encode(cut.clip), encode(loaded.clip)
    assert {"cond", "pooled_output"} <= wanted.keys() and wanted.keys() == found.keys()
    assert all(torch.equal(found[name], wanted[name]) for name in wanted)
    assert not all(torch.equal(wanted[name], value) for name, value in encode(dense).items())


def test_a_pruned_file_beside_dense_ones(pack, tmp_path, monkeypatch):
    narrow_files.narrow(monkeypatch)
    monkeypatch.setattr("folder_paths.get_folder_paths", lambda kind: [str(tmp_path)])
    paths = [narrow_files.write_t5(tmp_path / "t5.safetensors", "fp16"), write(tmp_path, "clip_l", None)]
    dense = load_all(paths, "flux")
    plan = plan_for(pack, dense, (0, 5, 3, 46), {0: 2, 5: 7})
    host = "nodes.comfy_host."
    cut = without_free(pack, dense, plan).clip
    pack(host + "files.saving").save_encoder(pack(host + "clip.trees").choose_encoder(cut), "small", False, False)
    loaded = pack(host + "files.loading").load_kept([tmp_path / "small.safetensors", paths[1]], "flux").clip
    assert_same(loaded, cut)
    with pytest.raises(pack("skrr_engine.errors").SkrrError, match=r"fits none of the encoders|make a CLIP of type"):
        pack(host + "files.loading").load_kept([tmp_path / "small.safetensors", paths[0]], "flux")


def test_a_file_beside_the_cut_one_that_is_not_whole_is_a_sentence(pack, tmp_path, monkeypatch):
    narrow_files.narrow(monkeypatch)
    paths = [narrow_files.write_t5(tmp_path / "t5.safetensors", "fp16"), write(tmp_path, "clip_l", None)]
    plan = plan_for(pack, load_dense(paths[0]), (3,), {})
    state = narrow_files.clip_state()
    lost = "text_model.encoder.layers.7.mlp.fc2.bias"
    save_file({name: tensor for name, tensor in state.items() if name != lost}, paths[1])
    with pytest.raises(pack("skrr_engine.errors").SkrrError, match=f"clip_l.* is not whole: .* the first {lost}"):
        pack("nodes.comfy_host.files.loading").load_kept(paths, "flux", plan, plan.levels[0])
