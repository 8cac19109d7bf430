"""Runs whose errors are made up, row by row: nothing is run, so many cases cost little."""

from itertools import combinations

import torch

from skrr_engine.measure.execute import assign
from skrr_engine.measure.objective import Objective, Terms
from skrr_engine.running.run import Run
from skrr_engine.running.trial import Trial

PAIRS = list(combinations(range(8), 2))


class MadeUp(Run):
    """A run that reads errors from a table, (trials, rows + 1): the last column is the null prompt's. `read` counts
    entries, `asked` has (trials, rows) of each measurement."""

    def __init__(self, objective, errors):
        super().__init__(objective)
        self.errors = {assign(8, pair): row for pair, row in zip(PAIRS, errors, strict=False)}
        self.read, self.given_up, self.asked = 0, [], []

    def trials(self):
        return [Trial(self.objective, assignment) for assignment in self.errors]

    def ranked(self):
        """The assignments, best first."""
        mean = {assignment: (row[:-1].mean() + row[-1]).item() for assignment, row in self.errors.items()}
        return sorted(mean, key=mean.get)

    def _fill(self, trials, portions, rows, narrow):
        for trial in trials:
            errors = self.errors[trial.assignment]
            for portion in portions:
                self.read += portion.rows
                found = errors[-1:] if portion.null else errors[list(portion.batch.row_ids)]
                trial.note(portion, Terms(found, found, (found, found) if portion.null else None))

    def measure(self, trials, rows, alive=None):
        self.asked.append((len(trials), len(rows)))
        super().measure(trials, rows, alive)

    def give_up(self, trial):
        self.given_up.append(trial.assignment)
        super().give_up(trial)


def made(tiny, errors):
    """A run of `errors`, over as many prompts as it has columns but one."""
    like = tiny.objective(tiny.stack())
    return MadeUp(Objective(like.stack, tiny.rows(errors.shape[1] - 1), like.projection), errors)


def names(trials):
    return [trial.assignment for trial in trials]


def table(seed, spread, rows=60, trials=28):
    """Errors of trials that differ by about `spread` of what prompts differ by."""
    generator = torch.Generator().manual_seed(seed)
    base = 1 + spread * torch.rand(trials, 1, generator=generator, dtype=torch.float64)
    hard = torch.rand(1, rows + 1, generator=generator, dtype=torch.float64) ** 3
    return base * hard * torch.rand(trials, rows + 1, generator=generator, dtype=torch.float64).exp()
