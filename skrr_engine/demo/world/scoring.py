"""Scores of pictures: GenEval's six tasks, with bootstrap intervals over the captions."""

import random
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from .captions import CALIBRATION, EVALUATION, caption, split_pairs
from .judge import answers, look
from .world import TASKS, Scene, sample_scene

__all__ = ["Case", "Scores", "calibration_captions", "evaluation_cases", "interval", "right", "score"]

RESAMPLES = 2000


@dataclass(frozen=True)
class Case:
    """One thing to draw: what the caption asks for, the caption, and the seed of its noise."""

    scene: Scene
    caption: str
    seed: int


@dataclass(frozen=True)
class Scores:
    """Share of right pictures: by task, overall (the mean of the tasks, as GenEval), and the 95 % interval of that."""

    tasks: dict[str, float]
    overall: float
    low: float
    high: float


def evaluation_cases(per_task: int, seed: int = 0) -> list[Case]:
    """`per_task` cases of every task, task after task; wordings and pairs that calibration never uses."""
    sampler, (_, pairs) = random.Random(f"{seed}/evaluation"), split_pairs()
    scenes = [sample_scene(task, sampler, pairs) for task in TASKS for _ in range(per_task)]
    return [Case(scene, caption(scene, sampler, EVALUATION), seed * 100_000 + n) for n, scene in enumerate(scenes)]


def calibration_captions(count: int, seed: int = 0) -> list[str]:
    """`count` distinct captions over all tasks, in calibration's wordings and pairs."""
    sampler, (pairs, _) = random.Random(f"{seed}/calibration"), split_pairs()
    found: dict[str, None] = {}
    while len(found) < count:
        found.setdefault(caption(sample_scene(TASKS[len(found) % 6], sampler, pairs), sampler, CALIBRATION))
    return list(found)


def right(cases: Sequence[Case], pictures: torch.Tensor) -> torch.Tensor:
    """(cases,) bool: which pictures (cases, 3, 64, 64) are what their caption asks for."""
    return torch.tensor([answers(case.scene, found) for case, found in zip(cases, look(pictures), strict=True)])


def score(cases: Sequence[Case], verdicts: torch.Tensor) -> Scores:
    """The scores of `verdicts`, (cases,) bool, as from `right`."""
    rows = _by_task(cases)
    tasks = {task: verdicts[at].double().mean().item() for task, at in rows.items()}
    low, high = interval(cases, verdicts.double())
    return Scores(tasks, sum(tasks.values()) / len(tasks), low, high)


def interval(cases: Sequence[Case], values: torch.Tensor, seed: int = 0) -> tuple[float, float]:
    """The 95 % bootstrap interval of the mean over tasks of `values`, (cases,) float64; cases are drawn anew within
    their task. With differences of two plans as `values` this is the paired comparison."""
    generator = torch.Generator().manual_seed(seed)
    means = torch.zeros(RESAMPLES, dtype=torch.float64)
    rows = _by_task(cases)
    for at in rows.values():
        drawn = torch.randint(len(at), (RESAMPLES, len(at)), generator=generator)
        means += values[torch.tensor(at)][drawn].mean(dim=1) / len(rows)
    return tuple(means.quantile(torch.tensor([0.025, 0.975], dtype=torch.float64)).tolist())


def _by_task(cases: Sequence[Case]) -> dict[str, list[int]]:
    rows: dict[str, list[int]] = {}
    for n, case in enumerate(cases):
        rows.setdefault(case.scene.task, []).append(n)
    return rows
