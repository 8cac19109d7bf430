"""The incumbent and its challengers: nothing replaces the best assignment so far unless it is better on all prompts.

A race alone may be wrong by more than there is to gain. The same challengers come back on the next level, against
another incumbent. Their relative gaps, (D of the challenger - D of the incumbent) / D of the incumbent, change little
from level to level, so most of them need not be measured again.
"""

from collections.abc import Mapping

import torch

from ..measure.discrepancy import Discrepancy
from ..measure.execute import Assignment
from ..running.prior import Estimate, Key
from ..running.run import Run
from ..running.trial import Trial
from .candidate import Choose

__all__ = ["Incumbent"]

# The relative gap of a challenger of which nothing is known.
UNKNOWN = Estimate(0.0, 100.0)


class Incumbent:
    """The best assignment so far, measured on all prompts. With `errors` (`Tally.errors`), which an earlier
    measurement gave, it is not measured again."""

    def __init__(self, run: Run, assignment: Assignment, errors: torch.Tensor | None = None):
        known = Trial(run.objective, assignment)
        if errors is not None:
            known.recall(errors, run.order)
            known.final = True
        self.run = run
        # Races compare in the narrow products in which challengers are measured; decisions are made in float32.
        self._raced = Trial(run.objective, assignment) if run.narrow else known
        self._final = self._measured(known)

    @property
    def discrepancy(self) -> Discrepancy:
        """Over all rows in play, in float32 at least."""
        return self.run.discrepancy(self._final)

    def errors(self) -> torch.Tensor:
        """The terms of `discrepancy`."""
        return self._final.errors()

    def challenge(
        self, trials: Mapping[Key, Trial], choose: Choose, expected: Mapping[Key, Estimate]
    ) -> tuple[Key | None, dict[Key, Estimate]]:
        """The best of `trials` if it is better, which is the incumbent from now on, else None; and the relative gap of
        each trial that a race has estimated. Among equal ones the incumbent comes first, then the first listed.
        `expected` holds prior estimates of relative gaps, as far as there are any (`prior.widened`)."""
        value = self.discrepancy.value
        if not trials or not value:  # nothing is better than 0
            for trial in trials.values():
                self.run.give_up(trial)
            return None, {}
        incumbent = self._raced
        incumbent.expected = Estimate(value, 0.0)
        for key, trial in trials.items():
            mean, variance = expected.get(key, UNKNOWN)
            trial.expected = Estimate(value * (1 + mean), value**2 * variance)
        (best,) = choose(self.run, [incumbent, *trials.values()], 1)
        gaps = {key: _relative_gap(trial, incumbent, value) for key, trial in trials.items() if trial.gap is not None}
        if best is incumbent:
            return None, gaps
        winner = next(key for key, trial in trials.items() if trial is best)
        final = self._measured(best)
        difference = self.run.discrepancy(final).value - value
        if best.gap is not None:  # estimated from some prompts, on which the winner was lucky
            gaps[winner] = Estimate(difference / value, 0.0)
        if difference >= 0:
            return None, gaps
        self._raced, self._final = best, final
        return winner, gaps

    def _measured(self, trial: Trial) -> Trial:
        """`trial`, or a new one in float32, measured on all rows in play."""
        (final,) = self.run.finalists([trial])
        self.run.measure_null([final])
        self.run.measure([final], self.run.order)
        return final


def _relative_gap(trial: Trial, incumbent: Trial, value: float) -> Estimate:
    """The difference of both gaps to the race's winner, as a part of the incumbent's discrepancy `value`."""
    mean, variance = trial.gap.mean - incumbent.gap.mean, trial.gap.variance + incumbent.gap.variance
    return Estimate(mean / value, variance / value**2)
