"""Corrections as they are kept: everything that one encoder under one plan needs beside its own weights."""

import hashlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

import torch

from ..digest import digest_json
from ..encoders.stack import TextStack
from ..errors import SkrrError
from ..measure.execute import Assignment, assign, source_of
from ..plans.architecture import Architecture
from ..plans.plan import Cut, make_cut
from .added import Bias, Bridge
from .corrected import CorrectedStack

__all__ = ["Corrected", "Corrections", "cut_of", "digest_of", "weights_digest"]

# Elements of each tensor that are looked at, evenly spread: training and LoRAs change all of them.
SAMPLES = 256


@dataclass(frozen=True)
class Corrected:
    """An encoder as it runs with its corrections: `stack` under `assignment`."""

    stack: TextStack
    assignment: Assignment


@dataclass(frozen=True, eq=False)
class Corrections:
    """What corrects an encoder of `architecture` with the weights `weights` (see `weights_digest`) under `cut`.
    `matrices` holds kept sub-block -> (outputs, inputs), in place of its own output matrix; `added` holds skipped or
    re-used place -> what is added there."""

    architecture: Architecture
    weights: str
    cut: Cut
    matrices: Mapping[int, torch.Tensor] = field(default_factory=dict)
    added: Mapping[int, Bias | Bridge] = field(default_factory=dict)

    @property
    def tensors(self) -> dict[tuple[int, str], torch.Tensor]:
        """(place, name) -> tensor, place by place: what a side file holds."""
        found = {(place, "matrix"): matrix for place, matrix in self.matrices.items()}
        found |= {(place, name): part for place, one in self.added.items() for name, part in one.tensors.items()}
        return dict(sorted(found.items()))

    @property
    def extra_bytes(self) -> int:
        """What comes on top of the pruned encoder; exchanged matrices take the place of others."""
        return sum(part.nbytes for one in self.added.values() for part in one.tensors.values())

    def check(self, architecture: Architecture, tensors: Callable[[int], Iterable[torch.Tensor]]) -> None:
        """Raises SkrrError unless the encoder of that architecture, whose sub-blocks are made of `tensors` (see
        `digest_of`), has the weights that these were fitted on."""
        differences = self.architecture.differences(architecture)
        if differences:
            raise SkrrError(
                f"These corrections are for a {self.architecture.describe()}, the encoder is another "
                f"({'; '.join(differences)}). Use the encoder that they were fitted on."
            )
        assignment = assign(architecture.sub_blocks, self.cut.skip, self.cut.reuse_map)
        if digest_of(assignment, tensors) != self.weights:
            raise SkrrError(
                f"These corrections were fitted on other weights than this {architecture.describe()} has. Use "
                "the file that they were fitted on, in the same precision, or fit anew."
            )

    def applied(self, stack: TextStack) -> Corrected:
        """`stack` with the corrections in place; `stack` itself stays as it is. Raises SkrrError for other weights than
        those they were fitted on: nothing is half applied."""
        self.check(stack.architecture, stack.tensors)
        added = {place: one.correction() for place, one in self.added.items()}
        assignment = assign(len(stack.subblocks), self.cut.skip, self.cut.reuse_map, added)
        return Corrected(CorrectedStack(stack, self.matrices) if self.matrices else stack, assignment)


def cut_of(assignment: Assignment) -> Cut:
    """Skip (ascending) and re-use of an assignment."""
    sources = [source_of(entry) for entry in assignment]
    removed = [place for place, source in enumerate(sources) if source != place]
    return make_cut(removed, {place: sources[place] for place in removed if sources[place] is not None})


def weights_digest(stack: TextStack, assignment: Assignment) -> str:
    """`digest_of` the weights of `stack` that run under `assignment`."""
    return digest_of(assignment, stack.tensors)


def digest_of(assignment: Assignment, tensors: Callable[[int], Iterable[torch.Tensor]]) -> str:
    """SHA-256 of the weights that run under `assignment`, `tensors` of a sub-block being what it is made of: of each
    tensor its shape and up to SAMPLES of its values, as float32. Equal for equal numbers, whatever their names and
    however wide they are stored here: the same file opened as float16 and as float32 agree, a file in another precision
    does not."""
    kept = sorted({source_of(entry) for entry in assignment} - {None})
    return digest_json([[index, sorted(map(_digest, tensors(index)))] for index in kept])


def _digest(tensor: torch.Tensor) -> str:
    raw = tensor.detach().as_subclass(torch.Tensor).reshape(-1)
    values = raw[:: max(1, raw.numel() // SAMPLES) | 1]
    if not values.dtype.is_floating_point:  # packed blocks have no numbers of their own
        raw = values.cpu().contiguous().view(torch.uint8)
    else:
        raw = values.cpu().to(torch.float32).contiguous().view(torch.uint8)
    return hashlib.sha256(f"{tuple(tensor.shape)} ".encode() + raw.numpy().tobytes()).hexdigest()
