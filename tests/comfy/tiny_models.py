"""Tiny models of ComfyUI's own classes with random weights: real CLIP, MODEL and VAE objects in a few MB.

A weight is drawn from a generator seeded with the seed and the weight's name, so it depends neither on the
order in which a class registers its parameters nor on the ComfyUI version, and an encoder that two families
share (T5 in flux and in pixart) is the same encoder for the same seed.

ComfyUI is imported inside the functions, so this file can be imported before ComfyUI's arguments are parsed.
It stands alone: the testing pack loads it by its path.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Mapping
from types import SimpleNamespace

import torch

FAMILIES = ("flux", "sd3", "pixart", "sd1")

WIDTH = 64
_T5 = {"d_model": WIDTH, "d_ff": 128, "d_kv": 16, "num_heads": 4}
_CLIP = {"num_hidden_layers": 4, "hidden_size": WIDTH, "intermediate_size": 128, "num_attention_heads": 4}
# The SD3 tree pads the joined CLIP states to 4096 and sets them beside T5's, so its T5 must be 4096 wide.
_SD3_T5 = {"d_model": 4096, "d_ff": 64, "d_kv": 16, "num_heads": 4}

# Above this many values a random block is repeated: drawing SD3's 131 M embedding values would take seconds.
# It is odd, so the rows of a weight still differ from one another.
_BLOCK = (1 << 21) + 1


def random_tensor(name: str, shape: tuple[int, ...], seed: int, dtype: torch.dtype) -> torch.Tensor:
    """Random weight for the parameter called ``name``, scaled so that activations stay around 1."""
    generator = torch.Generator().manual_seed(zlib.crc32(f"{seed}/{name}".encode()))
    count = math.prod(shape)
    values = torch.randn(min(count, _BLOCK), generator=generator)
    if name.endswith(("shared.weight", "token_embedding.weight", "relative_attention_bias.weight")):
        pass
    elif len(shape) >= 2 and name.endswith(".weight"):
        # An own gain per weight: sub-blocks then matter unequally, which gives a search something to find.
        gain = 0.4 + 0.8 * torch.rand(1, generator=generator)
        values *= gain / math.sqrt(math.prod(shape[1:]))
    elif name.endswith((".weight", "norm.scale")):
        values = 1 + 0.1 * values
    else:
        values *= 0.1
    values = values.to(dtype)
    if count > _BLOCK:
        values = values.repeat(-(-count // _BLOCK))[:count]
    return values.reshape(shape)


def random_state(
    like: Mapping[str, torch.Tensor], seed: int, dtype: torch.dtype | None = None
) -> dict[str, torch.Tensor]:
    """State dict with the names and shapes of ``like`` (meta tensors will do); scalars keep their value."""
    return {
        name: random_tensor(name, value.shape, seed, dtype or value.dtype) if value.ndim else value.clone()
        for name, value in like.items()
    }


# --- text encoders -----------------------------------------------------------------------------------------


def build_clip(tree, tokenizer, sizes: dict, dtype: torch.dtype, seed: int, model_options: dict, tokenizer_data=None):
    """CLIP of ComfyUI's classes; `sizes` are model options by name, over which `model_options` are laid."""
    import comfy.sd

    options = {"dtype": dtype, **model_options}
    for name, tiny in sizes.items():
        options[name] = {**tiny, **model_options.get(name, {})}
    target = SimpleNamespace(params={}, clip=tree, tokenizer=tokenizer)
    clip = comfy.sd.CLIP(target, tokenizer_data=tokenizer_data or {}, model_options=options)
    clip.load_sd(random_state(clip.cond_stage_model.state_dict(), seed), full_model=True)
    return clip


def flux_clip(layers: int = 6, dtype: torch.dtype = torch.float16, seed: int = 0, **model_options):
    """CLIP of the Flux family: T5 (``layers`` deep, at least 256 tokens) and a 4-layer CLIP-L for the pooled.

    ``model_options`` go to ``comfy.sd.CLIP``; ``t5xxl_model_config`` and ``clip_l_model_config`` are laid
    over the tiny sizes here.
    """
    from comfy.text_encoders import flux

    sizes = {"t5xxl_model_config": {**_T5, "num_layers": layers}, "clip_l_model_config": _CLIP}
    return build_clip(flux.flux_clip(), flux.FluxTokenizer, sizes, dtype, seed, model_options)


