"""Scenes to pictures: shapes by their signed distance, edges smoothed over one pixel, on a dark ground."""

import random
from collections.abc import Sequence

import torch

from .world import COLOURS, SHAPES, SIZE, Scene

__all__ = ["coverage", "render"]

GROUND = (28.0, 30.0, 36.0)
GROUND_TINT, GROUND_SLOPE, COLOUR_JITTER = 9.0, 6.0, 9.0


def render(scenes: Sequence[Scene], sampler: random.Random) -> torch.Tensor:
    """The scenes as (scenes, 3, SIZE, SIZE) float32, 0 to 1. `sampler` draws each ground's tint and slope and the
    colours' jitter: what no caption speaks of."""
    wander = sampler.uniform
    grounds = [(wander(-GROUND_TINT, GROUND_TINT), wander(-GROUND_SLOPE, GROUND_SLOPE)) for _ in scenes]
    tint, slope = torch.tensor(grounds).reshape(-1, 2, 1, 1, 1).unbind(1)
    ramp = tint + slope * torch.linspace(-1, 1, SIZE)[None, None, :, None]
    pictures = (torch.tensor(GROUND)[None, :, None, None] + ramp).expand(-1, -1, -1, SIZE).clone()
    for shape in SHAPES:
        # Things never overlap, so their order does not matter, and all of one shape are drawn at once.
        drawn = [(n, thing) for n, scene in enumerate(scenes) for thing in scene.things if thing.shape == shape]
        for place in range(max((len(scene.things) for scene in scenes), default=0)):
            now = [(n, t) for n, t in drawn if place < len(scenes[n].things) and scenes[n].things[place] is t]
            if now:
                rows = [n for n, _ in now]
                colours = [[c + wander(-COLOUR_JITTER, COLOUR_JITTER) for c in COLOURS[t.colour]] for _, t in now]
                sides = torch.tensor([(t.x, t.y, t.radius) for _, t in now]).reshape(-1, 3, 1, 1).unbind(1)
                cover = coverage(shape, *sides)[:, None]
                pictures[rows] = torch.lerp(pictures[rows], torch.tensor(colours)[:, :, None, None], cover)
    return (pictures / 255).clamp(0, 1)


def coverage(shape: str, x: torch.Tensor, y: torch.Tensor, radius: torch.Tensor) -> torch.Tensor:
    """How much of each pixel the shapes cover: (shapes, SIZE, SIZE), 0 to 1, by the distance of the pixel's centre.
    `x`, `y` and `radius` are (shapes, 1, 1)."""
    places = torch.arange(SIZE) + 0.5
    return (0.5 - _distance(shape, places[None, None, :] - x, places[None, :, None] - y, radius)).clamp(0, 1)


def _distance(shape: str, dx: torch.Tensor, dy: torch.Tensor, r: torch.Tensor) -> torch.Tensor:
    """About the signed distance to the shape's edge in pixels, negative inside (exact near straight edges)."""
    across, down = dx.abs(), dy.abs()
    if shape == "circle":
        return torch.hypot(dx, dy) - r
    if shape == "ring":
        return (torch.hypot(dx, dy) - 0.73 * r).abs() - 0.27 * r
    if shape == "square":
        return torch.maximum(across, down) - 0.88 * r
    if shape == "diamond":
        return (across + down - 1.1 * r) / 2**0.5
    if shape == "cross":
        arm = 0.34 * r
        return torch.minimum(torch.maximum(across - r, down - arm), torch.maximum(across - arm, down - r))
    if shape == "triangle":
        # Apex at the top, base at 0.8 r: the edges' normals are (±1.8, -1) / |…|.
        slanted = (1.8 * across - dy - r) / (1.8**2 + 1) ** 0.5
        return torch.maximum(slanted, dy - 0.8 * r)
    raise ValueError(f"The shape is {shape!r}; the world has circle, ring, square, diamond, cross and triangle.")
