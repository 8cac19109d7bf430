"""The demo's report: sizes, discrepancies and scores of the dense encoder and of the plan's levels."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from ..corrections.found import Corrections
from ..encoders.stack import TextStack
from ..measure.discrepancy import Discrepancy
from ..plans.plan import Level
from .world.scoring import Case, interval, score
from .world.world import TASKS

__all__ = ["Drawn", "report"]


@dataclass(frozen=True)
class Drawn:
    """One encoder's result: its level (None: dense), its discrepancy on held-out prompts, which of its pictures are
    right, (cases,) bool, and the corrections that it ran with."""

    level: Level | None
    held_out: Discrepancy
    right: torch.Tensor
    corrections: Corrections | None = None


def report(cases: Sequence[Case], drawn: Sequence[Drawn], stack: TextStack) -> str:
    """Markdown. The first of `drawn` is the dense encoder, with which the others are compared, caption by caption."""
    lines = [
        "# Skrr on the small pipeline",
        "",
        f"{len(cases)} captions, none used in the search. Scores are shares of right pictures, as an exact judge reads",
        "them; overall is the mean of the six tasks, with its 95 % bootstrap interval. Bytes are those of the file.",
        "",
        "| encoder | bytes | discrepancy | null norm | " + " | ".join(TASKS) + " | overall | against dense |",
        "|---|---:|---:|---:|" + "---:|" * len(TASKS) + "---:|---:|",
    ]
    dense = drawn[0].right.double()
    for one in drawn:
        scores = score(cases, one.right)
        low, high = interval(cases, one.right.double() - dense)
        gone = 0 if one.level is None else sum(
            stack.subblocks[i].bytes for cut in one.level.cuts.values() for i in cut.skip
        )  # fmt: skip
        gone -= one.corrections.extra_bytes if one.corrections else 0
        name = "dense" if one.level is None else f"{100 * one.level.sparsity:.1f} % removed"
        name += ", corrected" if one.corrections else ""
        cells = [f"{scores.tasks[task]:.2f}" for task in TASKS]
        difference = "" if one.level is None else f"{low:+.2f} … {high:+.2f}"
        lines.append(
            f"| {name} | {stack.total_bytes - gone:,} | {one.held_out.value:.4f} | {one.held_out.null_norm:.2f} | "
            + " | ".join(cells)
            + f" | {scores.overall:.2f} ({scores.low:.2f} … {scores.high:.2f}) | {difference} |"
        )
    return "\n".join(lines) + "\n"
