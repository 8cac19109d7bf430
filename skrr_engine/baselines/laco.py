"""LaCo, layer collapse (arXiv 2402.11187): merge neighbouring blocks from the top down, as long as the output stays.

    theta_l* = theta_l + sum_k (theta_{l+k} - theta_l)

Skrr's setting is M = 2 merged blocks (C = 2, one follower), interval I = 2, range L = 1 to H = 24 (a count: the
first base is 22), threshold T = 0.7. With one follower the formula is theta_{l+1}: **block l+1's matrices run
behind block l's norms**, and block l+1 is gone. Only this is implemented: with more followers the authors' code is
not their formula (it updates the base while it reads it, which leaves the last follower's weights, not the sum),
and two readings would need two names; for C = 2 both are the same.

Followed is the authors' code, where the paper leaves it open:

- matrices move; norms, biases and tables of positions stay (the code names the projections, one by one).
  `norms="follower"` moves the whole sub-block, which amounts to skipping block l: the alternative to compare with;
- the test: mean over prompts of the cosine between the *flattened* outputs (behind the final norm) of the merged
  and the **original** encoder, accepted when above the threshold. Here over the positions that the denoiser reads;
- after a merge l falls by I, after a refusal by 1. Its sweep ends at L; Skrr merges on "continuously" to its target
  (11 blocks are the most that one sweep of 24 gives), so here another sweep over what is left begins at its top.
  A sweep that accepts nothing is the last.

A merge exchanges the two blocks' matrices and skips the follower, so every tensor exists once: what lies at a
skipped place never runs, and a file can leave it out. A plan cannot say any of this: `skip` alone, applied to the
unmerged file, is another model, and since the norms stay, the plan's sketch does not notice.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch

from ..encoders.stack import TextStack
from ..errors import SkrrError
from ..events import Phase, Report, Step, silent
from ..files.tensor_names import TABLE, place_of
from ..measure.calibration import Calibration
from ..measure.execute import assign, encode
from ..plans.architecture import Architecture
from ..precision import SUM, widen
from .ladder import Rung, check_sparsity
from .rebuilt import rebuild, state_of

__all__ = ["Collapse", "LacoRung", "LacoSettings", "Trial", "collapse", "merge_order", "merged_stack", "merged_state"]


@dataclass(frozen=True)
class LacoSettings:
    """The paper's L, H (None: the number of blocks), I and T, and which norms a merged block keeps ("base" or
    "follower"). Blocks below L and from H up are never touched. A threshold of -2 accepts every merge."""

    lowest: int = 1
    highest: int | None = None
    interval: int = 2
    threshold: float = 0.7
    norms: str = "base"

    def __post_init__(self):
        if self.lowest < 0 or self.interval < 1 or (self.highest is not None and self.highest < self.lowest + 2):
            raise SkrrError(
                f"LaCo's range is {self.lowest} to {self.highest} with interval {self.interval}; expected a lowest "
                "block of 0 or more, a highest at least 2 above it, and an interval of 1 or more (1, 24 and 2)."
            )
        if not math.isfinite(self.threshold):
            raise SkrrError(f"LaCo's threshold is {self.threshold}; expected a cosine (0.7 as published).")
        if self.norms not in ("base", "follower"):
            raise SkrrError(f"A merged block keeps the norms of {self.norms!r}; expected 'base' or 'follower'.")


@dataclass(frozen=True)
class Trial:
    """One merge that was tried: block `follower` into block `base` (numbers of the dense encoder)."""

    base: int
    follower: int
    similarity: float
    accepted: bool


@dataclass(frozen=True)
class LacoRung(Rung):
    """`sources[l]` is the block whose matrices lie in block l: a permutation. `similarity` as tested."""

    sources: tuple[int, ...]
    similarity: float


@dataclass(frozen=True)
class Collapse:
    """The accepted merges as a ladder, and everything that was tried. The last rung is below the target when the
    threshold refused too much."""

    rungs: tuple[LacoRung, ...]
    trials: tuple[Trial, ...]


def collapse(
    stack: TextStack,
    calibration: Calibration,
    sparsity: float,
    settings: LacoSettings = LacoSettings(),
    *,
    report: Report = silent,
) -> Collapse:
    """Merges until `sparsity` is reached or a whole sweep accepts nothing. `stack` is a T5Stack or ClipStack."""
    check_sparsity(stack.architecture, sparsity)
    state = state_of(stack)
    count = stack.architecture.sub_blocks
    report(Phase("LaCo", stack.architecture.layers))
    stack.prepare()
    dense = [_flat(stack, assign(count, ()), batch, report) for batch in calibration.batches]

    def similarity(sources, skip) -> float:
        merged = rebuild(stack, merged_state(state, stack.architecture, sources, settings.norms))
        assignment, total = assign(count, skip), 0.0
        for batch, flat in zip(calibration.batches, dense, strict=True):
            cosine = torch.nn.functional.cosine_similarity(flat, _flat(merged, assignment, batch, report), dim=1)
            total += (cosine.to(SUM) * _shares(batch)).sum().item()
        report(Step(1))
        return total / len(calibration.prompts)

    return merge_order(stack.architecture, settings, similarity, sparsity)


def merge_order(
    architecture: Architecture, settings: LacoSettings, similarity: Callable[..., float], sparsity: float
) -> Collapse:
    """The sweeps. `similarity(sources, skip)` judges a merged encoder; it is asked once a trial."""
    layers = architecture.layers
    highest = layers if settings.highest is None else settings.highest
    if highest > layers:
        raise SkrrError(f"LaCo's highest block is {highest}, but the encoder has {layers}; ask for that or less.")
    alive, sources = list(range(layers)), tuple(range(layers))
    rungs: list[LacoRung] = []
    trials: list[Trial] = []
    order: tuple[int, ...] = ()
    reached = accepted = False
    while not reached:
        place, accepted = sum(block < highest for block in alive) - 2, False
        while place >= settings.lowest and not reached:
            base, follower = alive[place : place + 2]
            merged, skip = _exchange(sources, base, follower), (*order, 2 * follower, 2 * follower + 1)
            found = similarity(merged, skip)
            if not math.isfinite(found):
                raise SkrrError(
                    f"The encoder's output is not finite after merging block {follower} into {base}. Its weights are "
                    "damaged, or their precision is too small; load it in another format."
                )
            trials.append(Trial(base, follower, found, found > settings.threshold))
            if not trials[-1].accepted:
                place -= 1
                continue
            del alive[place + 1]
            sources, order, accepted = merged, skip, True
            rungs.append(LacoRung(order, architecture.sparsity(order), sources, found))
            reached = rungs[-1].sparsity >= sparsity
            place -= settings.interval
        if not accepted:
            break
    return Collapse(tuple(rungs), tuple(trials))


def merged_state(
    state: Mapping[str, torch.Tensor], architecture: Architecture, sources: tuple[int, ...], norms: str = "base"
) -> dict[str, torch.Tensor]:
    """`state` (transformers' names without prefix, as ComfyUI's files have them) with block `sources[l]`'s matrices
    in every block l. The same names, shapes and tensors, nothing copied; apply the rung's `order` as a skip."""
    places = {name: _place(name, architecture.family) for name in state}
    names = {place: name for name, place in places.items() if place is not None}
    if {place for place, _ in names} != set(range(architecture.sub_blocks)):
        raise SkrrError(
            f"The tensors are not those of a dense {architecture.describe()}: sub-blocks are missing. Give the whole "
            "encoder under the names of transformers, without a prefix (encoder.block.0… or text_model.…)."
        )
    merged = {}
    for name, tensor in state.items():
        if places[name] is not None and _moves(places[name][1], tensor, architecture, norms):
            index, inner = places[name]
            name_there = names[2 * sources[index // 2] + index % 2, inner]
            merged[name] = state[name_there]
        else:
            merged[name] = tensor
    return merged


def merged_stack(stack: TextStack, rung: LacoRung, norms: str = "base") -> TextStack:
    """The merged encoder; run it under `assign(count, rung.order)`."""
    return rebuild(stack, merged_state(state_of(stack), stack.architecture, rung.sources, norms))


def _place(name: str, family: str) -> tuple[int, str] | None:
    """transformers 5 drops text_model from a CLIP without projection; files and `place_of` keep it."""
    return place_of(name, family) or (place_of(f"text_model.{name}", family) if family == "clip" else None)


def _moves(inner: str, tensor: torch.Tensor, architecture: Architecture, norms: str) -> bool:
    """Whether a merge carries this tensor along. T5's one table of positions serves all blocks: never."""
    if inner.startswith(TABLE):
        return norms == "follower" and architecture.position_bias == "every"
    return norms == "follower" or tensor.dim() == 2


def _exchange(sources: tuple[int, ...], base: int, follower: int) -> tuple[int, ...]:
    swapped = list(sources)
    swapped[base], swapped[follower] = sources[follower], sources[base]
    return tuple(swapped)


def _flat(stack: TextStack, assignment, batch, report: Report) -> torch.Tensor:
    """(rows, tokens * width) on the CPU: the output of the positions that are read, zero elsewhere."""
    values = widen(encode(stack, assignment, batch, report)["sequence"]).cpu()
    if "sequence" in batch.weights:
        values = values * (batch.weights["sequence"] > 0).unsqueeze(2)
    return values.flatten(1)


def _shares(batch) -> torch.Tensor:
    """(rows,) float64: the share of each row in its prompt (a CLIP cuts long prompts into several rows)."""
    name = "sequence" if "sequence" in batch.weights else next(iter(batch.weights))
    return batch.weights[name].sum(dim=1)
