"""What ships: the trained tensors in float16, with the few that only ComfyUI's classes read, and the log."""

from pathlib import Path

import torch

from ...disk import make_folder, reading, write_atomically
from ...files.tensor_reading import read_tensors
from ...files.tensor_writing import write_tensors
from ..denoiser import TEXT_WIDTH
from ..layout import AUTOENCODER, DENOISER, ENCODER, TOKENIZER

__all__ = ["export"]

LOG = "training.log"
# What ComfyUI multiplies latents with for PixArt-Sigma (SDXL's factor), undone by the autoencoder's own scale.
LATENT_SCALE = 0.13025


def export(folder: Path, target: Path) -> None:
    """Writes the shipped files into `target` from those that the stages left in `folder`."""
    make_folder(target)
    beside = {
        ENCODER: {},
        # PixArt's learned null caption: its models use the empty prompt instead, and the class wants one.
        DENOISER: {"y_embedder.y_embedding": torch.zeros(1, TEXT_WIDTH)},
        AUTOENCODER: {"vae_scale": torch.tensor(LATENT_SCALE), "vae_shift": torch.tensor(0.0)},
    }
    for name, more in beside.items():
        tensors = {key: value.half() for key, value in read_tensors(folder / name).items()}
        # The scale keeps its precision: it stands for an exact number.
        write_tensors({**tensors, **more}, target / name)
    for name in (TOKENIZER, LOG):
        with reading(folder / name):
            data = (folder / name).read_bytes()
        write_atomically(target / name, data)
