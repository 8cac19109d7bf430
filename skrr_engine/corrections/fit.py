"""The anchored fit: corrections of a pruned encoder, solved in closed form from input to output.

Dense stream h and pruned, already corrected stream ĥ go through the stack side by side. At a place i behind the first
removed one, what is fitted there (see `sites`) is changed by

    argmin Σ w |a X - (h_{i+1} - ĥ_i - F_i(ĥ_i))|² + ρ · tr(G) / n · |X|²,   w = 1 / |h_{i+1}|²

over the positions that the denoiser reads. At a kept sub-block a is what its output matrix sees in the *pruned* stream,
and X comes on top of that matrix; at a removed place, where F is missing or another sub-block, a is the normalised
pruned stream and the constant 1 (a bridge: X of low rank) or the constant alone (a bias). Where a norm stands behind
the output matrix, the fit goes through it. The target is the dense
stream itself, so every place also mends what those before it left over. ρ is the one with the smallest error of this
kind on selection prompts; a place where none lowers that error is left alone. At the end the discrepancy D over the
selection prompts decides on the whole: corrections that do not lower it are not taken at all.
"""

import math
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch

from ..digest import digest_json
from ..events import Notice, Phase, Step
from ..measure.discrepancy import Discrepancy
from ..measure.execute import Assignment, Call, advance, as_json, source_of
from ..measure.objective import Objective
from ..precision import SUM
from .added import Bias, Bridge, bridge_inputs, normalised
from .corrected import CorrectedStack, listening
from .estimate import check_budget, estimate_fit
from .found import Corrections, cut_of, weights_digest
from .journal import Journal
from .sites import Settings, check_prompts, places_of, shared_sources
from .solve import SingularError, low_rank, ridge
from .statistics import Positions, Sums, error, token_weights
from .streams import Stream, discrepancy_from, start
from .variety import varied_objective

__all__ = ["Fitted", "Site", "fit_corrections"]

# Bridges and biases are small, and half precision holds them to a few parts in ten thousand.
ADDED = torch.float16
# Raised when a fit with the same arguments finds something else than before.
MEANING = 1


@dataclass(frozen=True)
class Site:
    """What was found at one place, where `kind` is "matrix", "bias" or "bridge". `rho` is the ridge chosen, NaN where
    none gave anything. `error` is the weighted square distance from the dense stream behind the place, relative to
    that, over the selection prompts, before and after. `taken` says whether it is used, `note` why not."""

    place: int
    kind: str
    inputs: int
    positions: int
    rho: float
    error: tuple[float, float]
    taken: bool
    note: str = ""


@dataclass(frozen=True)
class Fitted:
    """What a fit found. `sites` says what was measured, place by place; `shared` are the kept sub-blocks that were left
    alone because they run in several places. `before` and `after` are over the selection prompts; `notes` are sentences
    for people."""

    corrections: Corrections
    sites: tuple[Site, ...]
    shared: tuple[int, ...]
    before: Discrepancy
    after: Discrepancy
    notes: tuple[str, ...]


def fit_corrections(
    fit: Objective,
    selection: Objective,
    assignment: Assignment,
    settings: Settings | None = None,
    budget: int | None = None,
    folder: str | Path | None = None,
) -> Fitted:
    """Corrections of the encoder of `fit` under `assignment`, which has none yet, from the prompts of `fit`; those of
    `selection`, which the fit may not see, choose. Takes two streams over the former through the encoder, and one
    place's sums at a time. Reports to `fit.report`: a Phase "fit", a Step a place, Notices, and a Tick before every
    call, where the listener may raise. In `folder` every place that is done is kept until the end, so that a fit that
    was stopped goes on where it was when it is called again. Raises SkrrError for too few prompts, more memory than
    `budget` (bytes beside the encoder, see `estimate`), or a stream that is not finite."""
    settings = settings or Settings()
    settings.check()
    places = places_of(fit.stack, assignment, settings)
    check_prompts(fit, selection)
    if budget is not None:
        check_budget(estimate_fit(fit, selection, assignment, settings), budget)
    fit.report(Phase("fit", len(assignment)))
    fit.prepare()
    selection.prepare()
    chosen = {**asdict(settings), "stored": str(settings.stored)}
    content = [MEANING, fit.identity, selection.identity, as_json(assignment), chosen]
    journal = Journal(folder, digest_json(content))
    job = _Fit(varied_objective(fit, settings.noise), selection, assignment, settings, journal)
    for place in range(len(assignment)):
        if place in places:
            job.site(place, places[place])
        if place <= max(places, default=-1):
            job.step(place)
        fit.report(Step(1))
    found = job.ended(max(places, default=-1) + 1)
    journal.clear(len(assignment))
    return found


