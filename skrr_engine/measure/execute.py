"""Runs a plan over a stream: the only place of the engine that knows what skip and re-use do.

An *assignment* is a tuple with one entry a place: the index of the sub-block that runs there (its own:
kept; another: re-used) or None (skipped).
"""

from typing import Any

import torch

from ..encoders.stack import Outputs, TextStack, TokenBatch
from ..events import Report, Tick, silent

__all__ = ["Assignment", "advance", "assign", "encode"]

Assignment = tuple[int | None, ...]


def assign(count: int, skip, reuse=None) -> Assignment:
    """The assignment of `count` places that skips `skip` and re-uses `reuse` (place -> source)."""
    removed, reuse = set(skip), reuse or {}
    return tuple(reuse.get(i) if i in removed else i for i in range(count))


def advance(
    stack: TextStack, source: int | None, hidden: torch.Tensor, context: Any, report: Report = silent
) -> torch.Tensor:
    """The stream behind one place: `hidden` itself where the place is skipped, else a new tensor
    `hidden + F_source(hidden)`. Never writes into `hidden`."""
    if source is None:
        return hidden
    report(Tick())
    return hidden + stack.run(source, hidden, context)


def encode(stack: TextStack, assignment: Assignment, batch: TokenBatch, report: Report = silent) -> Outputs:
    """The encoder's outputs for `batch` under `assignment`, one place after the other: the slow, obvious way."""
    hidden, context = stack.embed(batch)
    states = {}
    for place in range(len(assignment) + 1):
        states.update({name: hidden for name, at in stack.taps.items() if at == place})
        if place < len(assignment):
            hidden = advance(stack, assignment[place], hidden, context, report)
    return stack.finish(states, context)
