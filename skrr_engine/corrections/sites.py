"""Where a pruned encoder is corrected and how, and whether there are enough prompts to do so."""

from dataclasses import dataclass

import torch

from ..encoders.stack import TextStack
from ..errors import SkrrError
from ..measure.execute import Assignment
from ..measure.objective import Objective

__all__ = ["FEWEST_PROMPTS", "KINDS", "SITES", "Settings", "check_prompts", "places_of", "shared_sources"]

SITES = ("next", "all", "none")
GAPS = ("nothing", "bias", "bridge")
# Of the fit and of the choice: fewer would say little about any other prompt. A chosen number.
FEWEST_PROMPTS = 8
RANK = 16


@dataclass(frozen=True)
class Settings:
    """How corrections are fitted.

    `sites`: which kept output matrices are re-fitted; "next" (the first kept sub-block behind each run of removed
    ones), "all" (every kept one behind the first removed) or "none". `gaps`: what comes to the removed places; "bias",
    "bridge" (of `rank`) or "nothing". `ridges` are tried at every place (see `ridge`). `null_share` is the null
    prompt's part of all weight, where one is measured. `noise` is the share of words that are exchanged in every second
    prompt (see `variety`). `stored` is the dtype that re-fitted matrices are kept in, so
    that what comes behind is fitted to what will run (None: as wide as the stream).
    """

    sites: str = "all"
    gaps: str = "nothing"
    rank: int = RANK
    ridges: tuple[float, ...] = (0.01, 0.1, 0.3, 1.0)
    null_share: float = 0.1
    noise: float = 0.3
    stored: torch.dtype | None = None

    def check(self) -> None:
        """Raises SkrrError unless the settings make sense."""
        if self.sites not in SITES:
            raise SkrrError(f"The sites of a re-fit are {self.sites!r}; expected {', '.join(SITES[:-1])} or none.")
        if self.gaps not in GAPS:
            raise SkrrError(f"The gaps of a fit take {self.gaps!r}; expected nothing, bias or bridge.")
        if self.rank < 1:
            raise SkrrError(f"The rank of a bridge is {self.rank}; expected 1 or more ({RANK} is usual).")
        if not self.ridges or not all(0 <= rho < float("inf") for rho in self.ridges):
            raise SkrrError(f"The ridges of a fit are {list(self.ridges)}; expected one or more numbers from 0 up.")
        if not 0 <= self.noise <= 1:
            raise SkrrError(f"The share of exchanged words is {self.noise}; expected 0 to 1 (0.3 is usual).")
        if not 0 <= self.null_share < 1:
            raise SkrrError(f"The null prompt's share is {self.null_share}; expected 0 to below 1 (0.1 is usual).")


# What a user may ask for by name.
KINDS = {
    "bias": Settings("none", "bias"),
    "bridge": Settings("none", "bridge"),
    "next": Settings("next"),
    "all": Settings("all"),
    "bridge, all": Settings("all", "bridge"),
}


def shared_sources(assignment: Assignment) -> tuple[int, ...]:
    """Kept sub-blocks that run in another place too: one matrix for both could not serve both, so they stay."""
    return tuple(sorted({n for place, n in enumerate(assignment) if n is not None and n != place}))


def places_of(stack: TextStack, assignment: Assignment, settings: Settings) -> dict[int, str]:
    """place -> "matrix", "bias" or "bridge": what is fitted where under `assignment`, ascending, in front of the last
    state that anybody reads. Where a kept sub-block is shared or names no output matrix, "next" goes on to the one
    behind it."""
    if len(assignment) != len(stack.subblocks):
        raise SkrrError(f"The assignment has {len(assignment)} places, the encoder {len(stack.subblocks)} sub-blocks.")
    shared, found, waiting, behind = shared_sources(assignment), {}, False, False
    for place in range(max(stack.taps.values())):
        if assignment[place] != place:
            waiting = behind = True
            if settings.gaps != "nothing":
                found[place] = settings.gaps
        elif settings.sites != "none" and place not in shared and stack.subblocks[place].output is not None:
            if waiting or (behind and settings.sites == "all"):
                found[place] = "matrix"
                waiting = False
    return found


def check_prompts(fit: Objective, selection: Objective) -> None:
    """Raises SkrrError unless both have prompts enough, on one encoder, and no prompt in common."""
    if fit.stack is not selection.stack:
        raise SkrrError("Fit and selection are on two encoders; build both objectives on one stack.")
    both = set(fit.calibration.prompts) & set(selection.calibration.prompts)
    if both:
        raise SkrrError(
            f"{len(both)} prompts are in the fit and in the selection, the first is {min(both)!r}. Give the selection "
            "prompts that the fit does not see."
        )
    for name, objective in (("fit", fit), ("selection", selection)):
        count = len(objective.calibration.prompts)
        if count < FEWEST_PROMPTS:
            raise SkrrError(f"{count} {name} prompts are too few; give at least {FEWEST_PROMPTS}.")
