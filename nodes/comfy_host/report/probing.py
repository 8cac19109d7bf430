"""One encoder of a dense and of a pruned CLIP, asked the same: the features of one prompt and of the empty prompt
behind the denoiser's projection, and how far they moved."""

import math
from contextlib import contextmanager
from dataclasses import dataclass

import comfy.model_management as mm
import torch

from ....skrr_engine.errors import SkrrError
from ....skrr_engine.measure.discrepancy import Discrepancy, cosine_terms, square_norms, squared_terms
from ..clip.trees import choose_encoder
from ..denoiser.projections import find_projection
from ..search.calibrating import calibration_for, tokenize

__all__ = ["Change", "Probe", "clip_options"]


@dataclass(frozen=True)
class Change:
    """How far one encoder's features moved. `relative` is the root of the prompt's MSE over that of zeros in the
    features' place: 1 means by as much as the features are large. `null_relative` is the same for the empty prompt;
    `to_empty` takes the empty prompt's features instead of zeros (None where they are the prompt's own).
    `behind` is a sentence about the projection."""

    discrepancy: Discrepancy
    relative: float
    null_relative: float
    to_empty: float | None
    behind: str


@contextmanager
def clip_options(clip):
    """Clip skip and device as the CLIP's own encode sets them, for an encoder called alone."""
    tree, device = clip.patcher.model, clip.patcher.load_device
    tree.reset_clip_options()
    if clip.layer_idx is not None:
        tree.set_clip_options({"layer": clip.layer_idx})
    tree.set_clip_options({"execution_device": device})
    make = getattr(mm, "cuda_device_context", None)  # 0.27 pins CUDA work to a device this way
    try:
        if make is None:
            yield
        else:
            with make(device):
                yield
    finally:
        tree.reset_clip_options()


class Probe:
    """What is asked of one encoder, of both CLIPs alike: rows of tokens, shares of their positions, projection."""

    def __init__(self, dense, slot: str, prompt: str, model):
        encoder = choose_encoder(dense, slot)
        self.slot = slot
        self.projection, self.behind = find_projection(model, encoder)
        self.calibration = calibration_for(encoder, tokenize(dense, [prompt]))
        self.empty = not prompt.strip()
        # Emphasis such as (word:1.2) is kept here: it scales what the denoiser reads.
        self.rows = [self._rows(dense.tokenize(text)) for text in (prompt, "")]

    def _rows(self, tokens: dict) -> list:
        key = self.slot if self.slot in tokens else self.slot.removeprefix("clip_")
        return tokens[key]

    def features(self, clip) -> tuple[list, list]:
        """The features of the prompt and of the empty prompt, a dict a batch of rows."""
        sd_model = choose_encoder(clip, self.slot).sd_model
        batches = (self.calibration.batches, self.calibration.null)
        return tuple(
            [self._batch(sd_model, batch, rows) for batch in part]
            for part, rows in zip(batches, self.rows, strict=True)
        )

    def _batch(self, sd_model, batch, rows: list) -> dict[str, torch.Tensor]:
        sequence, pooled = sd_model.encode_token_weights([rows[number] for number in batch.row_ids])[:2]
        outputs = {"sequence": sequence.reshape(len(batch.row_ids), batch.length, -1).float()}
        if pooled is not None:
            # That of the prompt's first row; the share of all others is zero.
            outputs["pooled"] = pooled.expand(len(batch.row_ids), -1).float()
        return {name: value.cpu() for name, value in self.projection.apply(outputs, batch).items()}

    def change(self, dense: tuple[list, list], pruned: tuple[list, list]) -> Change:
        """The measures of `Change` from the features of both CLIPs."""
        batches, null_batches = self.calibration.batches, self.calibration.null
        conditional = self._sum(squared_terms, batches, dense[0], pruned[0])
        null = self._sum(squared_terms, null_batches, dense[1], pruned[1])
        size, null_size = (self._sum(squared_terms, b, d, _zeros(d)) for b, d in zip(
            (batches, null_batches), dense, strict=True)
        )  # fmt: skip
        empty = [self._empty(batch, found, dense[1]) for batch, found in zip(batches, dense[0], strict=True)]
        distance = 0.0 if self.empty else self._sum(squared_terms, batches, dense[0], empty)
        norms = [self._sum(square_norms, null_batches, found[1]) for found in (dense, pruned)]
        found = Discrepancy(
            conditional=conditional,
            null=null,
            null_weight=1.0,
            # 1 - cos of nearly equal vectors can round below zero.
            cosine=max(0.0, self._sum(cosine_terms, batches, dense[0], pruned[0])),
            null_norm=_root(norms[1], norms[0]),
        )
        if not math.isfinite(found.value):
            raise SkrrError(
                f"The encoder {self.slot} gives numbers that are not finite for this prompt. Its weights are damaged, "
                "or its precision is too small; load it in another format."
            )
        return Change(
            discrepancy=found,
            relative=_root(conditional, size),
            null_relative=_root(null, null_size),
            to_empty=_root(conditional, distance) if distance else None,
            behind=self.behind,
        )

    def _sum(self, terms, batches, *features) -> float:
        total = 0.0
        for batch, *found in zip(batches, *features, strict=True):
            weights = {name: batch.weights[output] for name, output in self.projection.reads.items()}
            total += terms(*found, weights).sum().item()
        return total

    def _empty(self, batch, like: dict, null: list) -> dict[str, torch.Tensor]:
        """The empty prompt's features in the shape of the prompt's: position by position where both have as many,
        else their mean over the positions read at every position."""
        found = {}
        for name, value in like.items():
            wanted = null[0][name]
            if wanted.dim() == 3 and wanted.shape[1] != value.shape[1]:
                shares = self.calibration.null[0].weights[self.projection.reads[name]]
                wanted = (wanted * shares.to(wanted).unsqueeze(2)).sum(dim=1, keepdim=True)
            found[name] = wanted[:1].expand_as(value)
        return found


def _zeros(features: list) -> list:
    return [{name: torch.zeros_like(value) for name, value in found.items()} for found in features]


def _root(part: float, whole: float) -> float:
    """Root of the ratio of two mean squares; 0 of nothing is 0, something of nothing is infinite."""
    return math.sqrt(part / whole) if whole else (math.inf if part else 0.0)
