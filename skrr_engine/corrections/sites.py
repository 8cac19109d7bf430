"""Where a pruned encoder is corrected, and whether there are enough prompts to do so."""

from collections.abc import Sequence
from dataclasses import dataclass

from ..encoders.stack import TextStack
from ..errors import SkrrError
from ..measure.execute import Assignment
from ..measure.objective import Objective
from .corrected import output_layer
from .streams import positions_read

__all__ = ["FEWEST_SELECTION", "SITES", "Settings", "check_prompts", "places_of", "shared_sources"]

SITES = ("next", "all")
# Prompts that decide: fewer would say little about any other. A chosen number.
FEWEST_SELECTION = 8


@dataclass(frozen=True)
class Settings:
    """How a re-fit is made. `sites`: "next" (the first kept sub-block behind each run of removed ones) or "all" (every
    kept one behind the first removed). `ridges` are tried at every site (see `ridge`). `null_share` is the null
    prompt's part of all weight, where one is measured."""

    sites: str = "all"
    ridges: tuple[float, ...] = (0.01, 0.1, 0.3, 1.0)
    null_share: float = 0.1

    def check(self) -> None:
        """Raises SkrrError unless the settings make sense."""
        if self.sites not in SITES:
            raise SkrrError(f"The sites of a re-fit are {self.sites!r}; expected {' or '.join(SITES)}.")
        if not self.ridges or not all(0 <= rho < float("inf") for rho in self.ridges):
            raise SkrrError(f"The ridges of a re-fit are {list(self.ridges)}; expected one or more numbers from 0 up.")
        if not 0 <= self.null_share < 1:
            raise SkrrError(f"The null prompt's share is {self.null_share}; expected 0 to below 1 (0.1 is usual).")


def shared_sources(assignment: Assignment) -> tuple[int, ...]:
    """Kept sub-blocks that run in another place too: one matrix for both could not serve both, so they stay."""
    return tuple(sorted({n for place, n in enumerate(assignment) if n is not None and n != place}))


def places_of(stack: TextStack, assignment: Assignment, sites: str) -> tuple[int, ...]:
    """The places to re-fit under `assignment`, ascending, before the last state that anybody reads. Where a kept
    sub-block is shared, "next" goes on to the one behind it."""
    if len(assignment) != len(stack.subblocks):
        raise SkrrError(f"The assignment has {len(assignment)} places, the encoder {len(stack.subblocks)} sub-blocks.")
    shared, found, waiting, behind = shared_sources(assignment), [], False, False
    for place in range(max(stack.taps.values())):
        if assignment[place] != place:
            waiting = behind = True
        elif place not in shared and (waiting or (behind and sites == "all")):
            found.append(place)
            waiting = False
    return tuple(found)


def check_prompts(fit: Objective, selection: Objective, places: Sequence[int]) -> None:
    """Raises SkrrError unless both have prompts enough, on one encoder, and no prompt in common."""
    if fit.stack is not selection.stack:
        raise SkrrError("Fit and selection are on two encoders; build both objectives on one stack.")
    both = set(fit.calibration.prompts) & set(selection.calibration.prompts)
    if both:
        raise SkrrError(
            f"{len(both)} prompts are in the fit and in the selection, the first is {min(both)!r}. Give the selection "
            "prompts that the fit does not see."
        )
    count = len(selection.calibration.prompts)
    if count < FEWEST_SELECTION:
        raise SkrrError(f"{count} selection prompts are too few; give at least {FEWEST_SELECTION}.")
    if not places:
        return
    inputs = max(output_layer(fit.stack.subblocks[place]).weight.shape[1] for place in places)
    positions = sum(positions_read(portion).sum().item() for portion in fit.portions if not portion.null)
    if positions < inputs:
        prompts = len(fit.calibration.prompts)
        enough = -(-inputs * prompts // max(1, positions))
        raise SkrrError(
            f"{prompts} prompts with {positions} positions are too few to fit a matrix of {inputs} inputs; give about "
            f"{enough} prompts like these, better several times as many."
        )
