"""One cell: a plan of the small pipeline, plain or corrected, on captions that nothing was chosen by."""

import copy
import time
from dataclasses import asdict, dataclass, replace
from functools import cached_property

import torch

from benchmarks.tables.plans import calibration_of
from skrr_engine.baselines.rebuilt import measure_rebuilt
from skrr_engine.corrections.fit import fit_corrections
from skrr_engine.corrections.sites import KINDS
from skrr_engine.demo.pipeline import Pipeline
from skrr_engine.demo.world.scoring import calibration_captions, evaluation_cases, right, score
from skrr_engine.digest import digest_json
from skrr_engine.measure.execute import Assignment, assign
from skrr_engine.measure.objective import Objective
from skrr_engine.search.reuse import find_reuse

__all__ = ["Bench", "Sizes"]

# The evaluation cases whose captions judge D, and those that are drawn, are two draws.
DRAWN_SEED, HELD_OUT_SEED = 0, 1
# What the small pipeline's files store: fp16.
STORED = torch.float16


@dataclass(frozen=True)
class Sizes:
    """`search` captions find the plans, `fit` are fitted on, `selection` choose ridges and whether anything is taken,
    `held_out` cases a task judge D. `pictures` are drawn for each pictured cell, rounded up to whole tasks."""

    search: int = 64
    fit: int = 3000
    selection: int = 128
    held_out: int = 40
    pictures: int = 510


class Bench:
    """The pipeline and three disjoint sets of captions of draw `draw`: fit, selection and report, none of them the
    search's."""

    def __init__(self, pipeline: Pipeline, sizes: Sizes, draw: int = 0):
        self.pipeline, self.sizes = pipeline, sizes
        self.searched = calibration_captions(sizes.search, draw)
        searched = set(self.searched)
        wanted = sizes.fit + sizes.selection
        drawn = calibration_captions(wanted + sizes.search, f"corrections {draw}")
        fresh = [text for text in drawn if text not in searched]
        # The selection first: a larger fit then keeps it.
        self.selection, self.fit = fresh[: sizes.selection], fresh[sizes.selection : wanted]
        self.report = [case.caption for case in evaluation_cases(sizes.held_out, HELD_OUT_SEED)]
        self.cases = evaluation_cases(-(-sizes.pictures // 6), DRAWN_SEED)
        self.identity = digest_json([self.selection, self.fit, self.report])
        self.pictured = digest_json([[case.caption, case.seed] for case in self.cases])

    @cached_property
    def held_out(self) -> Objective:
        """The discrepancy over the captions of the report."""
        return self._objective(self.report)

    def fit_and_selection(self) -> tuple[Objective, Objective]:
        """What corrections are fitted on, and what chooses among them."""
        return self._objective(self.fit), self._objective(self.selection)

    def _objective(self, captions: list[str]) -> Objective:
        return Objective(self.pipeline.encoder.stack, calibration_of(self.pipeline, captions), self.pipeline.projection)

    def dense(self) -> dict:
        """What the dense pipeline's pictures score."""
        return {"D": 0.0, "null norm": 1.0, **self.drawn(self.pipeline, None)}

    def measure(self, order: list[int], way: str, pictures: bool = False) -> dict:
        """D on the report's captions, seconds of the fit, bytes and, if asked, the score of the plan that skips
        `order`: "plain", with "re-use" as the search's captions ask for it, or corrected in a way of `KINDS`."""
        stack = self.pipeline.encoder.stack
        pairs = find_reuse(self._objective(self.searched), order)[0] if way == "re-use" else {}
        assignment = assign(len(stack.subblocks), order, pairs)
        pipeline, about = copy.copy(self.pipeline), {}
        if way in KINDS:
            stack, assignment, about = self._corrected(assignment, way)
            pipeline.encoder = replace(self.pipeline.encoder, stack=stack)
        value = measure_rebuilt(self.held_out, stack, assignment)
        found = {"D": value.value, "null norm": value.null_norm, **about}
        if pairs:
            found["pairs"] = sorted(pairs.items())
        return {**found, **self.drawn(pipeline, assignment)} if pictures else found

    def _corrected(self, assignment: Assignment, way: str):
        began = time.perf_counter()
        fit, selection = self.fit_and_selection()
        found = fit_corrections(fit, selection, assignment, replace(KINDS[way], stored=STORED))
        seconds = time.perf_counter() - began
        one = found.corrections.applied(self.pipeline.encoder.stack)
        about = {
            "seconds": round(seconds, 2),
            "extra bytes": found.corrections.extra_bytes,
            "side file bytes": sum(part.nbytes for part in found.corrections.tensors.values()),
            "positions": max((site.positions for site in found.sites), default=0),
            "selection": [found.before.value, found.after.value],
            "sites": [_plain(asdict(site)) for site in found.sites],
            "notes": list(found.notes),
        }
        return one.stack, one.assignment, about

    def drawn(self, pipeline: Pipeline, assignment: Assignment | None) -> dict:
        """Pictures of all cases, judged."""
        captions, seeds = [case.caption for case in self.cases], [case.seed for case in self.cases]
        verdicts = right(self.cases, pipeline.pictures(captions, seeds, assignment))
        found = score(self.cases, verdicts)
        return {
            "score": found.overall, "tasks": found.tasks,
            "right": "".join("01"[int(one)] for one in verdicts.to(torch.int).tolist()),
        }  # fmt: skip


def _plain(site: dict) -> dict:
    """JSON has no NaN: a ridge that was not chosen is null."""
    return {**site, "rho": site["rho"] if site["rho"] == site["rho"] else None}
