"""Random model files for graphs made of ComfyUI's ordinary loaders.

The encoders have their real sizes, because the loaders tell encoders apart by shape. The denoisers are as
small as detection allows. Values are random, so pictures mean nothing; but every loader and sampler takes its
usual way.
"""

from __future__ import annotations

import json
import math
from pathlib import Path

import torch
from safetensors.torch import save_file

from .tiny_models import diffusion_state, random_state, taesd_state

CLIP_L = "skrr_clip_l.safetensors"
SD3 = "skrr_sd3.safetensors"
PIXART = "skrr_pixart.safetensors"
T5XXL_FP8 = "skrr_t5xxl_fp8_e4m3fn.safetensors"

# Odd, so that no two weights, and no two rows of one, begin at the same place of the repeated block.
_BLOCK = (1 << 24) + 1


def _save(state: dict[str, torch.Tensor], path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file(state, path)


def _write_taesd(models_dir: Path, name: str, channels: int, seed: int) -> None:
    """The two files that VAELoader offers as one VAE called ``name``."""
    state = taesd_state(channels, seed)
    for part in ("encoder", "decoder"):
        prefix = f"taesd_{part}."
        half = {key.removeprefix(prefix): value for key, value in state.items() if key.startswith(prefix)}
        _save(half, models_dir / "vae_approx" / f"{name}_{part}.safetensors")


def write_ordinary_files(models_dir: Path, seed: int = 0) -> None:
    """Files for CLIPLoader (``CLIP_L``, type sd3), UNETLoader (``SD3``) and VAELoader ("taesd3"): 260 MB."""
    from comfy import sd1_clip

    models_dir = Path(models_dir)
    encoder = sd1_clip.SDClipModel(device="meta", dtype=torch.float16).transformer
    _save(random_state(encoder.state_dict(), seed), models_dir / "text_encoders" / CLIP_L)
    # The SD3 tree puts zeros of their real widths where CLIP-G and T5 are missing: 768 + 1280, and 4096.
    denoiser = diffusion_state("sd3", seed=seed, adm_in_channels=768 + 1280)
    _save(denoiser, models_dir / "diffusion_models" / SD3)
    _write_taesd(models_dir, "taesd3", 16, seed)


def write_pixart_files(models_dir: Path, seed: int = 0) -> None:
    """Files for UNETLoader (``PIXART``) and VAELoader ("taesdxl") beside a real-size T5-XXL: about 90 MB."""
    models_dir = Path(models_dir)
    # Detection knows only the width 1152; a single block keeps the file small.
    sizes = {"hidden_size": 1152, "num_heads": 16, "depth": 1, "caption_channels": 4096}
    denoiser = diffusion_state("pixart", seed=seed, **sizes)
    _save(denoiser, models_dir / "diffusion_models" / PIXART)
    _write_taesd(models_dir, "taesdxl", 4, seed)


def t5xxl_shapes() -> dict[str, tuple[int, ...]]:
    """Names and shapes of the published T5-XXL encoder files, which hold the embedding table twice."""
    width, feed_forward, vocabulary = 4096, 10240, 32128
    shapes: dict[str, tuple[int, ...]] = {}
    for layer in range(24):
        attention, dense = (f"encoder.block.{layer}.layer.{part}." for part in (0, 1))
        for name in "qkvo":
            shapes[f"{attention}SelfAttention.{name}.weight"] = (width, width)
        if layer == 0:
            shapes[f"{attention}SelfAttention.relative_attention_bias.weight"] = (32, 64)
        shapes[f"{attention}layer_norm.weight"] = (width,)
        for name in ("wi_0", "wi_1"):
            shapes[f"{dense}DenseReluDense.{name}.weight"] = (feed_forward, width)
        shapes[f"{dense}DenseReluDense.wo.weight"] = (width, feed_forward)
        shapes[f"{dense}layer_norm.weight"] = (width,)
    shapes["encoder.final_layer_norm.weight"] = (width,)
    shapes["encoder.embed_tokens.weight"] = shapes["shared.weight"] = (vocabulary, width)
    return shapes


def write_t5xxl_fp8(path: Path, seed: int = 0) -> None:
    """A file like ``t5xxl_fp8_e4m3fn.safetensors``: 4.9 GB, norms and embedding in fp8 as well.

    Written in one pass by repeating a random block, so it needs little memory and as long as the disk does.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    generator = torch.Generator().manual_seed(seed)
    block = torch.randn(_BLOCK, generator=generator)

    def as_bytes(values: torch.Tensor) -> memoryview:
        return memoryview(values.to(torch.float8_e4m3fn).view(torch.uint8).numpy())

    norms = as_bytes(1 + 0.1 * block[:4096])
    tables = as_bytes(block)
    linears = {fan_in: as_bytes(block / math.sqrt(fan_in)) for fan_in in (4096, 10240)}

    header, end = {}, 0
    for name, shape in t5xxl_shapes().items():
        size = math.prod(shape)
        header[name] = {"dtype": "F8_E4M3", "shape": shape, "data_offsets": [end, end + size]}
        end += size
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)

    with open(path, "wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for name, shape in t5xxl_shapes().items():
            if len(shape) == 1:
                file.write(norms[: shape[0]])
                continue
            is_table = name.endswith(("shared.weight", "embed_tokens.weight", "attention_bias.weight"))
            source = tables if is_table else linears[shape[1]]
            left = math.prod(shape)
            # Where a weight starts in the block depends on its place in the file: equal shapes differ.
            start = file.tell() % len(source)
            while left:
                chunk = source[start : start + left]
                file.write(chunk)
                left -= len(chunk)
                start = 0
