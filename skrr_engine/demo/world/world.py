"""The world of the small pipeline: a few coloured shapes on a dark ground, in scenes of GenEval's six tasks.

Lengths are in pixels of a picture SIZE wide, y downwards. A scene says everything about its picture but the
ground's tint and each colour's slight jitter, which `render` draws.
"""

import random
from dataclasses import dataclass

__all__ = ["COLOURS", "DIRECTIONS", "SHAPES", "SIZE", "TASKS", "Scene", "Thing", "direction", "sample_scene"]

SIZE = 64
SHAPES = ("circle", "square", "triangle", "cross", "ring", "diamond")
COLOURS = {
    "red": (222, 38, 44),
    "orange": (245, 138, 20),
    "yellow": (250, 228, 60),
    "green": (34, 160, 62),
    "cyan": (64, 214, 226),
    "blue": (44, 82, 222),
    "purple": (146, 52, 196),
    "white": (244, 244, 240),
}
TASKS = ("single object", "two objects", "counting", "colours", "position", "colour attribution")
DIRECTIONS = ("left of", "right of", "above", "below")
MIN_RADIUS, MAX_RADIUS = 8.0, 11.0
# How far two things' centres lie apart along the axis that their relation names, and at most across it.
APART, ASIDE = (26.0, 34.0), 7.0


@dataclass(frozen=True)
class Thing:
    """A shape of radius `radius` (half its width) around (x, y)."""

    shape: str
    colour: str
    x: float
    y: float
    radius: float


@dataclass(frozen=True)
class Scene:
    """What is asked for (`task`) and what there is. In "position" the first thing stands `direction` the second."""

    task: str
    things: tuple[Thing, ...]


def direction(first, second) -> str:
    """Where `first` stands, seen from `second` (anything with x and y): one of four words."""
    dx, dy = first.x - second.x, first.y - second.y
    if abs(dx) >= abs(dy):
        return "left of" if dx < 0 else "right of"
    return "above" if dy < 0 else "below"


def sample_scene(task: str, sampler: random.Random, pairs=None) -> Scene:
    """A scene for `task`. `pairs` are the (shape, colour) pairs to use; None allows all of them.

    Two things always differ in shape and, where `task` names both colours, in colour. Counted things share
    their shape and colour."""
    pairs = sorted(pairs) if pairs is not None else [(s, c) for s in SHAPES for c in COLOURS]
    first = sampler.choice(pairs)
    if task in ("single object", "colours"):
        kinds = [first]
    elif task == "counting":
        kinds = [first] * sampler.randint(1, 4)
    elif task in TASKS:
        others = [p for p in pairs if p[0] != first[0] and p[1] != first[1]]
        kinds = [first, sampler.choice(others)]
    else:
        raise ValueError(f"The task is {task!r}; expected one of {', '.join(TASKS)}.")
    places = _places(len(kinds), sampler)
    pairs = zip(kinds, places, strict=True)
    return Scene(task, tuple(Thing(*kind, *place, sampler.uniform(MIN_RADIUS, MAX_RADIUS)) for kind, place in pairs))


def _places(count: int, sampler: random.Random) -> list[tuple[float, float]]:
    """Centres that keep things apart and inside the picture."""
    middle, jitter = SIZE / 2, sampler.uniform
    if count == 1:
        return [(middle + jitter(-14, 14), middle + jitter(-14, 14))]
    if count == 2:
        half, aside = jitter(*APART) / 2, jitter(-ASIDE, ASIDE) / 2
        centre_along, centre_across = middle + jitter(-3, 3), middle + jitter(-10, 10)
        along = [centre_along - half, centre_along + half]
        across = [centre_across - aside, centre_across + aside]
        if sampler.random() < 0.5:
            along.reverse()
        places = list(zip(along, across, strict=True))
        return places if sampler.random() < 0.5 else [(y, x) for x, y in places]
    quarter, far = SIZE / 4, 3 * SIZE / 4
    corners = [(quarter, quarter), (far, quarter), (quarter, far), (far, far)]
    return [(x + jitter(-2.5, 2.5), y + jitter(-2.5, 2.5)) for x, y in sampler.sample(corners, count)]
