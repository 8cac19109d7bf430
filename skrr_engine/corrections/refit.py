"""The anchored re-fit: output matrices of kept sub-blocks, solved anew from input to output.

Dense stream h and pruned, already corrected stream ĥ go through the stack side by side. At a kept sub-block i behind
the first removed one the matrix is changed by

    argmin Σ w |a ΔW - (h_{i+1} - ĥ_i - F_i(ĥ_i))|² + ρ · tr(G) / n · |ΔW|²,   w = 1 / |h_{i+1}|²

over the positions that the denoiser reads, with a what the output matrix sees in the *pruned* stream. The target is
the dense stream itself, so every site also mends what those before it left over. ρ is the one with the smallest error
of this kind on selection prompts. The new matrix is then taken only if it lowers the discrepancy D over them, measured
at the encoder's end: D never rises over the selection prompts, site by site. The parameters stay as many as they were.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

import torch

from ..encoders.stack import TextStack
from ..errors import SkrrError
from ..measure.discrepancy import Discrepancy
from ..measure.execute import Assignment, advance
from ..measure.objective import Objective
from ..precision import SUM, widen
from .corrected import CorrectedStack, listening, output_layer
from .sites import Settings, check_prompts, places_of, shared_sources
from .solve import SingularError, ridge
from .statistics import Sums, combine
from .streams import Stream, discrepancy_from, start

__all__ = ["Refit", "Site", "refit"]


@dataclass(frozen=True)
class Site:
    """What was found at one place. `rho` is the ridge chosen, NaN where none gave a matrix. `error` is the weighted
    square distance from the dense stream behind it, relative to that, `discrepancy` is D: over the selection prompts,
    before and after. `taken` says whether the new matrix is used, `note` why not."""

    place: int
    inputs: int
    positions: int
    rho: float
    error: tuple[float, float]
    discrepancy: tuple[float, float]
    taken: bool
    note: str = ""


@dataclass(frozen=True)
class Refit:
    """New output matrices for the encoder `encoder` (its identity) under `assignment`: `matrices` holds sub-block ->
    (outputs, inputs) on the CPU, as wide as the stream. `sites` says what was measured, place by place; `shared` are
    the kept sub-blocks that were left alone because they run in several places. `before` and `after` are over the
    selection prompts."""

    assignment: Assignment
    encoder: str
    matrices: Mapping[int, torch.Tensor]
    sites: tuple[Site, ...]
    shared: tuple[int, ...]
    before: Discrepancy
    after: Discrepancy

    def applied(self, stack: TextStack) -> CorrectedStack:
        """`stack` with the new matrices in place, to be run under `assignment`; `stack` itself stays as it is. Raises
        SkrrError for another encoder than the one they were fitted on."""
        if stack.identity != self.encoder:
            raise SkrrError(
                f"These corrections were fitted on another encoder than this {stack.architecture.describe()}. Use that "
                "one, or fit anew."
            )
        return CorrectedStack(stack, self.matrices)


def refit(fit: Objective, selection: Objective, assignment: Assignment, settings: Settings | None = None) -> Refit:
    """Re-fits the encoder of `fit` under `assignment` on the prompts of `fit`; those of `selection`, which the fit may
    not see, choose. Takes two passes over the former, and for each site one from there to the end over the latter.
    Raises SkrrError for too few prompts or a stream that is not finite; a site with statistics from which nothing
    follows is left alone and says so."""
    settings = settings or Settings()
    settings.check()
    places = places_of(fit.stack, assignment, settings.sites)
    check_prompts(fit, selection, places)
    fit.prepare()
    selection.prepare()
    job = _Refit(fit, selection, assignment, settings)
    before = job.current
    for place in range(places[-1] + 1 if places else 0):
        if place in places:
            job.site(place)
        job.step(place)
    return Refit(
        tuple(assignment), fit.stack.identity, MappingProxyType(job.matrices), tuple(job.sites),
        shared_sources(assignment), before, job.current,
    )  # fmt: skip


class _Refit:
    """Where a re-fit is: the streams of both sets before one place, and what was found so far."""

    def __init__(self, fit: Objective, selection: Objective, assignment: Assignment, settings: Settings):
        self.fit, self.selection, self.assignment, self.settings = fit, selection, assignment, settings
        self.stack: TextStack = fit.stack
        self.streams = {id(objective): start(objective) for objective in (fit, selection)}
        self.matrices: dict[int, torch.Tensor] = {}
        self.sites: list[Site] = []
        chosen = self.streams[id(selection)]
        self.current = discrepancy_from(selection, self.stack, assignment, chosen, 0)
        self.parted = False

    def step(self, place: int) -> None:
        """Takes both streams of both sets behind `place`."""
        source = self.assignment[place]
        same = not self.parted and source == place
        self.parted = not same
        for objective in (self.fit, self.selection):
            for stream in self.streams[id(objective)]:
                stream.tap(self.stack, place)
                stream.dense, stream.ahead = self._dense_behind(objective, place, stream), None
                stream.pruned = (
                    stream.dense if same else self._behind(objective, self.stack, source, stream, stream.pruned)
                )

    def _dense_behind(self, objective: Objective, place: int, stream: Stream) -> torch.Tensor:
        """The dense stream behind `place`; a site has asked for it already."""
        if stream.ahead is None:
            stream.ahead = self._behind(objective, self.fit.stack, place, stream, stream.dense)
        return stream.ahead

    def _behind(self, objective: Objective, stack: TextStack, source: int | None, stream: Stream, rows) -> torch.Tensor:
        return advance(stack, source, stream.near(rows), stream.context, objective.report).cpu()

    def site(self, place: int) -> None:
        """Fits the matrix of sub-block `place` and takes it if it makes the encoder better."""
        layer = output_layer(self.stack.subblocks[place])
        old = widen(layer.weight.detach()).cpu()
        sums, judge = (self._sums(objective, place, tuple(old.shape)) for objective in (self.fit, self.selection))
        rho, change, error, note = self._choose(sums, judge)
        value = after = self.current.value
        taken = False
        if change is not None:
            dtype = torch.promote_types(old.dtype, self.streams[id(self.fit)][0].dense.dtype)
            matrix = (old.to(SUM) + change.T.cpu()).to(dtype)
            corrected = CorrectedStack(self.fit.stack, {**self.matrices, place: matrix})
            streams = self.streams[id(self.selection)]
            found = discrepancy_from(self.selection, corrected, self.assignment, streams, place)
            after, taken = found.value, found.value < value
            if taken:
                self.matrices[place], self.stack, self.current = matrix, corrected, found
            else:
                note = "left alone: the discrepancy over the selection prompts would not fall"
        errors = (judge.error(), error)
        self.sites.append(Site(place, old.shape[1], sums.positions, rho, errors, (value, after), taken, note))

    def _sums(self, objective: Objective, place: int, shape: tuple[int, int]) -> Sums:
        """Of the fit's or the selection's positions at `place`."""
        outputs, inputs = shape
        streams = self.streams[id(objective)]
        prompts, null = (Sums.empty(inputs, outputs, streams[0].device) for _ in range(2))
        layer = output_layer(self.fit.stack.subblocks[place])
        for stream in streams:
            pruned, heard = stream.near(stream.pruned), []
            dense = stream.near(self._dense_behind(objective, place, stream))
            with listening(layer, heard):
                behind = advance(self.stack, place, pruned, stream.context, objective.report)
            read = stream.near(stream.read)
            into = null if stream.portion.null else prompts
            into.add(heard[0].reshape(*read.shape, -1)[read], (dense - behind)[read], dense[read])
        return combine(prompts, null, self.settings.null_share)

    def _choose(self, sums: Sums, judge: Sums) -> tuple[float, torch.Tensor | None, float, str]:
        """The ridge with the smallest error on the selection prompts: (ridge, change, that error, note)."""
        best, note = (math.nan, None, judge.error()), "left alone: no ridge lowers the error on the selection prompts"
        for rho in self.settings.ridges:
            try:
                change = ridge(sums, rho)
            except SingularError as singular:
                note = f"left alone: {singular}"
                continue
            error = judge.error(change)
            if error < best[2]:
                best = (rho, change, error)
        return (*best, "" if best[1] is not None else note)
