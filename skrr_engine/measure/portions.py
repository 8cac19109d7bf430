"""Portions: rows of one length, cut from the calibration's batches and stacked for several streams at once."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch

from ..encoders.stack import TokenBatch
from .calibration import Calibration

__all__ = ["Portion", "null_portions", "portions_of"]


@dataclass(frozen=True)
class Portion:
    """A batch of `rows` rows, of the prompts or (`null`) of the null prompt."""

    batch: TokenBatch
    null: bool

    @property
    def rows(self) -> int:
        """Rows of tokens in it."""
        return len(self.batch.row_ids)

    @property
    def tokens(self) -> int:
        """Rows times their length: what one stream of it holds."""
        return self.rows * self.batch.length

    def take(self, places: Sequence[int]) -> "Portion":
        """The rows that stand at `places` of this portion."""
        batch, index = self.batch, torch.as_tensor(places, dtype=torch.long)
        return replace(
            self,
            batch=replace(
                batch,
                tokens=batch.tokens[index],
                row_ids=tuple(batch.row_ids[n] for n in places),
                weights={name: values[index] for name, values in batch.weights.items()},
                companions={name: values[index.to(values.device)] for name, values in batch.companions.items()},
            ),
        )

    def times(self, copies: int) -> "Portion":
        """The same rows `copies` times, one copy behind the other."""
        return self if copies == 1 else self.take(list(range(self.rows)) * copies)

    def halves(self) -> list["Portion"]:
        """Itself in two parts, or alone where it has one row."""
        middle = self.rows // 2
        parts = (range(middle), range(middle, self.rows))
        return [self.take(part) for part in parts if part] if middle else [self]


def null_portions(calibration: Calibration) -> list[Portion]:
    """The null prompt."""
    return [Portion(batch, True) for batch in calibration.null]


def portions_of(calibration: Calibration, rows: Sequence[int]) -> list[Portion]:
    """The rows `rows` of the prompts, those of one batch together, in the order of the batches."""
    wanted, found = set(rows), []
    for batch in calibration.batches:
        places = [place for place, row in enumerate(batch.row_ids) if row in wanted]
        if places:
            whole = Portion(batch, False)
            found.append(whole if len(places) == len(batch.row_ids) else whole.take(places))
    return found