class _Fit:
    """Where a fit is: the streams of all sets in front of one place, and what was found so far."""

    def __init__(
        self, fit: Objective, selection: Objective, assignment: Assignment, settings: Settings, journal: Journal
    ):
        self.fit, self.selection, self.settings, self.journal = fit, selection, settings, journal
        self.plain, self.assignment, self.stack = tuple(assignment), list(assignment), fit.stack
        # What the errors are judged by; the selection as it is has the last word.
        self.judge = varied_objective(selection, settings.noise)
        self.objectives = list({id(one): one for one in (fit, selection, self.judge)}.values())
        self.streams = {id(objective): start(objective) for objective in self.objectives}
        self.matrices: dict[int, torch.Tensor] = {}
        self.added: dict[int, Bias | Bridge] = {}
        self.sites: list[Site] = []
        self.parted = False
        self.before = discrepancy_from(selection, self.stack, self.plain, self.streams[id(selection)], 0)

    def ended(self, place: int) -> Fitted:
        """What was found, once all streams are in front of `place` and nothing behind it is fitted: all or nothing."""
        after = discrepancy_from(self.selection, self.stack, self.assignment, self.streams[id(self.selection)], place)
        notes = self._notes()
        if (self.matrices or self.added) and not after.value < self.before.value:
            notes.append(
                f"The corrections would raise the discrepancy over the selection prompts from {self.before.value:.3g} "
                f"to {after.value:.3g}; none is taken. Fit on more prompts."
            )
            self.matrices, self.added, after = {}, {}, self.before
            left = "left alone: all together would raise the discrepancy"
            self.sites = [replace(one, taken=False, note=one.note or left) for one in self.sites]
        for note in notes:
            self.fit.report(Notice(note))
        cut, weights = cut_of(self.plain), weights_digest(self.fit.stack, self.plain)
        found = Corrections(self.fit.stack.architecture, weights, cut, self.matrices, self.added)
        shared = shared_sources(self.plain)
        return Fitted(found, tuple(self.sites), shared, self.before, after, tuple(notes))

    def _notes(self) -> list[str]:
        few = [site for site in self.sites if site.positions < site.inputs]
        if not few:
            return []
        site = max(few, key=lambda one: one.inputs)
        prompts = len(self.fit.calibration.prompts)
        return [
            f"{prompts} prompts with {site.positions} positions are few for matrices of {site.inputs} inputs, so the "
            f"ridge had to be strong. About {-(-site.inputs * prompts // max(1, site.positions))} prompts like these, "
            "better several times as many, would make the corrections better."
        ]

    def step(self, place: int) -> None:
        """Takes both streams of all sets behind `place`."""
        entry = self.assignment[place]
        same = not self.parted and entry == place
        self.parted = not same
        for objective in self.objectives:
            for stream in self.streams[id(objective)]:
                stream.tap(self.stack, place)
                stream.dense, stream.ahead = self._dense_behind(objective, place, stream), None
                if same:
                    stream.pruned = stream.dense
                elif entry is not None:
                    hidden = stream.near(stream.pruned)
                    stream.pruned = advance(self.stack, entry, hidden, stream.context, objective.report).cpu()

    def _dense_behind(self, objective: Objective, place: int, stream: Stream) -> torch.Tensor:
        """The dense stream behind `place`; a site has asked for it already."""
        if stream.ahead is None:
            hidden = stream.near(stream.dense)
            stream.ahead = advance(self.fit.stack, place, hidden, stream.context, objective.report).cpu()
        return stream.ahead

    def site(self, place: int, kind: str) -> None:
        """Fits what is fitted at `place`, and takes it if it helps on the selection prompts."""
        kept = self.journal.find(place)
        if kept is None:
            site, tensors = self._fitted(place, kind)
            self.journal.put(place, asdict(site), tensors)
        else:
            about, tensors = kept
            site = Site(**{**about, "error": tuple(about["error"])})
        self.sites.append(site)
        if "matrix" in tensors:
            self.matrices[place] = tensors["matrix"]
            self.stack = CorrectedStack(self.fit.stack, self.matrices)
        elif tensors:
            self.added[place] = Bias(**tensors) if kind == "bias" else Bridge(**tensors)
            self.assignment[place] = Call(source_of(self.assignment[place]), self.added[place].correction())

    def _fitted(self, place: int, kind: str) -> tuple[Site, dict[str, torch.Tensor]]:
        """The site, and what is taken there by its names, nothing where that does not help."""
        width = self.stack.architecture.width
        old = self.stack.output_matrix(place) if kind == "matrix" else None
        inputs = old.shape[1] if kind == "matrix" else 1 if kind == "bias" else width + 1
        sums = Sums.empty(inputs, width, self.streams[id(self.fit)][0].device)
        self.scales = {id(objective): self._scales(objective, place) for objective in (self.fit, self.judge)}
        for some in self._positions(self.fit, place, kind):
            sums.add(some)
        before = error(self._positions(self.judge, place, kind))
        rho, found, after, note = math.nan, None, before, "left alone: no ridge lowers the error on the selection"
        for tried in self.settings.ridges:
            try:
                factors = self._solve(sums, tried, kind)
            except SingularError as singular:
                note = f"left alone: {singular}"
                continue
            change = factors[0] if len(factors) == 1 else factors[0] @ factors[1]
            value = error(self._positions(self.judge, place, kind), change)
            if value < after:
                rho, found, after, note = tried, factors, value, ""
        tensors = {} if found is None else self._tensors(kind, old, [part.cpu() for part in found])
        return Site(place, kind, inputs, sums.positions, rho, (before, after), found is not None, note), tensors

    def _solve(self, sums: Sums, rho: float, kind: str) -> tuple[torch.Tensor, ...]:
        return low_rank(sums, rho, self.settings.rank) if kind == "bridge" else (ridge(sums, rho),)

    def _tensors(self, kind: str, old: torch.Tensor | None, found: list[torch.Tensor]) -> dict[str, torch.Tensor]:
        """What was solved, as it is kept."""
        if kind == "matrix":
            matrix = old.cpu().to(SUM) + found[0].T
            return {"matrix": fitting(matrix, self.settings.stored or self._stream_dtype(old))}
        parts = [fitting(part.T.contiguous(), ADDED) for part in found]
        return {"vector": parts[0][:, 0].contiguous()} if kind == "bias" else {"down": parts[0], "up": parts[1]}

    def _stream_dtype(self, old: torch.Tensor) -> torch.dtype:
        return torch.promote_types(old.dtype, self.streams[id(self.fit)][0].dense.dtype)

    def _positions(self, objective: Objective, place: int, kind: str) -> Iterator[Positions]:
        """The positions that the denoiser reads, portion by portion, the null prompt's with its share of the weight."""
        streams = self.streams[id(objective)]
        for stream, scale in zip(streams, self.scales[id(objective)], strict=True):
            read, hidden = stream.near(stream.read), stream.near(stream.pruned)
            dense = stream.near(self._dense_behind(objective, place, stream))[read]
            entry, heard = self.assignment[place], []
            layer = self.stack.subblocks[place].output if kind == "matrix" else None
            with listening(layer, heard) if layer is not None else nullcontext():
                behind = advance(self.stack, entry, hidden, stream.context, objective.report)
            weights = token_weights(dense.cpu(), scale)
            size = (weights * dense.cpu().to(SUM).square().sum(dim=1)).sum().item()
            if layer is None:
                inputs = bridge_inputs(hidden) if kind == "bridge" else hidden.new_ones(*hidden.shape[:-1], 1)
                yield Positions(inputs[read], dense - behind[read], weights, size)
                continue
            inputs = heard[0].reshape(*read.shape, -1)[read]
            norm = self.stack.subblocks[place].post_norm
            if norm is None:
                yield Positions(inputs, dense - behind[read], weights, size)
            else:
                made = inputs @ self.stack.output_matrix(place).to(inputs).T
                yield through_norm(norm, inputs, made, dense - hidden[read], weights, size)

    def _scales(self, objective: Objective, place: int) -> list[float]:
        """What every weight of a stream is multiplied with: all weights have the mean 1 then, but for the null
        prompt's, which have its share of their sum however few its positions are."""
        streams, sums = self.streams[id(objective)], {True: 0.0, False: 0.0}
        for stream in streams:
            dense = self._dense_behind(objective, place, stream)[stream.read]
            sums[stream.portion.null] += token_weights(dense).sum().item()
        share = self.settings.null_share if sums[False] else 1.0
        shares = {True: share, False: 1.0 - share if sums[True] else 1.0}
        return [shares[stream.portion.null] / (sums[stream.portion.null] or 1.0) for stream in streams]


def through_norm(norm: torch.nn.Module, inputs, made, wanted, weights, size: float) -> Positions:
    """The positions of an output matrix behind which an RMS norm stands: `made` goes in, and `wanted` should come out.

    The norm keeps the direction of what goes in alone, so that should be the direction of `wanted` over the norm's
    weights, as long as `made` is; an error of it counts by the weights over that length. What the norm does to the
    length of a change is left out, as is usual for a small one."""
    gain = norm(made.new_ones(1, made.shape[1]))[0].detach()
    usable = torch.where(gain == 0, 1, gain)
    aim, length = wanted / usable, made.square().mean(dim=1, keepdim=True).sqrt()
    missing = normalised(aim) * length - made
    near = weights.to("cpu", SUM) / length.cpu().to(SUM).square()[:, 0]
    near = torch.where(length.cpu()[:, 0] == 0, 0, near)
    return Positions(inputs, missing, near, size, gain)


def fitting(values: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """`values` in `dtype`, or in float32 where they do not fit its range."""
    narrow = values.to(dtype)
    return narrow if torch.isfinite(narrow).all() else values.to(torch.float32)