def sd3_clip(
    layers: int = 6,
    dtype: torch.dtype = torch.float16,
    seed: int = 0,
    *,
    clip_l: bool = True,
    clip_g: bool = True,
    t5: bool = True,
    **model_options,
):
    """CLIP of the SD3 family: 4-layer CLIP-L and CLIP-G, and a T5 ``layers`` deep; each can be left out.

    Its T5 is 4096 wide, as the tree demands: about 285 MB in float16, nearly all of it the embedding table.
    Give `sd3_model` the same ``clip_l`` and ``clip_g``: a missing CLIP changes the pooled vector's width.
    """
    from comfy.text_encoders import sd3_clip as family

    sizes = {
        "t5xxl_model_config": {**_SD3_T5, "num_layers": layers},
        "clip_l_model_config": _CLIP,
        "clip_g_model_config": _CLIP,
    }
    tree = family.sd3_clip(clip_l=clip_l, clip_g=clip_g, t5=t5)
    return build_clip(tree, family.SD3Tokenizer, sizes, dtype, seed, model_options)


def pixart_clip(layers: int = 6, dtype: torch.dtype = torch.float16, seed: int = 0, **model_options):
    """CLIP of the PixArt family: one T5, ``layers`` deep, that pads nothing."""
    from comfy.text_encoders import pixart_t5

    sizes = {"t5xxl_model_config": {**_T5, "num_layers": layers}}
    return build_clip(pixart_t5.pixart_te(), pixart_t5.PixArtTokenizer, sizes, dtype, seed, model_options)


def sd1_clip(layers: int = 4, dtype: torch.dtype = torch.float16, seed: int = 0, **model_options):
    """CLIP of the SD 1.5 family: one CLIP-L, ``layers`` deep."""
    from comfy import sd1_clip as family

    sizes = {"clip_l_model_config": {**_CLIP, "num_hidden_layers": layers}}
    return build_clip(family.SD1ClipModel, family.SD1Tokenizer, sizes, dtype, seed, model_options)


# --- denoisers ---------------------------------------------------------------------------------------------

_UNETS = {
    "flux": {
        "image_model": "flux", "in_channels": 16, "out_channels": 16, "patch_size": 2, "vec_in_dim": WIDTH,
        "context_in_dim": WIDTH, "hidden_size": 128, "num_heads": 1, "axes_dim": [16, 56, 56],
        "mlp_ratio": 4.0, "depth": 1, "depth_single_blocks": 1, "theta": 10000, "qkv_bias": True,
        "guidance_embed": True, "txt_ids_dims": [],
    },
    "sd3": {
        "in_channels": 16, "out_channels": 16, "patch_size": 2, "input_size": None, "depth": 2,
        "adm_in_channels": 2 * WIDTH, "num_patches": 32 * 32, "pos_embed_max_size": 32,
        "pos_embed_scaling_factor": None, "x_block_self_attn_layers": [],
        "context_embedder_config": {
            "target": "torch.nn.Linear", "params": {"in_features": 4096, "out_features": 128}
        },
    },
    "pixart": {
        "image_model": "pixart_sigma", "in_channels": 4, "patch_size": 2, "hidden_size": 64, "num_heads": 4,
        "depth": 2, "caption_channels": WIDTH, "model_max_length": 300, "micro_condition": False,
    },
    "sd1": {
        "image_size": 32, "in_channels": 4, "out_channels": 4, "model_channels": 32, "num_res_blocks": [1, 1],
        "channel_mult": [1, 2], "transformer_depth": [1, 1], "transformer_depth_middle": 1,
        "transformer_depth_output": [1, 1, 1, 1], "use_spatial_transformer": True, "context_dim": WIDTH,
        "use_linear_in_transformer": False, "use_checkpoint": False, "legacy": False, "adm_in_channels": None,
        "use_temporal_attention": False, "use_temporal_resblock": False,
    },
}  # fmt: skip
_CONFIGS = {"flux": "Flux", "sd3": "SD3", "pixart": "PixArtSigma", "sd1": "SD15"}


def diffusion_state(
    family: str, dtype: torch.dtype = torch.float16, seed: int = 0, **unet_config
) -> dict[str, torch.Tensor]:
    """Random state dict of a denoiser; ``unet_config`` overrides the tiny sizes."""
    return _random_unet(_config(family, unet_config), dtype, seed)


def _config(family: str, unet_config: dict):
    from comfy import supported_models

    return getattr(supported_models, _CONFIGS[family])({**_UNETS[family], **unet_config})


def _random_unet(config, dtype: torch.dtype, seed: int) -> dict[str, torch.Tensor]:
    skeleton = config.get_model({}, "", device="meta")
    return random_state(skeleton.diffusion_model.state_dict(), seed, dtype)


