"""One cell: the small pipeline's encoder, pruned and corrected in float32, then stored in a format."""

import copy
import math
from dataclasses import replace

import torch

from benchmarks.corrections.measuring import Bench
from benchmarks.front.cases import Case
from benchmarks.front.formats import FORMATS
from skrr_engine.baselines.rebuilt import measure_rebuilt, rebuild, state_of
from skrr_engine.corrections.fit import fit_corrections
from skrr_engine.corrections.found import Corrections
from skrr_engine.corrections.sites import KINDS
from skrr_engine.measure.discrepancy import squared_terms
from skrr_engine.measure.execute import assign

__all__ = ["Storage", "power_of"]

# T5's one position table and the norms stay as the file has them, as in every format's own files.
AS_THE_FILE = "relative_attention_bias"
FILE_BYTES = 2


class Storage:
    """The encoder of `bench` in any format, under any plan. Fits are kept: all formats share them."""

    def __init__(self, bench: Bench):
        self.bench, self.stack = bench, bench.pipeline.encoder.stack
        self.names = {id(part): name for name, part in self.stack.model.named_parameters()}
        self.fits: dict[tuple, Corrections] = {}
        self.power = power_of(bench.held_out)

    def measure(self, case: Case, order: list[int], known: dict | None = None) -> dict:
        """Bytes, D on the report's captions and, where the case asks for pictures, their score, of the plan that skips
        `order`. "moved" is the root of D over the dense features' power. `known` is what was measured elsewhere of the
        same: nothing but bytes is left to find then."""
        if known is not None:
            size = self._stored(case.stored, order, {})[1] + known["extra bytes"]
            return {"bytes": size, "moved": self._moved(known["D"]), **known}
        found = self._fitted(order, case.way) if order and case.way != "plain" else None
        stack, size = self._stored(case.stored, order, {} if found is None else found.matrices)
        added = {} if found is None else {place: one.correction() for place, one in found.added.items()}
        assignment = assign(len(self.stack.subblocks), order, {}, added)
        value = measure_rebuilt(self.bench.held_out, stack, assignment)
        about = {
            "bytes": size + (0 if found is None else found.extra_bytes),
            "extra bytes": 0 if found is None else found.extra_bytes,
            "D": value.value,
            "moved": self._moved(value.value),
            "null norm": value.null_norm,
        }
        if case.pictures:
            pipeline = copy.copy(self.bench.pipeline)
            pipeline.encoder = replace(self.bench.pipeline.encoder, stack=stack)
            about |= self.bench.drawn(pipeline, assignment)
        return about

    def _moved(self, discrepancy: float) -> float:
        return math.sqrt(discrepancy / self.power)

    def _fitted(self, order: list[int], way: str) -> Corrections:
        key = (tuple(order), way)
        if key not in self.fits:
            fit, selection = self.bench.fit_and_selection()
            assignment = assign(len(self.stack.subblocks), order)
            self.fits[key] = fit_corrections(fit, selection, assignment, KINDS[way]).corrections
        return self.fits[key]

    def _stored(self, name: str, order: list[int], matrices) -> tuple:
        """The encoder with every matrix that is kept as the format gives it back, and its bytes."""
        gone = {self.names[id(part)] for i in order for module in self.stack.subblocks[i].modules
                for part in module.parameters()}  # fmt: skip
        refitted = {self.names[id(self.stack.subblocks[i].output.weight)]: one for i, one in matrices.items()}
        state, size = dict(state_of(self.stack)), 0
        twins = {part.data_ptr(): [] for part in state.values()}
        for key, part in state.items():
            twins[part.data_ptr()].append(key)
        for key in self.names.values():
            part = refitted.get(key, state[key])
            if AS_THE_FILE in key or part.dim() != 2:
                size += 0 if key in gone and AS_THE_FILE not in key else FILE_BYTES * part.numel()
            elif key not in gone:
                found = FORMATS[name](part.detach().float())
                size += found.bytes
                state |= dict.fromkeys(twins[state[key].data_ptr()], found.values)
        return rebuild(self.stack, state), size


@torch.no_grad()
def power_of(objective) -> float:
    """What D would be with zeros in the features' place: mean square of the prompts' plus that of the null prompt's."""
    null, prompts = 0.0, 0.0
    for portion in objective.portions:
        dense, weights = objective.dense(portion)
        zeros = {name: torch.zeros_like(value) for name, value in dense.items()}
        value = squared_terms(dense, zeros, weights).sum().item()
        null, prompts = (null + value, prompts) if portion.null else (null, prompts + value)
    return objective.null_weight * null + prompts / len(objective.calibration.prompts)
