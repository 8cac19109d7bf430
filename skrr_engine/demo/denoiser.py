"""The small denoiser: PixArt's architecture (arXiv 2310.00426), in ComfyUI's tensor names.

The text enters by cross-attention alone, behind a projection of two layers, so that nothing in the denoiser
repairs a broken encoder. Predicts the velocity of latents of a few tokens.
"""

import math

import torch
import torch.nn.functional as functional
from torch import nn

__all__ = ["CHANNELS", "DEPTH", "HEADS", "PATCH", "TEXT_WIDTH", "WIDTH", "Denoiser", "position_embedding"]

WIDTH, DEPTH, HEADS, PATCH, CHANNELS, TEXT_WIDTH = 160, 6, 5, 2, 4, 128
FREQUENCIES, LONGEST_PERIOD = 256, 10_000
# The grid of patches is laid over this many units, whatever its size, as PixArt does for 512 pixels.
GRID = 16


def position_embedding(width: int, rows: int, columns: int) -> torch.Tensor:
    """(rows * columns, width) float32: sines and cosines of the column, then of the row. ComfyUI's PixArt rounds
    the grid's size to whole 512 pixels, which leaves nothing for pictures as small as these."""
    sides = (torch.arange(count) * GRID / count for count in (rows, columns))
    down, across = torch.meshgrid(*sides, indexing="ij")
    rates = 1.0 / LONGEST_PERIOD ** (torch.arange(width // 4) / (width / 4))
    angles = [places.reshape(-1, 1) * rates for places in (across, down)]
    return torch.cat([part for angle in angles for part in (angle.sin(), angle.cos())], dim=1)


def _time_embedding(times: torch.Tensor) -> torch.Tensor:
    half = FREQUENCIES // 2
    angles = times[:, None].float() * torch.exp(-math.log(LONGEST_PERIOD) * torch.arange(half) / half)
    return torch.cat([angles.cos(), angles.sin()], dim=1)


def _norm(hidden: torch.Tensor) -> torch.Tensor:
    return functional.layer_norm(hidden, hidden.shape[-1:], eps=1e-6)


def _attend(query, key, value, mask=None) -> torch.Tensor:
    """Each (rows, tokens, width), split into HEADS. Written out: on a CPU, the library's fused attention takes two
    thirds of a training step on its way back."""
    query, key, value = (part.unflatten(2, (HEADS, -1)).transpose(1, 2) for part in (query, key, value))
    scores = query @ key.mT * query.shape[-1] ** -0.5
    if mask is not None:
        scores = scores.masked_fill(~mask, float("-inf"))
    return (scores.softmax(dim=-1).to(value.dtype) @ value).transpose(1, 2).flatten(2)


class _Mlp(nn.Module):
    def __init__(self, into: int, middle: int, out: int):
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(into, middle), nn.Linear(middle, out)

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        return self.fc2(functional.gelu(self.fc1(values), approximate="tanh"))


class _SelfAttention(nn.Module):
    def __init__(self):
        super().__init__()
        self.qkv, self.proj = nn.Linear(WIDTH, 3 * WIDTH), nn.Linear(WIDTH, WIDTH)

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        return self.proj(_attend(*self.qkv(hidden).chunk(3, dim=2)))


class _CrossAttention(nn.Module):
    def __init__(self):
        super().__init__()
        self.q_linear, self.kv_linear = nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, 2 * WIDTH)
        self.proj = nn.Linear(WIDTH, WIDTH)

    def forward(self, hidden: torch.Tensor, text: torch.Tensor, mask) -> torch.Tensor:
        return self.proj(_attend(self.q_linear(hidden), *self.kv_linear(text).chunk(2, dim=2), mask))


class _Block(nn.Module):
    """Self-attention and feed-forward under the time's scales, shifts and gates; text in between."""

    def __init__(self):
        super().__init__()
        self.attn, self.cross_attn, self.mlp = _SelfAttention(), _CrossAttention(), _Mlp(WIDTH, 4 * WIDTH, WIDTH)
        self.scale_shift_table = nn.Parameter(torch.randn(6, WIDTH) / WIDTH**0.5)

    def forward(self, hidden, text, time, mask):
        shifts = self.scale_shift_table + time.unflatten(1, (6, WIDTH))
        shift, scale, gate, shift_mlp, scale_mlp, gate_mlp = shifts.chunk(6, dim=1)
        hidden = hidden + gate * self.attn(_norm(hidden) * (1 + scale) + shift)
        hidden = hidden + self.cross_attn(hidden, text, mask)
        return hidden + gate_mlp * self.mlp(_norm(hidden) * (1 + scale_mlp) + shift_mlp)


class _Final(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(WIDTH, PATCH * PATCH * CHANNELS)
        self.scale_shift_table = nn.Parameter(torch.randn(2, WIDTH) / WIDTH**0.5)

    def forward(self, hidden, time):
        shift, scale = (self.scale_shift_table + time[:, None]).chunk(2, dim=1)
        return self.linear(_norm(hidden) * (1 + scale) + shift)


class Denoiser(nn.Module):
    """PixArt, small. Everything in float32."""

    def __init__(self):
        super().__init__()
        self.x_embedder = nn.ModuleDict({"proj": nn.Conv2d(CHANNELS, WIDTH, PATCH, stride=PATCH)})
        self.t_embedder = nn.ModuleDict(
            {"mlp": nn.Sequential(nn.Linear(FREQUENCIES, WIDTH), nn.SiLU(), nn.Linear(WIDTH, WIDTH))}
        )
        self.t_block = nn.Sequential(nn.SiLU(), nn.Linear(WIDTH, 6 * WIDTH))
        self.y_embedder = nn.ModuleDict({"y_proj": _Mlp(TEXT_WIDTH, WIDTH, WIDTH)})
        self.blocks = nn.ModuleList(_Block() for _ in range(DEPTH))
        self.final_layer = _Final()

    def forward(self, latents, times, text, mask=None):
        """The predicted velocity (see `sampling.noised`), shaped as `latents` (n, 4, h, w). `times` (n,) from 0 to
        999; `text` (n, tokens, TEXT_WIDTH) is the encoder's output, `mask` (n, tokens) true where there is text, or
        None."""
        rows, columns = (side // PATCH for side in latents.shape[2:])
        hidden = self.x_embedder["proj"](latents).flatten(2).transpose(1, 2)
        hidden = hidden + position_embedding(WIDTH, rows, columns)
        time = self.t_embedder["mlp"](_time_embedding(times))
        shared, text = self.t_block(time), self.y_embedder["y_proj"](text)
        mask = None if mask is None else mask[:, None, None, :]
        for block in self.blocks:
            hidden = block(hidden, text, shared, mask)
        patches = self.final_layer(hidden, time).unflatten(1, (rows, columns)).unflatten(3, (PATCH, PATCH, CHANNELS))
        return patches.permute(0, 5, 1, 3, 2, 4).reshape(latents.shape)