def _model(family: str, dtype: torch.dtype, seed: int, unet_config: dict):
    import comfy.sd

    if family in ("flux", "sd3"):  # as a loader does it: family and sizes are read from the shapes
        state = diffusion_state(family, dtype, seed, **unet_config)
        return comfy.sd.load_diffusion_model_state_dict(state, model_options={"dtype": dtype})
    return declared_model(_config(family, unet_config), dtype, seed)


def declared_model(config, dtype: torch.dtype, seed: int):
    """MODEL of a config of ComfyUI's: where detection takes sizes for granted (1152, 320, 3840)."""
    import comfy.model_patcher
    from comfy import model_management

    state = _random_unet(config, dtype, seed)
    device, offload = model_management.get_torch_device(), model_management.unet_offload_device()
    manual_cast = model_management.unet_manual_cast(dtype, device, config.supported_inference_dtypes)
    config.set_inference_dtype(dtype, manual_cast)
    model = config.get_model({}, "")
    patcher = comfy.model_patcher.CoreModelPatcher(model, load_device=device, offload_device=offload)
    model.load_model_weights(state, "", assign=patcher.is_dynamic())
    return patcher


def flux_model(dtype: torch.dtype = torch.float16, seed: int = 0, **unet_config):
    """MODEL of the Flux family for `flux_clip`; ``guidance_embed=False`` makes a schnell of the dev."""
    return _model("flux", dtype, seed, unet_config)


def sd3_model(
    dtype: torch.dtype = torch.float16,
    seed: int = 0,
    *,
    clip_l: bool = True,
    clip_g: bool = True,
    **unet_config,
):
    """MODEL of the SD3 family for the `sd3_clip` made with the same ``clip_l`` and ``clip_g``."""
    # The tree puts zeros of the real width where a CLIP is missing.
    unet_config.setdefault("adm_in_channels", (WIDTH if clip_l else 768) + (WIDTH if clip_g else 1280))
    return _model("sd3", dtype, seed, unet_config)


def pixart_model(dtype: torch.dtype = torch.float16, seed: int = 0, **unet_config):
    """MODEL of the PixArt Sigma family for `pixart_clip`."""
    return _model("pixart", dtype, seed, unet_config)


def sd1_model(dtype: torch.dtype = torch.float16, seed: int = 0, **unet_config):
    """MODEL of the SD 1.5 family (a UNet of two levels) for `sd1_clip`."""
    return _model("sd1", dtype, seed, unet_config)


# --- autoencoder and families ------------------------------------------------------------------------------


def latent_channels(family: str) -> int:
    """Latent channels of a family: 16 for flux and sd3, 4 for pixart and sd1."""
    return _UNETS[family]["in_channels"]


def image_side(family: str) -> int:
    """A small picture side, in pixels, that the family can sample."""
    # ComfyUI's PixArt divides by its position scale, round(side / 512): zero for 256 pixels or fewer.
    return 272 if family == "pixart" else 64


def taesd_state(channels: int, seed: int = 0) -> dict[str, torch.Tensor]:
    """Random state dict of ComfyUI's small autoencoder (TAESD), encoder and decoder."""
    import comfy.taesd.taesd

    state = random_state(comfy.taesd.taesd.TAESD(latent_channels=channels).state_dict(), seed)
    for value in state.values():
        if value.ndim == 4:
            value *= 1.2  # the ReLUs weaken the signal at every convolution: all pictures would look alike
    state["taesd_decoder.19.bias"] += 0.5  # mid-grey, so that the clamp to 0..1 cuts little
    return state


def vae(channels: int = 4, seed: int = 0):
    """VAE with ``channels`` latent channels (4, 16 or 128)."""
    import comfy.sd

    # FLUX.2's holds its 128 channels as 32 of twice the side: their number cannot be read from the weights.
    return comfy.sd.VAE(sd=taesd_state(channels, seed), metadata={"tae_latent_channels": channels})


def load_family(family: str, seed: int = 0):
    """(MODEL, CLIP, VAE) of one family of `FAMILIES`, fitting one another."""
    makers = {
        "flux": (flux_model, flux_clip),
        "sd3": (sd3_model, sd3_clip),
        "pixart": (pixart_model, pixart_clip),
        "sd1": (sd1_model, sd1_clip),
    }
    model, clip = makers[family]
    return model(seed=seed), clip(seed=seed), vae(latent_channels(family), seed)
