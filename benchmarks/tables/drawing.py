"""Draws the cases under a variant and measures the pictures and the encoder: one cell of the tables."""

import random
from dataclasses import dataclass
from functools import cached_property

import torch

from skrr_engine.demo.pipeline import Pipeline
from skrr_engine.demo.world.render import render
from skrr_engine.demo.world.scoring import Case, evaluation_cases, right
from skrr_engine.demo.world.world import TASKS
from skrr_engine.digest import digest_json
from skrr_engine.measure.execute import encode
from skrr_engine.measure.objective import Objective, Tally
from skrr_engine.measure.projection import no_projection

from .pictures import Moments, features, frechet_with_error, moments, ssim
from .plans import calibration_of
from .variants import Variant, vary

__all__ = ["Drawer", "Sizes"]

CASES_SEED, HELD_OUT_SEED, REFERENCE_SEED = 0, 1, 2
# Beyond every case's own seed.
OTHER_NOISE = 10_000_000


@dataclass(frozen=True)
class Sizes:
    """How much is drawn and measured. `per_task` cases of each task for whole cells, `fewer` for other calibration
    draws and ablations, `few` for random plans and correlations; all are the first of the same cases. `prompts` a
    search, `held_out` captions a task for the discrepancy, `reference` renders a task for the Fréchet distance."""

    per_task: int = 85
    fewer: int = 34
    few: int = 17
    prompts: int = 64
    held_out: int = 20
    reference: int = 340
    seeds: int = 3
    random_plans: int = 20
    random_others: int = 5
    spread: int = 12
    repeats: int = 30


class Drawer:
    """Holds what all cells share: the cases, their dense pictures, the held-out prompts and the reference renders."""

    def __init__(self, pipeline: Pipeline, sizes: Sizes):
        self.pipeline, self.sizes = pipeline, sizes
        self.cases = evaluation_cases(sizes.per_task, CASES_SEED)
        held_out = [case.caption for case in evaluation_cases(sizes.held_out, HELD_OUT_SEED)]
        calibration = calibration_of(pipeline, held_out)
        stack = pipeline.encoder.stack
        self.objectives = {
            "projected": Objective(stack, calibration, pipeline.projection),
            "plain": Objective(stack, calibration, no_projection(("sequence",))),
        }
        texts = [[case.caption, case.seed] for case in self.cases]
        self.identity = digest_json([texts, calibration.identity, sizes.reference])

    @cached_property
    def dense(self) -> torch.Tensor:
        """The dense pictures of all cases."""
        return self._draw(self.cases, Variant())

    @cached_property
    def reference(self) -> Moments:
        """Of renders of other scenes of the same kind."""
        scenes = [case.scene for case in evaluation_cases(self.sizes.reference, REFERENCE_SEED)]
        pictures = render(scenes, random.Random("reference"))
        return moments(features(self.pipeline.autoencoder, pictures))

    def rows(self, per_task: int) -> list[int]:
        """The places of the first `per_task` cases of each task."""
        return [n for n in range(len(self.cases)) if n % self.sizes.per_task < per_task]

    def measure(self, variant: Variant, per_task: int) -> dict:
        """Everything that the tables say of `variant`, in plain values. "right" and "ssim" (thousandths) are by task,
        in the order of TASKS; "frechet" with its standard error only where all cases are drawn."""
        rows = self.rows(per_task)
        cases = [self.cases[n] for n in rows]
        pictures = self.dense[rows] if variant == Variant() else self._draw(cases, variant)
        architecture = self.pipeline.encoder.stack.architecture
        return {
            "variant": variant.to_json(),
            "sparsity": architecture.sparsity(variant.order),
            **self._verdicts(cases, pictures),
            "ssim": _by_task((1000 * ssim(pictures, self.dense[rows])).round().int().tolist()),
            "frechet": self._frechet(pictures) if per_task == self.sizes.per_task else None,
            "discrepancy": self._discrepancy(variant),
        }

    def true_renders(self) -> dict:
        """The judge and the Fréchet distance on true renders of the cases: what a perfect pipeline would get."""
        pictures = render([case.scene for case in self.cases], random.Random("true"))
        return {**self._verdicts(self.cases, pictures), "frechet": self._frechet(pictures)}

    def shuffled(self) -> dict:
        """The dense pictures judged by the next case of the same task: what is right without reading the caption
        beyond its task."""
        size = self.sizes.per_task
        order = [n + 1 if n % size < size - 1 else n + 1 - size for n in range(len(self.cases))]
        return self._verdicts(self.cases, self.dense[order])

    def _verdicts(self, cases: list[Case], pictures: torch.Tensor) -> dict:
        found = right(cases, pictures).tolist()
        return {"right": ["".join("01"[one] for one in part) for part in _by_task(found)]}

    def _frechet(self, pictures: torch.Tensor) -> list[float]:
        found = frechet_with_error(features(self.pipeline.autoencoder, pictures), self.reference)
        return [round(value, 5) for value in found]

    def _draw(self, cases: list[Case], variant: Variant) -> torch.Tensor:
        pipeline, assignment = vary(self.pipeline, variant)
        captions = ["" if variant.empty else case.caption for case in cases]
        seeds = [case.seed + OTHER_NOISE * variant.other_noise for case in cases]
        return pipeline.pictures(captions, seeds, assignment)

    def _discrepancy(self, variant: Variant) -> dict:
        """name of the objective -> its discrepancy on the held-out prompts, every encoding shared."""
        pipeline, assignment = vary(self.pipeline, variant)
        tallies = {name: Tally(objective) for name, objective in self.objectives.items()}
        for batch in self.objectives["projected"].batches:
            outputs = encode(pipeline.encoder.stack, assignment, batch)
            for tally in tallies.values():
                tally.add(batch, outputs)
        return {name: tally.total().to_json() for name, tally in tallies.items()}


def _by_task(values: list) -> list[list]:
    """`values`, case by case, in as many equal parts as there are tasks."""
    size = len(values) // len(TASKS)
    return [values[at : at + size] for at in range(0, len(values), size)]
