"""What stands until something better has been measured whole: a race may be wrong by more than there is to gain."""

from collections.abc import Sequence

import torch

from .beam import Choose
from .discrepancy import Discrepancy
from .execute import Assignment
from .objective import Tally
from .run import Run

__all__ = ["Standing"]


class Standing:
    """The assignment that stands, measured whole. `errors`, where they are known, are what it was measured at
    (`Tally.errors`); it is not measured again."""

    def __init__(self, run: Run, assignment: Assignment, errors: torch.Tensor | None = None):
        known = Tally(run.objective, assignment)
        if errors is not None:
            known.recall(errors, run.order)
            known.final = True
        self.run = run
        # It is compared with trials in the products in which those are measured; what counts is float32.
        self.tally = Tally(run.objective, assignment) if run.narrow else known
        self._whole = self._measured(known)

    @property
    def discrepancy(self) -> Discrepancy:
        """Over all that is in play, in float32 at least."""
        return self.run.found(self._whole)

    def errors(self) -> torch.Tensor:
        """What `discrepancy` was summed from."""
        return self._whole.errors()

    def challenged(self, trials: Sequence[Tally], choose: Choose) -> Tally | None:
        """The best of `trials` if it is better, which stands from now on; else None. Of equal ones what stands goes
        first, then the first listed."""
        (best,) = choose(self.run, [self.tally, *trials], 1)
        if best is self.tally:
            return None
        whole = self._measured(best)
        if self.run.found(whole).value >= self.discrepancy.value:
            return None
        self.tally, self._whole = best, whole
        return best

    def _measured(self, tally: Tally) -> Tally:
        """`tally`, or a new one in float32, measured whole."""
        (final,) = self.run.finalists([tally])
        self.run.measure_null([final])
        self.run.measure([final], self.run.order)
        return final
