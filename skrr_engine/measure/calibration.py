"""Calibration: prompts, and the token batches over which the discrepancy is taken."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import torch

from ..digest import digest_json, digest_tensors
from ..encoders.stack import TokenBatch
from ..errors import SkrrError
from ..files.prompt_files import builtin_prompts, clean_prompts, read_prompts
from ..precision import SUM

__all__ = [
    "Calibration",
    "Row",
    "builtin_prompts",
    "check_tokens",
    "clean_prompts",
    "make_calibration",
    "read_prompts",
]

# Rows times tokens of one batch: bounds the activations of a pass (64 MiB a stream at T5-XXL's width).
BATCH_TOKENS = 4096
# Of one prompt. Denoisers read a few hundred; an attention over 10,000 would take more memory than the encoder.
MAX_TOKENS = 4096


@dataclass(frozen=True)
class Row:
    """One row of tokens of prompt `prompt`; `weights` as in TokenBatch, one number a position."""

    tokens: tuple[int, ...]
    prompt: int
    weights: dict[str, tuple[float, ...]]
    companions: dict[str, torch.Tensor] = field(default_factory=dict)


@dataclass(frozen=True)
class Calibration:
    """Batches of prompts and the null prompt, ready for an encoder. `rows` counts all rows of the prompts."""

    prompts: tuple[str, ...]
    batches: tuple[TokenBatch, ...]
    null: tuple[TokenBatch, ...]
    identity: str

    @property
    def rows(self) -> int:
        """Rows of all prompts, the null prompt not counted."""
        return sum(len(batch.row_ids) for batch in self.batches)


def check_tokens(counts: Iterable[int]) -> None:
    """Raises SkrrError if a prompt has more than MAX_TOKENS; `counts` are the tokens of every prompt, in order."""
    for number, count in enumerate(counts, 1):
        if count > MAX_TOKENS:
            raise SkrrError(
                f"Calibration prompt {number} has {count} tokens; at most {MAX_TOKENS} make sense. Is it several "
                "prompts, or a whole document? Put one prompt on a line."
            )


def make_calibration(prompts: Sequence[str], rows: Sequence[Row], null_rows: Sequence[Row]) -> Calibration:
    """Packs rows of equal length into batches (so no padding is ever added) of at most BATCH_TOKENS tokens. Raises
    SkrrError if the rows of one prompt have more than MAX_TOKENS."""
    counts = [0] * len(prompts)
    for row in rows:
        counts[row.prompt] += len(row.tokens)
    check_tokens(counts)
    everything = [
        [row.tokens, row.prompt, sorted(row.weights.items()), digest_tensors(sorted(row.companions.items()))]
        for row in (*rows, *null_rows)
    ]
    identity = digest_json(everything)
    return Calibration(tuple(prompts), _pack(rows), _pack(null_rows), identity)


def _pack(rows: Sequence[Row]) -> tuple[TokenBatch, ...]:
    by_length: dict[int, list[int]] = {}
    for number, row in enumerate(rows):
        by_length.setdefault(len(row.tokens), []).append(number)
    batches = []
    for length, numbers in sorted(by_length.items()):
        size = max(1, BATCH_TOKENS // length)
        for start in range(0, len(numbers), size):
            chosen = numbers[start : start + size]
            batches.append(_batch([rows[n] for n in chosen], tuple(chosen), length))
    return tuple(batches)


def _batch(rows: list[Row], row_ids: tuple[int, ...], length: int) -> TokenBatch:
    return TokenBatch(
        tokens=torch.tensor([row.tokens for row in rows], dtype=torch.long),
        row_ids=row_ids,
        length=length,
        weights={name: torch.tensor([row.weights[name] for row in rows], dtype=SUM) for name in rows[0].weights},
        companions={name: torch.stack([row.companions[name] for row in rows]) for name in rows[0].companions},
    )
