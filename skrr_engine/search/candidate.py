"""A set of skipped sub-blocks that a level has kept, and how the best of a level are chosen."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch

from ..measure.discrepancy import Discrepancy
from ..running.prior import Prior
from ..running.run import Run
from ..running.trial import Trial

__all__ = ["Candidate", "Choose", "Order"]

Order = tuple[int, ...]  # sub-blocks in the order in which they were skipped

# The run, the trials and how many to keep (None: all) -> the best of them, best first.
Choose = Callable[[Run, Sequence[Trial], int | None], list[Trial]]


@dataclass(frozen=True)
class Candidate:
    """A kept set and its discrepancy. `errors` are the terms of that discrepancy (`Tally.errors`), known for the best
    set of a level alone; `prior` is a race's prior for the next level."""

    order: Order
    discrepancy: Discrepancy
    errors: torch.Tensor | None = field(default=None, compare=False)
    prior: Prior | None = field(default=None, compare=False)
