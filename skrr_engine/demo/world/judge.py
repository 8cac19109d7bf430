"""The judge: reads a picture and says what is in it, without ever seeing the caption. Unsure counts as wrong.

Pixels that leave the ground and touch are one thing. Its colour is the one in whose direction they leave the ground;
its shape is the nearest of the rendered shapes, both cut out and brought to one size.
"""

from dataclasses import dataclass
from functools import lru_cache

import torch
import torch.nn.functional as functional

from .render import coverage
from .world import COLOURS, MAX_RADIUS, MIN_RADIUS, SHAPES, SIZE, Scene, direction

__all__ = ["Found", "answers", "look"]

# A pixel is foreground when it has gone this share of the way from the ground to its colour: half an edge pixel.
SHARE = 0.45
# Area (pixels) below which a patch is a speck; the share of a thing's pixels that must be of its own colour, and the
# cosine of their mean to it.
SPECK, OWN_COLOUR, SURE_OF_COLOUR = 20, 0.7, 0.9
GRID = 16
# Mean absolute difference of the cut-outs: the best must be under the first, and the runner-up worse by the second.
SURE_OF_SHAPE, MARGIN = 0.16, 0.015
LONGEST_SIDE, MAX_ASPECT = 2.5 * MAX_RADIUS, 1.4


@dataclass(frozen=True)
class Found:
    """A thing in a picture; `shape` None where the judge is not sure. (x, y) is its centre in pixels."""

    shape: str | None
    colour: str
    x: float
    y: float


def look(pictures: torch.Tensor) -> list[list[Found]]:
    """What is in each of `pictures`, (pictures, 3, SIZE, SIZE) from 0 to 1."""
    pictures = _smooth(pictures.float().clamp(0, 1))
    ground = pictures.flatten(2).median(dim=2).values[:, :, None, None]
    lifted = (pictures - ground).clamp(min=0)
    palette = _palette(ground)
    likeness = torch.einsum("nkc,nchw->nkhw", functional.normalize(palette, dim=2), functional.normalize(lifted, dim=1))
    colour = likeness.argmax(dim=1)
    # How much of each pixel is of its colour: 0 on the ground, 1 inside a thing.
    strength = lifted.norm(dim=1) / palette.norm(dim=2).gather(1, colour.flatten(1)).reshape(colour.shape)
    patches = _connected(strength > SHARE)
    return [
        [
            _thing(patches[n] == patch, lifted[n], colour[n], strength[n].clamp(0, 1), palette[n])
            for patch, area in zip(*(part.tolist() for part in patches[n].unique(return_counts=True)), strict=True)
            if patch and area >= SPECK
        ]
        for n in range(len(pictures))
    ]


def answers(scene: Scene, found: list[Found]) -> bool:
    """Whether a picture with just the things `found` is what a caption of `scene` asks for."""
    wanted = scene.things
    if len(found) != len(wanted) or any(thing.shape is None for thing in found):
        return False
    if scene.task in ("colours", "colour attribution"):
        return sorted((t.shape, t.colour) for t in found) == sorted((t.shape, t.colour) for t in wanted)
    if sorted(t.shape for t in found) != sorted(t.shape for t in wanted):
        return False
    if scene.task != "position":
        return True
    first, second = sorted(found, key=lambda t: t.shape != wanted[0].shape)
    return direction(first, second) == direction(*wanted)


def _smooth(pictures: torch.Tensor) -> torch.Tensor:
    """A little blur, so that noise makes no specks."""
    kernel = torch.tensor([1.0, 2.0, 1.0])
    kernel = (kernel[:, None] * kernel / 16).expand(3, 1, 3, 3)
    return functional.conv2d(functional.pad(pictures, (1, 1, 1, 1), mode="replicate"), kernel, groups=3)


def _palette(ground: torch.Tensor) -> torch.Tensor:
    """How each colour leaves the ground of each picture: (pictures, colours, 3)."""
    colours = torch.tensor(list(COLOURS.values())) / 255
    return (colours[None] - ground[:, None, :, 0, 0]).clamp(min=0)


def _connected(masks: torch.Tensor) -> torch.Tensor:
    """Numbers the connected patches of each mask, 0 where there is none: the largest index spreads in a patch."""
    masks = masks[:, None].float()
    numbers = masks * torch.arange(1, SIZE * SIZE + 1).reshape(1, 1, SIZE, SIZE)
    while True:
        spread = torch.maximum(
            functional.max_pool2d(numbers, (3, 1), 1, (1, 0)), functional.max_pool2d(numbers, (1, 3), 1, (0, 1))
        )
        spread = spread * masks
        if torch.equal(spread, numbers):
            return numbers[:, 0].int()
        numbers = spread


def _thing(mask, lifted, colours, strength, palette) -> Found:
    """What the pixels of `mask` are. `lifted` (3, SIZE, SIZE) is the picture less its ground, the rest as in `look`."""
    mean = lifted[:, mask].mean(dim=1)
    likeness, number = torch.cosine_similarity(palette, mean[None], dim=1).max(dim=0)
    colour = list(COLOURS)[number]
    sure = likeness > SURE_OF_COLOUR and (colours[mask] == number).float().mean() > OWN_COLOUR
    rows, columns = (mask.any(dim=side).nonzero()[:, 0] for side in (1, 0))
    top, bottom, left, right = rows[0].item(), rows[-1].item() + 1, columns[0].item(), columns[-1].item() + 1
    x, y = (left + right) / 2, (top + bottom) / 2
    tall, wide = bottom - top, right - left
    if not sure or max(tall, wide) > LONGEST_SIDE or max(tall, wide) > MAX_ASPECT * min(tall, wide):
        return Found(None, colour, x, y)
    near = functional.max_pool2d(mask[None, None].float(), 3, 1, 1)[0, 0]
    cut = _cut(strength * near, top, bottom, left, right)
    names, templates = _templates()
    distances = (templates - cut).abs().mean(dim=(1, 2))
    by_shape = torch.stack([distances[[n == shape for n in names]].min() for shape in SHAPES])
    (first, second), (index, _) = (part.tolist() for part in by_shape.topk(2, largest=False))
    sure = first < SURE_OF_SHAPE and second - first > MARGIN
    return Found(SHAPES[index] if sure else None, colour, x, y)


def _cut(values: torch.Tensor, top: int, bottom: int, left: int, right: int) -> torch.Tensor:
    """The part of `values` inside the box, brought to GRID x GRID."""
    part = values[None, None, top:bottom, left:right]
    return functional.interpolate(part, (GRID, GRID), mode="bilinear", align_corners=False)[0, 0]


@lru_cache
def _templates() -> tuple[list[str], torch.Tensor]:
    """Every shape in several sizes, cut out as a thing is: names and (templates, GRID, GRID)."""
    names, cuts = [], []
    sizes = [(radius, shift) for radius in torch.linspace(MIN_RADIUS - 1, MAX_RADIUS + 1, 6) for shift in (0.0, 0.5)]
    radius, shift = torch.tensor(sizes).reshape(-1, 2, 1, 1).unbind(1)
    for shape in SHAPES:
        drawn = coverage(shape, SIZE / 2 + shift, SIZE / 2 + shift, radius)
        for one in _smooth(drawn[:, None].expand(-1, 3, -1, -1))[:, 0]:
            mask = one > SHARE
            rows, columns = (mask.any(dim=side).nonzero()[:, 0].tolist() for side in (1, 0))
            names.append(shape)
            cuts.append(_cut(one, rows[0], rows[-1] + 1, columns[0], columns[-1] + 1))
    return names, torch.stack(cuts)
