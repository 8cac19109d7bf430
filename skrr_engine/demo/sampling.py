"""From noise to latents: the noise schedule of PixArt and a guided Euler sampler.

Steps, schedule ("simple") and noise are those of ComfyUI's KSampler, so that both hosts draw the same picture.
"""

from collections.abc import Callable

import torch

__all__ = ["SIGMAS", "noised", "sample", "seeded_noise"]

TIMES = 1000
_KEPT = torch.cumprod(1 - torch.linspace(1e-4, 0.02, TIMES, dtype=torch.float64), dim=0)
# Noise ÷ signal at every time: `latents + SIGMAS[t] * noise`.
SIGMAS = ((1 - _KEPT) / _KEPT).sqrt().float()


def seeded_noise(seeds, shape: tuple[int, ...]) -> torch.Tensor:
    """Noise for one picture a seed, (seeds, *shape), float32: what KSampler makes for a batch of one."""
    return torch.cat([torch.randn(1, *shape, generator=torch.Generator().manual_seed(seed)) for seed in seeds])


def noised(latents: torch.Tensor, noise: torch.Tensor, times: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """What the denoiser sees at `times` (n,), and the velocity that it should answer (arXiv 2202.00512):
    inputs = a latents + s noise and a noise - s latents, with a = 1 / sqrt(1 + sigma²) and s = sigma a."""
    sigmas = SIGMAS[times][:, None, None, None]
    kept = (1 + sigmas**2).rsqrt()
    return kept * (latents + sigmas * noise), kept * (noise - sigmas * latents)


@torch.no_grad()
def sample(predict: Callable, noise: torch.Tensor, steps: int = 20, guidance: float = 4.0) -> torch.Tensor:
    """Latents (n, 4, h, w). `predict(inputs, times)` gets every picture twice, with its prompt and then with the
    null prompt, (2 n, 4, h, w) and (2 n,), and returns the velocity (see `noised`)."""
    times = [TIMES - 1 - int(step * TIMES / steps) for step in range(steps)]
    latents = noise * (1 + SIGMAS[times[0]] ** 2).sqrt()
    for time, after in zip(times, [*times[1:], None], strict=True):
        sigma = SIGMAS[time]
        inputs = latents / (sigma**2 + 1).sqrt()
        said, null = predict(inputs.repeat(2, 1, 1, 1), torch.full((2 * len(inputs),), float(time))).chunk(2)
        # The noise in it: a velocity + s inputs, see `noised`.
        direction = (null + guidance * (said - null) + sigma * inputs) / (sigma**2 + 1).sqrt()
        latents = latents + direction * ((SIGMAS[after] if after is not None else 0.0) - sigma)
    return latents
