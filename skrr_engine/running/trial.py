"""A candidate of one choice: its errors so far, and what a race expects and finds of it."""

from ..measure.execute import Assignment
from ..measure.objective import Objective, Tally
from .prior import Estimate

__all__ = ["Trial"]


class Trial(Tally):
    """The tally of one assignment that is compared with others.

    `final`: measured in float32 throughout, see `Run.finalists`. `expected`: the prior estimate of its D. `gap`: a
    race's estimate of its D minus the winner's. Both are None where nothing is known.
    """

    def __init__(self, objective: Objective, assignment: Assignment):
        super().__init__(objective)
        self.assignment, self.final = assignment, False
        self.expected: Estimate | None = None
        self.gap: Estimate | None = None
