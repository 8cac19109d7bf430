"""What ships: the trained tensors in float16, with the few that only ComfyUI's classes read, and the log."""

from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from ...running.checkpoint import write_atomically
from ..denoiser import TEXT_WIDTH
from ..layout import AUTOENCODER, DENOISER, ENCODER, TOKENIZER

__all__ = ["export"]

LOG = "training.log"
# What ComfyUI multiplies latents with for PixArt-Sigma (SDXL's factor), undone by the autoencoder's own scale.
LATENT_SCALE = 0.13025


def export(folder: Path, target: Path) -> None:
    """Writes the shipped files into `target` from those that the stages left in `folder`."""
    target.mkdir(parents=True, exist_ok=True)
    beside = {
        ENCODER: {},
        # PixArt's learned null caption: its models use the empty prompt instead, and the class wants one.
        DENOISER: {"y_embedder.y_embedding": torch.zeros(1, TEXT_WIDTH)},
        AUTOENCODER: {"vae_scale": torch.tensor(LATENT_SCALE), "vae_shift": torch.tensor(0.0)},
    }
    for name, more in beside.items():
        tensors = {key: value.half() for key, value in load_file(folder / name).items()}
        # The scale keeps its precision: it stands for an exact number.
        save_file({**tensors, **more}, target / name)
    for name in (TOKENIZER, LOG):
        write_atomically(target / name, (folder / name).read_bytes())
