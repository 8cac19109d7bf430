"""The picture autoencoder: 8 times smaller, 4 channels; the published layout of the Tiny AutoEncoder (TAESD, MIT).

Its tensors carry the names under which ComfyUI's VAE loader knows that layout, `taesd_encoder.*` and
`taesd_decoder.*` with `vae_scale` and `vae_shift`. Here, latents are what the decoder takes, about 1 in size.
"""

import torch
from torch import nn

__all__ = ["Autoencoder"]

WIDTH, LATENT = 64, 4


class _Bound(nn.Module):
    """Keeps latents within -3 … 3, smoothly."""

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        return 3 * torch.tanh(values / 3)


class _Block(nn.Module):
    """Three convolutions around a shortcut."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Sequential(_conv(WIDTH), nn.ReLU(), _conv(WIDTH), nn.ReLU(), _conv(WIDTH))

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        return torch.relu(self.conv(values) + values)


def _conv(out: int, into: int = WIDTH, **options) -> nn.Conv2d:
    return nn.Conv2d(into, out, 3, padding=1, **options)


def _down() -> list[nn.Module]:
    return [_conv(WIDTH, stride=2, bias=False), _Block(), _Block(), _Block()]


def _up() -> list[nn.Module]:
    return [_Block(), _Block(), _Block(), nn.Upsample(scale_factor=2), _conv(WIDTH, bias=False)]


class Autoencoder(nn.Module):
    """Pictures (n, 3, 8 h, 8 w) from 0 to 1 <-> latents (n, 4, h, w)."""

    def __init__(self):
        super().__init__()
        self.taesd_encoder = nn.Sequential(
            _conv(WIDTH, 3), _Block(), *_down(), *_down(), *_down(), _conv(LATENT)
        )  # fmt: skip
        self.taesd_decoder = nn.Sequential(
            _Bound(), _conv(WIDTH, LATENT), nn.ReLU(), *_up(), *_up(), *_up(), _Block(), _conv(3)
        )

    def encode(self, pictures: torch.Tensor) -> torch.Tensor:
        """Latents, without noise."""
        return self.taesd_encoder(pictures)

    def decode(self, latents: torch.Tensor) -> torch.Tensor:
        """Pictures; values may leave 0 to 1 a little."""
        return self.taesd_decoder(latents)
