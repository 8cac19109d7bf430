"""What a search minimises: the discrepancy of an assignment over the calibration prompts and the null prompt."""

import math
from collections.abc import Callable, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch

from ..digest import digest_json
from ..encoders.stack import Outputs, TextStack, TokenBatch
from ..errors import SkrrError
from ..events import Report, silent
from ..precision import SUM
from .calibration import Calibration
from .discrepancy import Discrepancy, cosine_terms, square_norms, squared_terms
from .execute import Assignment, encode, source_of
from .portions import Portion, null_portions, portions_of
from .projection import Projection
from .ranks import Ranks

__all__ = ["CALL_TOKENS", "GPU_CALL_TOKENS", "Objective", "Tally", "Terms"]

# What the streams of a sweep may take where the host says nothing.
ROOM = 1 << 30
# Tokens of one sub-block call. On a CPU more makes nothing faster, and a cancel waits for the call; a GPU needs more.
CALL_TOKENS = 512
GPU_CALL_TOKENS = 4096


@dataclass(frozen=True)
class Terms:
    """Each row's part of its prompt's errors: (rows,) float64 on the CPU, or (copies, rows). `norms` are the mean
    squared norms of the features, pruned and dense; only of the null prompt, else None."""

    squared: torch.Tensor
    cosine: torch.Tensor
    norms: tuple[torch.Tensor, torch.Tensor] | None = None


class Objective:
    """Holds the dense features and measures assignments against them.

    `applications` counts sub-block x token applications, the work that everything else is a constant of; the dense
    pass counts too. `room()` says how many bytes the streams of a sweep may take; it is asked when the encoder is
    where it runs, which is a `device` of that type. `ranks` are the processes that search together, None for one
    alone.
    """

    def __init__(
        self,
        stack: TextStack,
        calibration: Calibration,
        projection: Projection,
        null_weight: float = 1.0,
        report: Report = silent,
        room: Callable[[], int] = lambda: ROOM,
        device: str = "cpu",
    ):
        if not (math.isfinite(null_weight) and null_weight >= 0):
            raise SkrrError(f"The null weight is {null_weight}; expected a number from 0 up (1 as published).")
        self.stack, self.calibration, self.projection = stack, calibration, projection
        self.null_weight, self.report, self.room = null_weight, report, room
        self.applications = 0
        self.ranks: Ranks | None = None
        self.call_tokens = CALL_TOKENS if device == "cpu" else GPU_CALL_TOKENS
        self.shrunk = 1  # by how much memory that ran out has divided the room
        self._dense: dict[tuple, dict[str, torch.Tensor]] = {}
        self._at_hand: tuple | None = None
        self._ready = False

    @property
    def dense_assignment(self) -> Assignment:
        """Every sub-block in its own place."""
        return tuple(range(len(self.stack.subblocks)))

    @property
    def dead(self) -> range:
        """The sub-blocks behind all that the features read."""
        return range(self.stack.live(self.projection.reads.values()), len(self.stack.subblocks))

    @property
    def portions(self) -> list[Portion]:
        """All rows in measuring order: the null prompt first (it is short, and the harshest judge)."""
        return self.null + portions_of(self.calibration, range(self.calibration.rows))

    @property
    def null(self) -> list[Portion]:
        """The null prompt, nothing where it has no weight."""
        return null_portions(self.calibration) if self.null_weight else []

    @property
    def batches(self) -> tuple[TokenBatch, ...]:
        """The batches of all portions."""
        return tuple(portion.batch for portion in self.portions)

    @property
    def tokens(self) -> int:
        """Tokens of one evaluation: all rows and the null prompt."""
        return sum(portion.tokens for portion in self.portions)

    @property
    def identity(self) -> str:
        """A digest of everything a measurement depends on."""
        return digest_json(
            [self.stack.identity, self.calibration.identity, self.projection.identity, self.null_weight]
        )

    def measure(self, assignment: Assignment) -> Discrepancy:
        """The discrepancy of one assignment, measured alone: the slow, obvious way, and the oracle of `sweep`."""
        tally = Tally(self)
        for portion in self.portions:
            self.applications += portion.tokens * sum(source_of(entry) is not None for entry in assignment)
            outputs = encode(self.stack, assignment, portion.batch, self.report)
            tally.note(portion, self.terms(portion, outputs))
        return tally.total()

    def prepare(self) -> None:
        """Brings the encoder where it runs, once."""
        if not self._ready:
            self.stack.prepare()
            self._ready = True

    def portion(self, batch: TokenBatch) -> Portion:
        """One of the calibration's own batches as a portion."""
        # `is`, not `==`: comparing batches would compare their tensors.
        return Portion(batch, any(batch is null for null in self.calibration.null))

    @property
    def narrow(self) -> torch.dtype | None:
        """The dtype of products that the device is fast at (see `precision`); None: that of the stream."""
        return None if self.stack.feeder is None else self.stack.feeder.narrow

    @contextmanager
    def narrowed(self):
        """Inside, products are in `narrow`, which is not None."""
        feeder = self.stack.feeder
        wide, feeder.dtype = feeder.dtype, self.narrow
        try:
            yield
        finally:
            feeder.dtype = wide

    def dense(self, portion: Portion | TokenBatch) -> tuple[dict, dict]:
        """The dense features of `portion`, on the CPU, and the weights of their positions. Computed when first
        asked for, then kept; one set for each dtype of products."""
        if isinstance(portion, TokenBatch):
            portion = self.portion(portion)
        part = self.without_dense(portion)
        if part is not None:
            self.prepare()
            self.applications += part.tokens * len(self.stack.subblocks)
            self.keep_dense(part, encode(self.stack, self.dense_assignment, part.batch, self.report))
        rows = [self._dense[key] for key in self._keys(portion)]
        return {name: torch.stack([row[name] for row in rows]) for name in rows[0]}, self.weights(portion.batch)

    def without_dense(self, portion: Portion) -> Portion | None:
        """The rows of `portion` whose dense features are not known yet."""
        missing = [place for place, key in enumerate(self._keys(portion)) if key not in self._dense]
        if not missing:
            return None
        return portion if len(missing) == portion.rows else portion.take(missing)

    def keep_dense(self, portion: Portion, outputs: Outputs) -> None:
        """Takes the dense encoder's outputs for `portion`."""
        features = {name: value.cpu() for name, value in self.features(outputs, portion.batch).items()}
        for at, key in enumerate(self._keys(portion)):
            self._dense[key] = {name: value[at] for name, value in features.items()}

    def _keys(self, portion: Portion) -> list[tuple]:
        return [(self.stack.products, portion.null, row) for row in portion.batch.row_ids]

    def terms(self, portion: Portion, outputs: Outputs, copies: int = 1) -> Terms:
        """The errors from the encoder's outputs for `portion`, of `copies` assignments stacked: those of the first
        one's rows first."""
        many = portion.times(copies)
        pruned, weights = self.features(outputs, many.batch), self.weights(many.batch)
        near = self._near(portion, next(iter(pruned.values())).device)
        dense = {name: value.repeat(copies, *[1] * (value.dim() - 1)) for name, value in near.items()}
        squared, cosine = squared_terms(dense, pruned, weights), cosine_terms(dense, pruned, weights)
        norms = (square_norms(pruned, weights), square_norms(dense, weights)) if portion.null else None
        return Terms(squared, cosine, norms)

    def _near(self, portion: Portion, device: torch.device) -> dict[str, torch.Tensor]:
        """The dense features of `portion` on `device`. They rest on the CPU, there are many of them; those of the
        portion under way travel once for all its assignments."""
        key = (device, tuple(self._keys(portion)))
        if self._at_hand is None or self._at_hand[0] != key:
            self._at_hand = key, {name: value.to(device) for name, value in self.dense(portion)[0].items()}
        return self._at_hand[1]

    def features(self, outputs: Outputs, batch: TokenBatch) -> dict[str, torch.Tensor]:
        """`outputs` behind the projection."""
        return self.projection.apply(outputs, batch)

    def weights(self, batch: TokenBatch) -> dict[str, torch.Tensor]:
        """feature -> the share of each position, from the output that the feature reads."""
        return {feature: batch.weights[output] for feature, output in self.projection.reads.items()}


