"""Small denoisers of ComfyUI's own classes with random weights, for their first text modules: hardly a block behind."""

import importlib
from types import SimpleNamespace

import comfy.ops
import comfy.utils
import pytest
import torch

from .tiny_models import random_state

WIDTH = 32  # of the encoders of `talking_clip`
FLUX = {
    "in_channels": 4, "out_channels": 4, "vec_in_dim": None, "hidden_size": 128, "mlp_ratio": 1.0, "num_heads": 1,
    "depth": 0, "depth_single_blocks": 0, "axes_dim": [16, 56, 56], "theta": 100, "patch_size": 1, "qkv_bias": False,
    "guidance_embed": False, "txt_ids_dims": [],
}  # fmt: skip
HUNYUAN = {
    **{k: v for k, v in FLUX.items() if k != "txt_ids_dims"}, "vec_in_dim": 16, "patch_size": [1, 2, 2], "byt5": False,
    "meanflow": False, "use_cond_type_embedding": False, "vision_in_dim": None, "meanflow_sum": False,
}  # fmt: skip
NO_BLOCKS = {"num_layers": 0, "num_attention_heads": 2, "attention_head_dim": 16}
# name -> class below comfy.ldm, its options.
DENOISERS = {
    "NextDiT": ("lumina.model.NextDiT", {
        "dim": 64, "n_layers": 0, "n_refiner_layers": 0, "n_heads": 1, "axes_dims": (16, 24, 24), "cap_feat_dim": WIDTH,
    }),
    "Flux, three states": ("flux.model.Flux", {**FLUX, "context_in_dim": 3 * WIDTH}),
    "Flux, norm": ("flux.model.Flux", {**FLUX, "context_in_dim": WIDTH, "txt_norm": True}),
    "Flux": ("flux.model.Flux", {**FLUX, "context_in_dim": WIDTH}),
    "Qwen-Image": ("qwen_image.model.QwenImageTransformer2DModel", {**NO_BLOCKS, "joint_attention_dim": WIDTH}),
    "Wan": ("wan.model.WanModel", {"dim": 48, "num_layers": 0, "num_heads": 2, "ffn_dim": 16, "text_dim": WIDTH}),
    "HunyuanVideo": ("hunyuan_video.model.HunyuanVideo", {**HUNYUAN, "context_in_dim": WIDTH}),
    "Kandinsky 5": ("kandinsky5.model.Kandinsky5", {
        "in_text_dim": WIDTH, "in_text_dim2": 64, "time_dim": 16, "model_dim": 64, "ff_dim": 16, "num_text_blocks": 0,
        "num_visual_blocks": 0,
    }),
    "OmniGen2": ("omnigen.omnigen2.OmniGen2Transformer2DModel", {
        "hidden_size": 128, "num_layers": 0, "num_refiner_layers": 0, "num_attention_heads": 1, "num_kv_heads": 1,
        "axes_dim_rope": (32, 48, 48), "text_feat_dim": WIDTH,
    }),
    "Boogu": ("boogu.model.BooguTransformer2DModel", {
        "hidden_size": 120, "num_layers": 0, "num_double_stream_layers": 0, "num_refiner_layers": 0,
        "num_attention_heads": 1, "num_kv_heads": 1, "instruction_feat_dim": WIDTH,
    }),
    "Ideogram 4": ("ideogram4.model.Ideogram4Transformer2DModel", {
        **NO_BLOCKS, "attention_head_dim": 128, "intermediate_size": 16, "adaln_dim": 16,
        "llm_features_dim": 13 * WIDTH,
    }),
    "Krea 2": ("krea2.model.SingleStreamDiT", {
        "features": 128, "tdim": 16, "txtdim": WIDTH, "heads": 1, "kvheads": 1, "layers": 0, "txtheads": 2,
        "txtkvheads": 2,
    }),
    "MageFlow": ("mage_flow.model.MageFlowTransformer2DModel", {**NO_BLOCKS, "joint_attention_dim": WIDTH}),
    "JoyImage": ("joyimage.model.JoyImageTransformer3DModel", {
        "hidden_size": 128, "num_attention_heads": 1, "text_dim": WIDTH, "num_layers": 0,
    }),
    "MiniMax H3": ("minimax.model.MiniMaxH3Model", {
        "hidden_size": 64, "num_layers": 0, "token_refiner_num_layers": 0, "num_attention_heads": 1,
        "attention_head_dim": 64, "ffn_hidden_size": 16, "text_dim": WIDTH, "time_embed_hidden_size": 16,
        "time_embed_dim": 16,
    }),
    "ERNIE-Image": ("ernie.model.ErnieImageModel", {
        "hidden_size": 128, "num_attention_heads": 1, "num_layers": 0, "ffn_hidden_size": 16, "text_in_dim": WIDTH,
    }),
    "PixelDiT": ("pixeldit.model.PixDiT_T2I", {
        "num_groups": 1, "hidden_size": 64, "pixel_attn_hidden_size": 64, "pixel_num_groups": 1, "patch_depth": 0,
        "pixel_depth": 0, "txt_embed_dim": WIDTH,
    }),
    "HiDream-I1": ("hidream.model.HiDreamImageTransformer2DModel", {
        "patch_size": 2, "in_channels": 4, "num_layers": 2, "num_single_layers": 2, "attention_head_dim": 64,
        "num_attention_heads": 1, "caption_channels": [64, WIDTH], "llama_layers": [0, 5, 31, 31],
        "axes_dims_rope": (32, 32), "text_emb_dim": 16,
    }),
}  # fmt: skip


def small_denoiser(name):
    """A MODEL as far as its text modules are asked for. Skips, aloud, where this ComfyUI has no such denoiser."""
    path, options = DENOISERS[name]
    module, _, cls = path.rpartition(".")
    try:
        cls = getattr(importlib.import_module(f"comfy.ldm.{module}"), cls)
    except ImportError:
        pytest.skip(f"this ComfyUI has no {name}")
    model = cls(**options, operations=comfy.ops.manual_cast, device="cpu", dtype=torch.float32)
    model.load_state_dict(random_state(model.state_dict(), 5))
    holder = SimpleNamespace(diffusion_model=model.eval())
    return SimpleNamespace(
        model=holder, backup={}, patches={}, get_model_object=lambda path: comfy.utils.get_attr(holder, path)
    )
