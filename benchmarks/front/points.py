"""The measured cells as points: bytes, movement of the features, score, and paired differences of two."""

from dataclasses import dataclass, replace

import torch

from benchmarks.front.cases import DENSE, Case, cases, drawn_elsewhere
from benchmarks.tables.cells import Cells
from benchmarks.tables.statistics import Estimate, estimate
from skrr_engine.demo.world.world import TASKS

__all__ = ["Point", "against", "dense_of", "front_of", "over_draws", "points"]


@dataclass(frozen=True)
class Point:
    """What was found for one case. `score` is None where nothing was drawn."""

    case: Case
    found: dict

    @property
    def bytes(self) -> int:
        """Of the stored encoder, corrections included."""
        return self.found["bytes"]

    @property
    def score(self) -> float | None:
        """Share of pictures that are right, the mean over tasks."""
        return self.found.get("score")

    @property
    def moved(self) -> float:
        """How far the features moved, over their size."""
        return self.found["moved"]


def points(cells: Cells) -> list[Point]:
    """All measured cells, of all draws, most bytes first."""
    every = {case.name: case for case in [*cases(), *drawn_elsewhere()]}
    found = [Point(case, cells[name]) for name, case in every.items() if name in cells]
    return sorted(found, key=lambda point: (-point.bytes, point.case.name))


def against(one: Point, other: Point) -> Estimate:
    """The paired difference of the score: the same captions at the same noise."""
    marks = [int(a) - int(b) for a, b in zip(one.found["right"], other.found["right"], strict=True)]
    each = len(marks) // len(TASKS)
    groups = [range(n * each, (n + 1) * each) for n in range(len(TASKS))]
    return estimate(groups, torch.tensor(marks, dtype=torch.float64))


def over_draws(found: list[Point]) -> list[Point]:
    """One point for all draws of a case, under the first one's name: bytes and score are means."""
    groups: dict[Case, list[Point]] = {}
    for point in found:
        groups.setdefault(replace(point.case, draw=0), []).append(point)
    merged = []
    for case, own in groups.items():
        means = {name: sum(one.found[name] for one in own) / len(own) for name in ("bytes", "score", "removed")}
        merged.append(Point(case, {**own[0].found, **means}))
    return merged


def front_of(drawn: list[Point]) -> list[Point]:
    """Those that nothing smaller, or as small, scores as well as; most bytes first."""
    best, found = -1.0, []
    for point in sorted(drawn, key=lambda one: (one.bytes, -one.score)):
        if point.score > best:
            best = point.score
            found.append(point)
    return found[::-1]


def dense_of(found: list[Point]) -> Point | None:
    """The reference, where it was drawn."""
    return next((point for point in found if point.case.name == DENSE.name and point.score is not None), None)