class Tally:
    """What one assignment's errors are so far, row by row. Rows may arrive in any order, and not all of them need
    to; sums are taken in calibration order."""

    def __init__(self, objective: Objective):
        self.objective = objective
        rows = objective.calibration.rows
        self.squared = torch.full((rows,), math.nan, dtype=SUM)
        self.cosine = self.squared.clone()
        self.null = self.null_pruned = self.null_dense = 0.0
        self.null_seen = not objective.null_weight
        self.seen = torch.zeros(rows, dtype=torch.bool)

    def add(self, batch: TokenBatch, outputs: Outputs) -> None:
        """Takes the encoder's outputs for one of the calibration's own batches."""
        portion = self.objective.portion(batch)
        self.note(portion, self.objective.terms(portion, outputs))

    def note(self, portion: Portion, terms: Terms) -> None:
        """Takes the errors on the rows of `portion`; the null prompt's portions once each."""
        if portion.null:
            pruned, dense = terms.norms
            self.null += terms.squared.sum().item()
            self.null_pruned += pruned.sum().item()
            self.null_dense += dense.sum().item()
            self.null_seen = True
        else:
            rows = list(portion.batch.row_ids)
            self.squared[rows], self.cosine[rows], self.seen[rows] = terms.squared, terms.cosine, True

    def errors(self) -> torch.Tensor:
        """Everything added, (2, rows + 2) float64 on the CPU: squared and cosine terms (NaN where unseen), then the
        null prompt's error and whether it was seen, its mean squared norms pruned and dense. For `recall`."""
        null = [[self.null, self.null_pruned], [float(self.null_seen), self.null_dense]]
        return torch.cat([torch.stack([self.squared, self.cosine]), torch.tensor(null, dtype=SUM)], dim=1)

    def recall(self, errors: torch.Tensor, rows: Sequence[int]) -> None:
        """Takes what another tally of the same assignment gave as `errors`, of the prompts' rows only `rows`."""
        index = torch.as_tensor(rows, dtype=torch.long)
        self.squared[index], self.cosine[index] = errors[0, index], errors[1, index]
        self.seen[index] = ~errors[0, index].isnan()
        (self.null, self.null_pruned), (seen, self.null_dense) = errors[:, -2:].tolist()
        self.null_seen = bool(seen)

    def total(self, prompts: float | None = None) -> Discrepancy:
        """The discrepancy over everything added, which is `prompts` prompts (None: all)."""
        prompts = len(self.objective.calibration.prompts) if prompts is None else prompts
        ratio = math.sqrt(self.null_pruned / self.null_dense) if self.null_dense else 1.0
        found = Discrepancy(
            conditional=self.squared[self.seen].sum().item() / prompts,
            null=self.null,
            null_weight=self.objective.null_weight,
            # 1 - cos of nearly equal vectors can round below zero.
            cosine=max(0.0, self.cosine[self.seen].sum().item() / prompts),
            null_norm=ratio,
        )
        if not math.isfinite(found.value):
            raise SkrrError(
                "The encoder's output is not finite on the calibration prompts. Its weights are damaged, or its "
                "precision is too small; load it in another format and search again."
            )
        return found
