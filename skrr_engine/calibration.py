"""Calibration: prompts, and the token batches over which the discrepancy is taken."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch

from .digest import digest_json, digest_tensors
from .errors import SkrrError
from .precision import SUM
from .stack import TokenBatch

__all__ = ["Calibration", "Row", "builtin_prompts", "clean_prompts", "make_calibration", "read_prompts"]

MAX_PROMPT = 20_000
MAX_FILE = 32 * 1024 * 1024
# Rows times tokens of one batch: bounds the activations of a pass (64 MiB a stream at T5-XXL's width).
BATCH_TOKENS = 4096


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


def clean_prompts(texts: Sequence[str], limit: int | None = None) -> tuple[str, ...]:
    """The distinct non-empty prompts in order, at most `limit` of them, evenly spread over the list so that a
    file sorted by subject or length is not cut off at its head. Raises SkrrError when none is left."""
    found = tuple(dict.fromkeys(text.strip() for text in texts if text.strip()))
    if not found:
        raise SkrrError("There are no calibration prompts: every line is empty. Give at least one prompt.")
    for number, text in enumerate(found, 1):
        if len(text) > MAX_PROMPT:
            raise SkrrError(
                f"Calibration prompt {number} has {len(text)} characters; at most {MAX_PROMPT} make sense. "
                "Put one prompt on a line."
            )
    if limit is not None and len(found) > limit:
        found = tuple(found[n * len(found) // limit] for n in range(limit))
    return found


def read_prompts(path: str | Path) -> list[str]:
    """The lines of a UTF-8 text file, one prompt each."""
    path = Path(path)
    if path.stat().st_size > MAX_FILE:
        raise SkrrError(f"{path.name} has {path.stat().st_size} bytes; a prompt file has at most {MAX_FILE}.")
    try:
        return path.read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise SkrrError(
            f"{path.name} is not UTF-8 text (byte {error.start}). Save it as UTF-8 and choose it again."
        ) from None


def builtin_prompts() -> list[str]:
    """The pack's own small set: 64 prompts, varied in subject, style and length."""
    return read_prompts(Path(__file__).parent / "prompts" / "builtin.txt")


def make_calibration(prompts: Sequence[str], rows: Sequence[Row], null_rows: Sequence[Row]) -> Calibration:
    """Packs rows of equal length into batches (so no padding is ever added) of at most BATCH_TOKENS tokens."""
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
