"""Trains the denoiser on the frozen encoder's outputs: predicts the velocity, one caption in ten left empty.

With the noise as what is predicted, as PixArt's weights do, what the text decides (which thing, where) weighs next to
nothing: it is decided where the noise is strong, and there nearly all of the answer is a copy of the input.

Scenes, captions and latents come in pools, each made once from the seed and the pool's number and used for eleven
passes: encoding text and pictures anew at every step would take most of the time. With 32 passes the denoiser learned
the pool by heart (loss 0.356 at its end, 0.412 on the next).
"""

import random
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch

from ..denoiser import Denoiser
from ..sampling import SIGMAS, noised
from ..world.captions import caption, whole_caption
from ..world.render import render
from ..world.world import sample_scene
from .loop import Recipe, train
from .texts import SHARES

__all__ = ["train_denoiser"]

BATCH, NULL_SHARE, POOL, POOL_STEPS, CHUNK = 128, 0.1, 12_000, 1000, 60
# Captions come in batches of equal length: many at once, so that the batches are large.
TEXTS = 4000
# So many captions say everything about their scene, in the first WHOLE_POOLS pools and later. What a caption leaves
# open is noise to whoever learns what its words mean; but who has learned them on placed things alone draws one of two
# things twice where the places are open (docs/small-pipeline.md).
WHOLE_POOLS, WHOLE_SHARES = 9, (0.7, 0.2)
RECIPE = Recipe(steps=15_000, rate=1.5e-3, warm_up=300, decay=0.01, average=0.999, save_every=250, log_every=100)


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
    velocity_loss = torch.compile(partial(_velocity_loss, model), dynamic=False)
    null, null_mask = encode_text([""])
    pools: dict[int, _Pool] = {}

    def pool_of(number: int) -> _Pool:
        if number not in pools:
            pools.clear()
            share = WHOLE_SHARES[number >= WHOLE_POOLS]
            pools[number] = _make_pool(encode_text, encode_pictures, random.Random(f"{seed}/pool/{number}"), share)
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
        return velocity_loss(pool.latents[rows], noise, times, text, mask)

    return train("denoiser", model, loss_of, recipe, folder, log)


def _velocity_loss(model, latents, noise, times, text, mask) -> torch.Tensor:
    """The mean squared error of the velocity, every time weighing the same."""
    inputs, velocity = noised(latents, noise, times)
    with torch.autocast("cpu", torch.bfloat16):
        found = model(inputs, times, text, mask)
    return (found.float() - velocity).square().mean()


@torch.no_grad()
def _make_pool(encode_text, encode_pictures, sampler: random.Random, whole: float) -> _Pool:
    tasks = sampler.choices(list(SHARES), SHARES.values(), k=POOL)
    scenes = [sample_scene(task, sampler) for task in tasks]
    captions = [(whole_caption if sampler.random() < whole else caption)(scene, sampler) for scene in scenes]
    with torch.autocast("cpu", torch.bfloat16):
        # Channels last: half the time of the convolutions.
        parts = (render(scenes[at : at + CHUNK], sampler) for at in range(0, POOL, CHUNK))
        latents = [encode_pictures(part.to(memory_format=torch.channels_last)).float() for part in parts]
    pairs = [encode_text(captions[at : at + TEXTS]) for at in range(0, POOL, TEXTS)]
    # Rounded up: another pool's shape would be compiled anew.
    longest = -(-max(mask.shape[1] for _, mask in pairs) // 8) * 8
    text, mask = torch.zeros(POOL, longest, pairs[0][0].shape[2]), torch.zeros(POOL, longest, dtype=torch.bool)
    for at, (part, there) in enumerate(pairs):
        rows = slice(at * TEXTS, at * TEXTS + len(part))
        text[rows, : part.shape[1]], mask[rows, : there.shape[1]] = part, there
    return _Pool(torch.cat(latents), text, mask)
