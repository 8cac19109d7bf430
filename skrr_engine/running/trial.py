"""A candidate of one choice: its errors so far, and what the race expects of it."""

from ..measure.execute import Assignment
from ..measure.objective import Objective, Tally
from .prior import Guess

__all__ = ["Trial"]


class Trial(Tally):
    """The tally of one assignment among others that it is compared with.

    `final`: measured in float32, by `Run.finalists`. `expected`: D before anything is measured. `gap`: by how much a
    race has found it worse than its winner. Both are None where they are not known.
    """

    def __init__(self, objective: Objective, assignment: Assignment):
        super().__init__(objective)
        self.assignment, self.final = assignment, False
        self.expected: Guess | None = None
        self.gap: Guess | None = None
