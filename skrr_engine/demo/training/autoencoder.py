"""Trains the autoencoder on rendered scenes: mean absolute error, with a little noise on the latents so that a
denoiser's small errors stay small in the picture."""

import random
from pathlib import Path

import torch

from ..autoencoder import Autoencoder
from ..world.render import render
from ..world.world import TASKS, sample_scene
from .loop import Recipe, train

__all__ = ["train_autoencoder"]

BATCH, NOISE, SIZE_WEIGHT = 32, 0.1, 1e-3
RECIPE = Recipe(steps=2400, rate=1e-3, warm_up=100, average=0.995, save_every=100)


def train_autoencoder(folder: Path, seed: int, log, recipe: Recipe = RECIPE) -> dict[str, torch.Tensor]:
    """The autoencoder's tensors, float32."""
    torch.manual_seed(seed)
    model = Autoencoder().to(memory_format=torch.channels_last)

    def loss_of(step: int) -> torch.Tensor:
        sampler = random.Random(f"{seed}/autoencoder/{step}")
        generator = torch.Generator().manual_seed(sampler.getrandbits(40))
        pictures = render([sample_scene(sampler.choice(TASKS), sampler) for _ in range(BATCH)], sampler)
        pictures = pictures.to(memory_format=torch.channels_last)
        with torch.autocast("cpu", torch.bfloat16):
            latents = model.encode(pictures).float()
            noisy = latents + NOISE * torch.randn(latents.shape, generator=generator)
            drawn = model.decode(noisy).float()
        error = drawn - pictures
        # Latents about 1 in size: the schedule of the noise assumes it.
        size = latents.square().mean(dim=(0, 2, 3)) - 1
        return error.abs().mean() + error.square().mean() + SIZE_WEIGHT * size.square().mean()

    return train("autoencoder", model, loss_of, recipe, folder, log)
