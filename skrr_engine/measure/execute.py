"""Runs a plan over a stream: the only place of the engine that knows what skip, re-use and corrections do.

An *assignment* is a tuple with one entry a place. An entry says which sub-block runs there: its index (its own: kept;
another: re-used) or None (skipped). Where something makes up for what is missing, it is a `Call`: that, and a
`Correction` of what the place adds to the stream.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch

from ..encoders.stack import Outputs, TextStack, TokenBatch
from ..errors import SkrrError
from ..events import Report, Tick, silent

__all__ = ["Assignment", "Call", "Correction", "Entry", "advance", "as_json", "assign", "encode", "source_of"]


@dataclass(frozen=True)
class Correction:
    """Another answer to what a place adds to the stream.

    `added(hidden, own)` returns it in the dtype of `hidden`, the stream in front of the place; `own` is what the source
    would have added, None where the place is skipped. So `h + B(h)` at a skipped place is `lambda hidden, own:
    B(hidden)`, and a bias behind a kept sub-block is `lambda hidden, own: own + bias`. It must leave both as they are,
    and must answer for each row by itself, because the streams of many assignments come stacked. `identity` is a digest
    of what it computes: corrections are equal when their identities are.
    """

    identity: str
    added: Callable[[torch.Tensor, torch.Tensor | None], torch.Tensor] = field(compare=False, repr=False)

    def __post_init__(self):
        if not self.identity:
            raise SkrrError("A correction has no identity; expected a digest of what it computes.")


@dataclass(frozen=True)
class Call:
    """The entry of a place with a correction. Without one an entry is the bare `source`, so that what runs the same is
    always written the same."""

    source: int | None
    correction: Correction

    def __str__(self) -> str:
        return f"{'nothing' if self.source is None else self.source}, corrected by {self.correction.identity[:8]}"


Entry = int | None | Call
Assignment = tuple[Entry, ...]


def assign(count: int, skip, reuse=None, corrections: Mapping[int, Correction] | None = None) -> Assignment:
    """The assignment of `count` places that skips `skip`, re-uses `reuse` (place -> source), and has `corrections`
    (place -> correction) wherever they are."""
    removed, reuse, corrections = set(skip), reuse or {}, corrections or {}
    sources = (reuse.get(i) if i in removed else i for i in range(count))
    return tuple(Call(source, corrections[i]) if i in corrections else source for i, source in enumerate(sources))


def source_of(entry: Entry) -> int | None:
    """The sub-block that runs at a place, None if none does."""
    return entry.source if isinstance(entry, Call) else entry


def as_json(assignment: Assignment) -> list:
    """For digests: the entries, of corrected ones [source, identity]."""
    return [[e.source, e.correction.identity] if isinstance(e, Call) else e for e in assignment]


def advance(
    stack: TextStack, entry: Entry, hidden: torch.Tensor, context: Any, report: Report = silent
) -> torch.Tensor:
    """The stream behind one place: `hidden` itself where the place is skipped, else a new tensor, `hidden +
    F_source(hidden)` or what a correction makes of it. Never writes into `hidden`."""
    if entry is None:
        return hidden
    report(Tick())
    source = source_of(entry)
    added = None if source is None else stack.run(source, hidden, context)
    if isinstance(entry, Call):
        added = entry.correction.added(hidden, added)
    return hidden + added


def encode(stack: TextStack, assignment: Assignment, batch: TokenBatch, report: Report = silent) -> Outputs:
    """The encoder's outputs for `batch` under `assignment`, one place after the other: the slow, obvious way."""
    hidden, context = stack.embed(batch)
    states = {}
    for place in range(len(assignment) + 1):
        states.update({name: hidden for name, at in stack.taps.items() if at == place})
        if place < len(assignment):
            hidden = advance(stack, assignment[place], hidden, context, report)
    return stack.finish(states, context)
