"""What a search minimises: the discrepancy of an assignment over the calibration prompts and the null prompt."""

import math

import torch

from .calibration import Calibration
from .digest import digest_json
from .discrepancy import Discrepancy, cosine_terms, square_norms, squared_terms
from .errors import SkrrError
from .events import Report, silent
from .execute import Assignment, encode
from .precision import SUM
from .projection import Projection
from .stack import Outputs, TextStack, TokenBatch

__all__ = ["Objective", "Tally"]


class Objective:
    """Holds the dense features and measures assignments against them.

    `applications` counts sub-block x token applications, the work that everything else is a constant of.
    """

    def __init__(
        self,
        stack: TextStack,
        calibration: Calibration,
        projection: Projection,
        null_weight: float = 1.0,
        report: Report = silent,
    ):
        if not (math.isfinite(null_weight) and null_weight >= 0):
            raise SkrrError(f"The null weight is {null_weight}; expected a number from 0 up (1 as published).")
        self.stack, self.calibration, self.projection = stack, calibration, projection
        self.null_weight, self.report = null_weight, report
        self.applications = 0
        self._dense: dict[int, tuple] = {}

    @property
    def dense_assignment(self) -> Assignment:
        """Every sub-block in its own place."""
        return tuple(range(len(self.stack.subblocks)))

    @property
    def batches(self) -> tuple[TokenBatch, ...]:
        """All batches in measuring order: the null prompt first (it is short, and the harshest judge)."""
        return (self.calibration.null if self.null_weight else ()) + self.calibration.batches

    @property
    def identity(self) -> str:
        """A digest of everything a measurement depends on."""
        return digest_json(
            [self.stack.identity, self.calibration.identity, self.projection.identity, self.null_weight]
        )

    def measure(self, assignment: Assignment) -> Discrepancy:
        """The discrepancy of one assignment, measured alone: the slow, obvious way, and the oracle of `sweep`."""
        tally = Tally(self)
        for batch in self.batches:
            self.applications += len(batch.row_ids) * batch.length * sum(s is not None for s in assignment)
            tally.add(batch, encode(self.stack, assignment, batch, self.report))
        return tally.total()

    def prepare(self) -> None:
        """Brings the encoder where it runs and computes the dense features, once."""
        if self._dense:
            return
        self.stack.prepare()
        for batch in self.batches:
            outputs = encode(self.stack, self.dense_assignment, batch, self.report)
            features = {name: value.cpu() for name, value in self.features(outputs, batch).items()}
            self._dense[id(batch)] = (features, self.weights(batch))

    def dense(self, batch: TokenBatch) -> tuple[dict, dict]:
        """The dense features of `batch`, on the CPU, and the weights of their positions."""
        self.prepare()
        return self._dense[id(batch)]

    def features(self, outputs: Outputs, batch: TokenBatch) -> dict[str, torch.Tensor]:
        """`outputs` behind the projection."""
        return self.projection.apply(outputs, batch)

    def weights(self, batch: TokenBatch) -> dict[str, torch.Tensor]:
        """feature -> the share of each position, from the output that the feature reads."""
        return {feature: batch.weights[output] for feature, output in self.projection.reads.items()}


class Tally:
    """Sums one assignment's terms. Rows may arrive in any order; they are summed in calibration order."""

    def __init__(self, objective: Objective):
        self.objective = objective
        objective.prepare()
        rows = objective.calibration.rows
        self.squared, self.cosine = torch.zeros(rows, dtype=SUM), torch.zeros(rows, dtype=SUM)
        self.null = self.null_pruned = self.null_dense = 0.0

    def add(self, batch: TokenBatch, outputs: Outputs) -> None:
        """Takes the encoder's outputs for one batch."""
        dense, weights = self.objective.dense(batch)
        pruned = self.objective.features(outputs, batch)
        squared = squared_terms(dense, pruned, weights)
        # `is`, not `==`: comparing batches would compare their tensors.
        if any(batch is null for null in self.objective.calibration.null):
            self.null += squared.sum().item()
            self.null_pruned += square_norms(pruned, weights).sum().item()
            self.null_dense += square_norms(dense, weights).sum().item()
        else:
            rows = list(batch.row_ids)
            self.squared[rows] = squared
            self.cosine[rows] = cosine_terms(dense, pruned, weights)

    def total(self) -> Discrepancy:
        """The discrepancy over everything added."""
        prompts = len(self.objective.calibration.prompts)
        ratio = math.sqrt(self.null_pruned / self.null_dense) if self.null_dense else 1.0
        found = Discrepancy(
            conditional=self.squared.sum().item() / prompts,
            null=self.null,
            null_weight=self.objective.null_weight,
            # 1 - cos of nearly equal vectors can round below zero.
            cosine=max(0.0, self.cosine.sum().item() / prompts),
            null_norm=ratio,
        )
        if not math.isfinite(found.value):
            raise SkrrError(
                "The encoder's output is not finite on the calibration prompts. Its weights are damaged, or its "
                "precision is too small; load it in another format and search again."
            )
        return found
