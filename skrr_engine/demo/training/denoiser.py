"""Trains the denoiser on the frozen encoder's outputs: predicts the noise, one caption in ten left empty.

Scenes, captions and latents come in pools, each made once from the seed and the pool's number and used for a few
passes: encoding text and pictures anew at every step would take most of the time.
"""

import random
from dataclasses import dataclass
from pathlib import Path

import torch

from ..captions import caption
from ..denoiser import Denoiser
from ..render import render
from ..sampling import SIGMAS
from ..world import TASKS, sample_scene
from .loop import Recipe, train

__all__ = ["train_denoiser"]

BATCH, NULL_SHARE, POOL, POOL_STEPS, CHUNK = 256, 0.1, 12_000, 1000, 250
# How often each task comes: those that need more words to be understood, more often.
SHARES = dict(zip(TASKS, (2, 3, 3, 2, 4, 4), strict=True))
# Loss weight min(SNR, CAP) / SNR of noise prediction (Min-SNR, arXiv 2303.09556).
CAP = 5.0
RECIPE = Recipe(steps=3800, rate=1e-3, warm_up=200, decay=0.01, average=0.999, save_every=200)


@dataclass(frozen=True)
class _Pool:
    latents: torch.Tensor  # (POOL, 4, 8, 8)
    text: torch.Tensor  # (POOL, tokens, width)
    mask: torch.Tensor  # (POOL, tokens)


def train_denoiser(encode_text, encode_pictures, folder: Path, seed: int, log, recipe: Recipe = RECIPE):
    """The denoiser's tensors, float32. `encode_text(captions)` -> (text, mask), `encode_pictures(pictures)` ->
    latents: the frozen parts."""
    torch.manual_seed(seed)
    model = Denoiser()
    weights = torch.minimum(SIGMAS**-2, torch.tensor(CAP)) * SIGMAS**2
    null, null_mask = encode_text([""])
    pools: dict[int, _Pool] = {}

    def pool_of(number: int) -> _Pool:
        if number not in pools:
            pools.clear()
            pools[number] = _make_pool(encode_text, encode_pictures, random.Random(f"{seed}/pool/{number}"))
            log(f"denoiser: pool {number} of {POOL} scenes is made")
        return pools[number]

    def loss_of(step: int) -> torch.Tensor:
        pool = pool_of(step // POOL_STEPS)
        generator = torch.Generator().manual_seed(1_000_003 * seed + step)
        rows = torch.randint(POOL, (BATCH,), generator=generator)
        text, mask = pool.text[rows].clone(), pool.mask[rows].clone()
        empty = torch.rand(BATCH, generator=generator) < NULL_SHARE
        text[empty], mask[empty] = 0, False
        text[empty, : null.shape[1]], mask[empty, : null.shape[1]] = null, null_mask
        times = torch.randint(len(SIGMAS), (BATCH,), generator=generator)
        noise = torch.randn(BATCH, 4, 8, 8, generator=generator)
        sigmas = SIGMAS[times][:, None, None, None]
        inputs = (pool.latents[rows] + sigmas * noise) / (sigmas**2 + 1).sqrt()
        with torch.autocast("cpu", torch.bfloat16):
            found = model(inputs, times, text, mask).float()
        return ((found - noise).square().mean(dim=(1, 2, 3)) * weights[times]).mean()

    return train("denoiser", model, loss_of, recipe, folder, log)


@torch.no_grad()
def _make_pool(encode_text, encode_pictures, sampler: random.Random) -> _Pool:
    tasks = sampler.choices(list(SHARES), SHARES.values(), k=POOL)
    scenes = [sample_scene(task, sampler) for task in tasks]
    captions = [caption(scene, sampler) for scene in scenes]
    with torch.autocast("cpu", torch.bfloat16):
        latents = [encode_pictures(render(scenes[at : at + CHUNK], sampler)).float() for at in range(0, POOL, CHUNK)]
    pairs = [encode_text(captions[at : at + CHUNK]) for at in range(0, POOL, CHUNK)]
    longest = max(mask.shape[1] for _, mask in pairs)
    text, mask = torch.zeros(POOL, longest, pairs[0][0].shape[2]), torch.zeros(POOL, longest, dtype=torch.bool)
    for number, (part, there) in enumerate(pairs):
        rows = slice(number * CHUNK, number * CHUNK + len(part))
        text[rows, : part.shape[1]], mask[rows, : there.shape[1]] = part, there
    return _Pool(torch.cat(latents), text, mask)
