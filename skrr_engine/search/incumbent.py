"""What stands until something better has been measured whole: a race may be wrong by more than there is to gain.

The same trials come back on the next level, against another set. By which part of D each was worse than what stood
then is known of a race, and is about what it will be: most need not be measured again.
"""

from collections.abc import Mapping

import torch

from ..measure.discrepancy import Discrepancy
from ..measure.execute import Assignment
from ..running.prior import Guess, Key
from ..running.run import Run
from ..running.trial import Trial
from .beam import Choose

__all__ = ["Standing"]

# Of a trial of which nothing is known: it may be worse by any part of D.
NOTHING = Guess(0.0, 100.0)


class Standing:
    """The assignment that stands, measured whole. `errors`, where they are known, are what it was measured at
    (`Tally.errors`); it is not measured again."""

    def __init__(self, run: Run, assignment: Assignment, errors: torch.Tensor | None = None):
        known = Trial(run.objective, assignment)
        if errors is not None:
            known.recall(errors, run.order)
            known.final = True
        self.run = run
        # It is compared with trials in the products in which those are measured; what counts is float32.
        self.tally = Trial(run.objective, assignment) if run.narrow else known
        self._whole = self._measured(known)

    @property
    def discrepancy(self) -> Discrepancy:
        """Over all that is in play, in float32 at least."""
        return self.run.found(self._whole)

    def errors(self) -> torch.Tensor:
        """What `discrepancy` was summed from."""
        return self._whole.errors()

    def challenged(
        self, trials: Mapping[Key, Trial], choose: Choose, parts: Mapping[Key, Guess]
    ) -> tuple[Key | None, dict[Key, Guess]]:
        """The best of `trials` if it is better, which stands from now on, else None; and by which part of D each was
        found worse than what stood, if that was told. Of equal ones what stands goes first, then the first listed.
        `parts` is what to expect of them, of as many as something is known of (`outlook.later`)."""
        value = self.discrepancy.value
        if not trials or not value:  # nothing is better than 0
            for trial in trials.values():
                self.run.give_up(trial)
            return None, {}
        self.tally.expected = Guess(value, 0.0)
        for key, trial in trials.items():
            mean, variance = parts.get(key, NOTHING)
            trial.expected = Guess(value * (1 + mean), value**2 * variance)
        before = self.tally
        (best,) = choose(self.run, [before, *trials.values()], 1)
        found = {key: _part(trial, before, value) for key, trial in trials.items() if trial.gap is not None}
        if best is before:
            return None, found
        winner = next(key for key, trial in trials.items() if trial is best)
        whole = self._measured(best)
        worse = self.run.found(whole).value - value
        if best.gap is not None:  # the race has seen it in part, and at its luckiest
            found[winner] = Guess(worse / value, 0.0)
        if worse >= 0:
            return None, found
        self.tally, self._whole = best, whole
        return winner, found

    def _measured(self, tally: Trial) -> Trial:
        """`tally`, or a new one in float32, measured whole."""
        (final,) = self.run.finalists([tally])
        self.run.measure_null([final])
        self.run.measure([final], self.run.order)
        return final


def _part(trial: Trial, standing: Trial, value: float) -> Guess:
    """By which part of `value` the race has found `trial` worse than `standing`."""
    mean, variance = trial.gap.mean - standing.gap.mean, trial.gap.variance + standing.gap.variance
    return Guess(mean / value, variance / value**2)
