"""Prompts on their way through the stack, dense and pruned side by side, one place after the other."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch

from ..encoders.stack import TextStack
from ..measure.discrepancy import Discrepancy
from ..measure.execute import Assignment, advance
from ..measure.objective import Objective, Tally
from ..measure.portions import Portion

__all__ = ["Stream", "discrepancy_from", "positions_read", "start"]


@dataclass
class Stream:
    """The rows of `portion` before one place: `dense` and `pruned` (rows, tokens, width), the pruned `states` at the
    taps behind it, the `context` of the sub-blocks, and which positions are `read` (rows, tokens) bool; `ahead`
    is the dense stream behind the place, if known. Streams rest on the CPU, there are many of them."""

    portion: Portion
    context: Any
    dense: torch.Tensor
    pruned: torch.Tensor
    read: torch.Tensor
    device: torch.device
    ahead: torch.Tensor | None = None
    states: dict[str, torch.Tensor] = field(default_factory=dict)

    def near(self, rows: torch.Tensor) -> torch.Tensor:
        """`rows` where the sub-blocks run."""
        return rows.to(self.device)

    def tap(self, stack: TextStack, place: int) -> None:
        """Keeps the pruned stream if a tap is at `place`."""
        self.states.update({name: self.pruned for name, at in stack.taps.items() if at == place})


def positions_read(portion: Portion) -> torch.Tensor:
    """(rows, tokens) bool: the positions that the denoiser reads. All of them where it reads none by position (a
    pooled output sees them through the attention)."""
    batch = portion.batch
    found = torch.zeros(portion.rows, batch.length, dtype=torch.bool)
    by_position = [weights for weights in batch.weights.values() if weights.shape[1] == batch.length]
    for weights in by_position:
        found |= weights > 0
    return found if by_position and batch.length > 1 else torch.ones_like(found)


def start(objective: Objective) -> list[Stream]:
    """The streams of all portions of `objective` before sub-block 0; the null prompt's come first."""
    found = []
    for portion in objective.portions:
        hidden, context = objective.stack.embed(portion.batch)
        rest = hidden.cpu()
        found.append(Stream(portion, context, rest, rest, positions_read(portion), hidden.device))
    return found


def discrepancy_from(
    objective: Objective, stack: TextStack, assignment: Assignment, streams: Sequence[Stream], place: int
) -> Discrepancy:
    """The discrepancy over `objective` when `streams`, all of its portions before `place`, go on through `stack` under
    `assignment`. The streams stay where they are."""
    going = [replace(stream, states=dict(stream.states)) for stream in streams]
    for at in range(place, len(assignment)):
        for stream in going:
            stream.tap(stack, at)
            hidden = advance(stack, assignment[at], stream.near(stream.pruned), stream.context, objective.report)
            stream.pruned = hidden.cpu()
    tally = Tally(objective)
    for stream in going:
        stream.tap(stack, len(assignment))
        states = {name: stream.near(state) for name, state in stream.states.items()}
        tally.note(stream.portion, objective.terms(stream.portion, stack.finish(states, stream.context)))
    return tally.total()
