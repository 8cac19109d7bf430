"""From noise to latents: the noise schedule of PixArt and a guided Euler sampler.

Steps, schedule ("simple") and noise are those of ComfyUI's KSampler, so that both hosts draw the same picture.
"""

from collections.abc import Callable

import torch

__all__ = ["SIGMAS", "sample", "seeded_noise"]

TIMES = 1000
_KEPT = torch.cumprod(1 - torch.linspace(1e-4, 0.02, TIMES, dtype=torch.float64), dim=0)
# Noise ÷ signal at every time: `latents + SIGMAS[t] * noise`.
SIGMAS = ((1 - _KEPT) / _KEPT).sqrt().float()


def seeded_noise(seeds, shape: tuple[int, ...]) -> torch.Tensor:
    """Noise for one picture a seed, (seeds, *shape), float32: what KSampler makes for a batch of one."""
    return torch.cat([torch.randn(1, *shape, generator=torch.Generator().manual_seed(seed)) for seed in seeds])


@torch.no_grad()
def sample(predict: Callable, noise: torch.Tensor, steps: int = 20, guidance: float = 4.0) -> torch.Tensor:
    """Latents (n, 4, h, w). `predict(inputs, times)` gets every picture twice, with its prompt and then with the
    null prompt, (2 n, 4, h, w) and (2 n,), and returns the noise it sees."""
    times = [TIMES - 1 - int(step * TIMES / steps) for step in range(steps)]
    latents = noise * (1 + SIGMAS[times[0]] ** 2).sqrt()
    for time, after in zip(times, [*times[1:], None], strict=True):
        sigma = SIGMAS[time]
        inputs = (latents / (sigma**2 + 1).sqrt()).repeat(2, 1, 1, 1)
        said, null = predict(inputs, torch.full((len(inputs),), float(time))).chunk(2)
        direction = null + guidance * (said - null)
        latents = latents + direction * ((SIGMAS[after] if after is not None else 0.0) - sigma)
    return latents
