"""One cell: a plan of the small pipeline, plain or re-fitted, on captions that nothing was chosen by."""

import copy
import time
from dataclasses import asdict, dataclass, replace
from functools import cached_property

import torch

from benchmarks.tables.plans import calibration_of
from skrr_engine.baselines.rebuilt import measure_rebuilt
from skrr_engine.corrections.refit import refit
from skrr_engine.corrections.sites import Settings
from skrr_engine.demo.pipeline import Pipeline
from skrr_engine.demo.world.scoring import calibration_captions, evaluation_cases, right, score
from skrr_engine.digest import digest_json
from skrr_engine.measure.execute import assign
from skrr_engine.measure.objective import Objective

__all__ = ["Bench", "Sizes"]

# The evaluation cases whose captions judge D, and those that are drawn, are two draws.
DRAWN_SEED, HELD_OUT_SEED = 0, 1
FIT_SEED = "corrections"


@dataclass(frozen=True)
class Sizes:
    """`search` captions find the plans, `fit` are fitted on, `selection` choose the ridge and the sites, `held_out`
    cases a task judge D. `pictures` are drawn for each cell, rounded up to whole tasks; 0: none."""

    search: int = 64
    fit: int = 3000
    selection: int = 128
    held_out: int = 40
    pictures: int = 0


class Bench:
    """The pipeline and three disjoint sets of captions: fit, selection and report, none of them the search's."""

    def __init__(self, pipeline: Pipeline, sizes: Sizes):
        self.pipeline, self.sizes = pipeline, sizes
        searched = set(calibration_captions(sizes.search, 0))
        wanted = sizes.fit + sizes.selection
        fresh = [text for text in calibration_captions(wanted + sizes.search, FIT_SEED) if text not in searched]
        # The selection first: a larger fit then keeps it.
        self.selection, self.fit = fresh[: sizes.selection], fresh[sizes.selection : wanted]
        self.report = [case.caption for case in evaluation_cases(sizes.held_out, HELD_OUT_SEED)]
        self.cases = evaluation_cases(-(-sizes.pictures // 6), DRAWN_SEED)
        self.identity = digest_json([self.selection, self.fit, self.report, [[c.caption, c.seed] for c in self.cases]])

    @cached_property
    def held_out(self) -> Objective:
        """The discrepancy over the captions of the report."""
        return self._objective(self.report)

    def _objective(self, captions: list[str]) -> Objective:
        return Objective(self.pipeline.encoder.stack, calibration_of(self.pipeline, captions), self.pipeline.projection)

    def dense(self) -> dict:
        """What the dense pipeline's pictures score."""
        return {"D": 0.0, "null norm": 1.0, "seconds": 0.0, **self._score(self.pipeline, None)}

    def measure(self, order: list[int], sites: str, reuse: dict[int, int] | None = None) -> dict:
        """D on the report's captions, seconds of the re-fit and the score of the plan that skips `order`, "plain" or
        re-fitted at `sites`."""
        stack = self.pipeline.encoder.stack
        assignment = assign(len(stack.subblocks), order, reuse)
        pipeline, about, seconds = copy.copy(self.pipeline), {}, 0.0
        if sites != "plain":
            began = time.perf_counter()
            found = refit(self._objective(self.fit), self._objective(self.selection), assignment, Settings(sites))
            seconds = time.perf_counter() - began
            stack = found.applied(stack)
            pipeline.encoder = replace(self.pipeline.encoder, stack=stack)
            about = {
                "selection": [found.before.value, found.after.value],
                "shared": list(found.shared),
                "sites": [_plain(asdict(site)) for site in found.sites],
            }
        value = measure_rebuilt(self.held_out, stack, assignment)
        measured = {"D": value.value, "null norm": value.null_norm, "seconds": round(seconds, 2), **about}
        return {**measured, **self._score(pipeline, assignment)}

    def _score(self, pipeline: Pipeline, assignment) -> dict:
        """Pictures of all cases, judged."""
        if not self.cases:
            return {}
        captions, seeds = [case.caption for case in self.cases], [case.seed for case in self.cases]
        verdicts = right(self.cases, pipeline.pictures(captions, seeds, assignment))
        found = score(self.cases, verdicts)
        return {
            "score": found.overall, "low": found.low, "high": found.high, "tasks": found.tasks,
            "right": "".join("01"[int(one)] for one in verdicts.to(torch.int).tolist()),
        }  # fmt: skip


def _plain(site: dict) -> dict:
    """JSON has no NaN: a ridge that was not chosen is null."""
    return {**site, "rho": site["rho"] if site["rho"] == site["rho"] else None}
