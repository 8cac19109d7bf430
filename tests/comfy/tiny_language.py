"""Tiny models of the families that language models encode for, as tiny_models.py makes those of T5 and CLIP.

The testing pack loads this file beside tiny_models.py, so it imports nothing else of the tests.
"""

from __future__ import annotations

import functools
import io
from unittest import mock

import torch

from .tiny_models import build_clip, declared_model, random_state, random_tensor, vae

# Their latents and pictures have other sides than those of tiny_models.FAMILIES.
KLEIN = "klein"
FAMILIES = (KLEIN, "z_image", "qwen_image", "wan")

_LLAMA = {"hidden_size": 32, "intermediate_size": 64, "num_attention_heads": 2, "num_key_value_heads": 1}
# Of umT5, in files too: ComfyUI knows a T5-XXL by its feed-forward.
UMT5 = {"d_model": 32, "d_ff": 10240, "d_kv": 16, "num_heads": 2}


def klein_clip(dtype: torch.dtype = torch.float16, seed: int = 0, **model_options):
    """CLIP of the FLUX.2 klein 4B family: one Qwen3 of 36 narrow layers, read behind 9, 18 and 27 of them."""
    from comfy.text_encoders import flux

    sizes = {"qwen3_4b_model_config": _LLAMA}
    return build_clip(flux.klein_te(), flux.KleinTokenizer, sizes, dtype, seed, model_options)


def z_image_clip(dtype: torch.dtype = torch.float16, seed: int = 0, **model_options):
    """CLIP of the Z-Image family: one Qwen3 of 36 narrow layers, read behind 35 of them."""
    from comfy.text_encoders import z_image

    sizes = {"qwen3_4b_model_config": _LLAMA}
    return build_clip(z_image.te(), z_image.ZImageTokenizer, sizes, dtype, seed, model_options)


def qwen_image_clip(dtype: torch.dtype = torch.float16, seed: int = 0, **model_options):
    """CLIP of the Qwen-Image family: one Qwen2.5-VL of 28 narrow layers, and a tower of one."""
    from comfy.text_encoders import qwen_image, qwen_vl

    tower = functools.partial(qwen_vl.Qwen2VLVisionTransformer, num_layers=1, intermediate_size=64)
    sizes = {"qwen25_7b_model_config": _LLAMA}
    with mock.patch.object(qwen_vl, "Qwen2VLVisionTransformer", tower):  # its sizes are not among the options
        return build_clip(qwen_image.te(), qwen_image.QwenImageTokenizer, sizes, dtype, seed, model_options)


def wan_clip(layers: int = 4, dtype: torch.dtype = torch.float16, seed: int = 0, **model_options):
    """CLIP of the Wan family: one umT5, ``layers`` deep, whose words are single letters."""
    from comfy.text_encoders import wan

    sizes = {"umt5xxl_model_config": {**UMT5, "num_layers": layers}}
    words = {"spiece_model": spiece_model()}
    return build_clip(wan.te(), wan.WanT5Tokenizer, sizes, dtype, seed, model_options, words)


def spiece_model():
    """A small sentencepiece model's bytes, as umT5 files carry theirs: a uint8 tensor."""
    import sentencepiece

    written = io.BytesIO()
    words = ["a red fox reading a map", "two blue lanterns beside the road", "rain on a tin roof"]
    special = {"pad_id": 0, "eos_id": 1, "unk_id": 2, "bos_id": -1}
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(words * 20), model_writer=written, vocab_size=60, hard_vocab_limit=False,
        minloglevel=2, **special,
    )  # fmt: skip
    return torch.frombuffer(bytearray(written.getvalue()), dtype=torch.uint8)


