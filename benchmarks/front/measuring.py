"""One cell: the small pipeline's encoder, pruned and corrected in float32, then stored in a format."""

import copy
import math
from dataclasses import replace
from pathlib import Path

import torch
from safetensors.torch import load_file, save

from benchmarks.corrections.command import FITTED
from benchmarks.corrections.measuring import Bench
from benchmarks.front.cases import Case
from benchmarks.front.formats import FORMATS
from skrr_engine.baselines.rebuilt import measure_rebuilt, rebuild, state_of
from skrr_engine.corrections.added import Bridge
from skrr_engine.corrections.fit import fit_corrections
from skrr_engine.corrections.found import Corrections, cut_of, weights_digest
from skrr_engine.corrections.sites import KINDS
from skrr_engine.digest import digest_json
from skrr_engine.disk import write_atomically
from skrr_engine.measure.discrepancy import squared_terms
from skrr_engine.measure.execute import assign

__all__ = ["Storage", "power_of"]

# T5's one position table and the norms stay as the file has them, as in every format's own files.
AS_THE_FILE = "relative_attention_bias"
FILE_BYTES = 2


class Storage:
    """The encoder of `bench` in any format, under any plan. All formats share a fit; with a `folder` fits are kept
    there, so that the next call goes on with them."""

    def __init__(self, bench: Bench, folder: Path | None = None):
        self.bench, self.stack, self.folder = bench, bench.pipeline.encoder.stack, folder
        self.names = {id(part): name for name, part in self.stack.model.named_parameters()}
        self.fits: dict[tuple, Corrections] = {}
        self.power = power_of(bench.held_out)

    def measure(self, case: Case, order: list[int], drawn: dict | None = None) -> dict:
        """Bytes, D on the report's captions and, where the case asks for pictures, their score, of the plan that skips
        `order`. "moved" is the root of D over the dense features' power, "turned" that of twice the mean of 1 - cos.
        `drawn` is what the same pictures scored elsewhere."""
        found = self._fitted(order, case.way) if order and case.way != "plain" else None
        stack, size = self._stored(case.stored, order, {} if found is None else found.matrices)
        added = {} if found is None else {place: one.correction() for place, one in found.added.items()}
        assignment = assign(len(self.stack.subblocks), order, {}, added)
        value = measure_rebuilt(self.bench.held_out, stack, assignment)
        about = {
            "bytes": size + (0 if found is None else found.extra_bytes),
            "D": value.value,
            "moved": math.sqrt(value.value / self.power),
            "turned": math.sqrt(2 * value.cosine),
            "null norm": value.null_norm,
        }
        if case.pictures and drawn is None:
            pipeline = copy.copy(self.bench.pipeline)
            pipeline.encoder = replace(self.bench.pipeline.encoder, stack=stack)
            drawn = self.bench.drawn(pipeline, assignment)
        return about | (drawn or {})

    def taken(self, case: Case, order: list[int], known: dict) -> dict:
        """What was measured elsewhere of a corrected plan whose fit is not made here: bytes are all that is left to
        find, and how far the features turned stays unknown."""
        size = self._stored(case.stored, order, {})[1] + known["extra bytes"]
        parts = {name: value for name, value in known.items() if name != "extra bytes"}
        return {"bytes": size, "moved": math.sqrt(known["D"] / self.power), **parts}

    def _fitted(self, order: list[int], way: str) -> Corrections:
        key = (tuple(order), way)
        if key not in self.fits:
            self.fits[key] = self._kept(order, way) or self._fit(order, way)
        return self.fits[key]

    def _fit(self, order: list[int], way: str) -> Corrections:
        fit, selection = self.bench.fit_and_selection()
        found = fit_corrections(fit, selection, assign(len(self.stack.subblocks), order), KINDS[way]).corrections
        if self.folder is not None:
            self.folder.mkdir(parents=True, exist_ok=True)
            tensors = {f"{place}/{name}": part.contiguous() for (place, name), part in found.tensors.items()}
            write_atomically(self._file(order, way), save(tensors))
        return found

    def _kept(self, order: list[int], way: str) -> Corrections | None:
        """The fit that an earlier call has made."""
        if self.folder is None or not self._file(order, way).is_file():
            return None
        parts: dict[int, dict[str, torch.Tensor]] = {}
        for name, part in load_file(self._file(order, way)).items():
            place, _, name = name.partition("/")
            parts.setdefault(int(place), {})[name] = part
        assignment = assign(len(self.stack.subblocks), order)
        matrices = {place: one["matrix"] for place, one in parts.items() if "matrix" in one}
        added = {place: Bridge(**one) for place, one in parts.items() if "matrix" not in one}
        weights = weights_digest(self.stack, assignment)
        return Corrections(self.stack.architecture, weights, cut_of(assignment), matrices, added)

    def _file(self, order: list[int], way: str) -> Path:
        digest = digest_json([self.stack.identity, self.bench.identity, list(order), way, FITTED])
        return self.folder / f"{digest[:32]}.safetensors"

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
