"""What to search for, and whether it can be had."""

import math
from collections.abc import Iterable
from dataclasses import dataclass

from ..encoders.stack import TextStack
from ..errors import SkrrError

__all__ = ["MODES", "Settings"]

MODES = ("fast", "exact")


@dataclass(frozen=True)
class Settings:
    """What to search for. The search stops at the first level whose best set reaches both `sparsity` (0 to 1)
    and `bytes_saved` (of this encoder's storage). `beam` None keeps every set of a level.

    `mode` "exact" gives the published search's answer; "fast" about that, for much less work, the same again for the
    same `seed`. `minutes` bounds the time (0: no bound): as many prompts are used as fit into it, and what is found
    when it is over is the plan.
    """

    slot: str
    sparsity: float = 0.4
    bytes_saved: int = 0
    beam: int | None = 3
    reuse: bool = True
    name: str = "my plan"
    mode: str = "fast"
    minutes: float = 0.0
    seed: int = 0

    def check(self, stack: TextStack) -> None:
        """Raises SkrrError for what is no search, and says the most that can be had, before any work is done."""
        blocks = stack.subblocks
        if self.beam is not None and self.beam < 1:
            raise SkrrError(f"The beam size is {self.beam}; expected 1 or more (3 as published).")
        if self.mode not in MODES:
            raise SkrrError(f"The search mode is {self.mode!r}; expected {' or '.join(MODES)}.")
        if not (math.isfinite(self.minutes) and self.minutes >= 0):
            raise SkrrError(f"The time is {self.minutes} minutes; expected 0 (no limit) or more.")
        if not (math.isfinite(self.sparsity) and self.sparsity >= 0 and self.bytes_saved >= 0):
            raise SkrrError(f"The target is {self.sparsity} and {self.bytes_saved} bytes; expected 0 or more.")
        most = stack.sparsity(range(len(blocks)))
        if self.sparsity > most:
            raise SkrrError(
                f"A sparsity of {100 * self.sparsity:.2f} % cannot be reached: with every sub-block skipped it is "
                f"{100 * most:.2f} %, the rest is embedding and final norm. Ask for less."
            )
        most_bytes = sum(block.bytes for block in blocks)
        if self.bytes_saved > most_bytes:
            raise SkrrError(
                f"{self.bytes_saved / 1e9:.3f} GB cannot be saved: all sub-blocks of this encoder together take "
                f"{most_bytes / 1e9:.3f} GB. Ask for less."
            )
        if self.sparsity == 0 and self.bytes_saved == 0:
            raise SkrrError("The target is 0; give a sparsity or a number of bytes to reach.")

    def record(self, null_weight: float) -> dict:
        """What a plan says about the search that found it."""
        record = {"mode": self.mode, "beam": self.beam, "null_weight": null_weight, "reuse": self.reuse}
        return {**record, "minutes": self.minutes} if self.minutes else record

    def reached(self, stack: TextStack, skipped: Iterable[int]) -> bool:
        """Whether skipping these sub-blocks is enough."""
        skipped = tuple(skipped)
        saved = sum(stack.subblocks[i].bytes for i in skipped)
        return stack.sparsity(skipped) >= self.sparsity and saved >= self.bytes_saved

    def levels(self, stack: TextStack, skipped: Iterable[int] = ()) -> int:
        """About how many sub-blocks the last level will skip, when `skipped` are chosen."""
        skipped, count = tuple(skipped), len(stack.subblocks)
        left = self.sparsity - stack.sparsity(skipped)
        left_bytes = self.bytes_saved - sum(stack.subblocks[i].bytes for i in skipped)
        a_block = stack.sparsity(range(count)) / count
        a_block_bytes = max(1, sum(block.bytes for block in stack.subblocks)) / count
        more = max(0.0, left / a_block, left_bytes / a_block_bytes)
        return min(count, len(skipped) + math.ceil(more - 1e-9))