_UNETS = {
    "klein": {
        "image_model": "flux2", "in_channels": 128, "out_channels": 128, "patch_size": 1, "vec_in_dim": None,
        "context_in_dim": 96, "hidden_size": 128, "num_heads": 1, "axes_dim": [32, 32, 32, 32], "mlp_ratio": 3.0,
        "depth": 1, "depth_single_blocks": 1, "theta": 2000, "qkv_bias": False, "ops_bias": False,
        "guidance_embed": False, "global_modulation": True, "mlp_silu_act": True, "default_ref_method": "index",
        "ref_index_scale": 10.0, "txt_ids_dims": [3],
    },
    "z_image": {
        "image_model": "lumina2", "patch_size": 2, "in_channels": 16, "dim": 256, "cap_feat_dim": 32, "n_layers": 2,
        "qk_norm": True, "n_heads": 2, "n_kv_heads": 2, "axes_dims": [32, 48, 48], "axes_lens": [1536, 512, 512],
        "rope_theta": 256.0, "ffn_dim_multiplier": 8 / 3, "z_image_modulation": True, "time_scale": 1000.0,
        "pad_tokens_multiple": 32,
    },
    "qwen_image": {
        "image_model": "qwen_image", "in_channels": 64, "num_layers": 2, "num_attention_heads": 1,
        "joint_attention_dim": 32,
    },
    "wan": {
        "image_model": "wan2.1", "model_type": "t2v", "dim": 128, "out_dim": 16, "num_heads": 1, "ffn_dim": 256,
        "num_layers": 2, "patch_size": (1, 2, 2), "freq_dim": 256, "in_dim": 16, "text_dim": 32,
    },
}  # fmt: skip
_CONFIGS = {"klein": "Flux2", "z_image": "ZImage", "qwen_image": "QwenImage", "wan": "WAN21_T2V"}


def model(family: str, dtype: torch.dtype = torch.float32, seed: int = 0, **unet_config):
    """MODEL of one of `FAMILIES`."""
    from comfy import supported_models

    config = getattr(supported_models, _CONFIGS[family])({**_UNETS[family], **unet_config})
    found = declared_model(config, dtype, seed)
    if family == "wan":  # drawn like the rest, its one way for the text to come in would hardly be heard
        for block in found.model.diffusion_model.blocks:
            block.cross_attn.o.weight.data.mul_(8)
    return found


def video_vae(seed: int = 0):
    """VAE of ComfyUI's small video autoencoder (TAEHV), as Wan and Qwen-Image use one of 16 channels."""
    import comfy.sd
    import comfy.taesd.taehv

    state = random_state(comfy.taesd.taehv.TAEHV(latent_channels=16).state_dict(), seed)
    state["decoder.22.bias"] += 0.5
    return comfy.sd.VAE(sd=state)


def narrow_umt5() -> None:
    """From now on ComfyUI's loader builds umT5 in these sizes."""
    import comfy.sd

    usual = comfy.sd.load_text_encoder_state_dicts

    def load(*arguments, model_options=None, **more):
        return usual(*arguments, model_options={"umt5xxl_model_config": UMT5, **(model_options or {})}, **more)

    comfy.sd.load_text_encoder_state_dicts = load


def write_umt5(path) -> None:
    """Writes a whole umT5-XXL file in those sizes, 24 layers deep, without asking ComfyUI for its names."""
    from safetensors.torch import save_file

    width, inner, wide = UMT5["d_model"], UMT5["d_kv"] * UMT5["num_heads"], UMT5["d_ff"]
    shapes = {"shared": (256384, width), "encoder.final_layer_norm": (width,)}
    for block in (f"encoder.block.{number}.layer" for number in range(24)):
        shapes |= {f"{block}.0.SelfAttention.{part}": (inner, width) for part in "qkvo"}
        shapes |= {f"{block}.1.DenseReluDense.wi_{part}": (wide, width) for part in (0, 1)}
        shapes[f"{block}.0.SelfAttention.relative_attention_bias"] = (32, UMT5["num_heads"])
        shapes[f"{block}.1.DenseReluDense.wo"] = (width, wide)
        shapes |= {f"{block}.{part}.layer_norm": (width,) for part in (0, 1)}
    names = {f"{name}.weight": shape for name, shape in shapes.items()}
    state = {name: random_tensor(name, shape, 3, torch.float16) for name, shape in names.items()}
    save_file(state | {"spiece_model": spiece_model()}, path)


def load_family(family: str, seed: int = 0):
    """(MODEL, CLIP, VAE) of one of `FAMILIES`, fitting one another."""
    clips = {"klein": klein_clip, "z_image": z_image_clip, "qwen_image": qwen_image_clip, "wan": wan_clip}
    pictures = {"klein": 128, "z_image": 16}
    frames = vae(pictures[family], seed) if family in pictures else video_vae(seed)
    return model(family, seed=seed), clips[family](seed=seed), frames
