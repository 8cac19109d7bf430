"""Choices among trials whose errors are made up, row by row: nothing is run, so many cases cost little."""

from itertools import combinations

import pytest
import torch

from skrr_engine.measure.execute import assign
from skrr_engine.measure.objective import Objective, Terms
from skrr_engine.running.run import Run
from skrr_engine.running.trial import Trial
from skrr_engine.search.exact import choose_exactly
from skrr_engine.search.racing import choose_by_racing

PAIRS = list(combinations(range(8), 2))


class MadeUp(Run):
    """A run that reads errors from a table, (trials, rows + 1): the last column is the null prompt's. `read` counts
    entries, `alike` those of each assignment."""

    def __init__(self, objective, errors):
        super().__init__(objective)
        self.errors = {assign(8, pair): row for pair, row in zip(PAIRS, errors, strict=False)}
        self.read, self.given_up = 0, []

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

    def give_up(self, trial):
        self.given_up.append(trial.assignment)
        super().give_up(trial)


@pytest.fixture
def run(tiny):
    """Made-up runs of `errors`, over as many prompts as it has columns but one."""
    like = tiny.objective(tiny.stack())

    def made(errors):
        rows = tiny.rows(errors.shape[1] - 1)
        return MadeUp(Objective(like.stack, rows, like.projection), errors)

    return made


def names(trials):
    return [trial.assignment for trial in trials]


def table(seed, spread, rows=60, trials=28):
    """Errors of trials that differ by about `spread` of what prompts differ by."""
    generator = torch.Generator().manual_seed(seed)
    base = 1 + spread * torch.rand(trials, 1, generator=generator, dtype=torch.float64)
    hard = torch.rand(1, rows + 1, generator=generator, dtype=torch.float64) ** 3
    return base * hard * torch.rand(trials, rows + 1, generator=generator, dtype=torch.float64).exp()


@pytest.mark.parametrize("keep", [1, 2, 3, 5, None])
@pytest.mark.parametrize("spread", [0.02, 0.5, 20])
def test_an_exact_choice_is_that_of_measuring_all(run, spread, keep):
    """Where trials are nearly alike the leaders change from chunk to chunk."""
    for seed in range(4):
        here = run(table(seed, spread))
        found = choose_exactly(here, here.trials(), keep)
        assert names(found) == here.ranked()[:keep]
        assert all(here.complete(trial) for trial in found)


def test_an_exact_choice_reads_little_of_what_is_clearly_worse(run):
    """Of hopeless trials only the null prompt and the first chunk; those that are known bound the others."""
    errors = table(0, 0.1)
    errors[3:] *= 50
    here = run(errors)
    assert names(choose_exactly(here, here.trials(), 3)) == here.ranked()[:3]
    assert here.read <= 28 * 9 + 3 * 61
    assert set(here.given_up) == set(list(here.errors)[3:])


def test_the_null_prompt_alone_gives_up_what_it_ruins(run):
    """With the bound known, not one prompt is read of a set that fails on the null prompt."""
    errors = table(1, 0.1)
    errors[3:, -1] += 1000
    here = run(errors)
    best = here.ranked()[:3]
    bound = max((here.errors[a][:-1].mean() + here.errors[a][-1]).item() for a in best)
    rows = sum(here.errors[a][:-1] for a in best)
    assert names(choose_exactly(here, here.trials(), 3, bound, rows)) == best
    assert here.read == 28 + 3 * 60


def test_hard_rows_go_first(run):
    """Rows that a known set finds hard tell the others apart at once."""
    errors = torch.full((28, 61), 0.01, dtype=torch.float64)
    errors[:, 40:44] = torch.arange(28, dtype=torch.float64)[:, None]
    known = torch.zeros(60, dtype=torch.float64)
    known[40:44] = 1
    here = run(errors)
    bound = (here.errors[here.ranked()[1]][:-1].mean() + 0.01).item()
    found = choose_exactly(here, here.trials(), 2, bound, known)
    assert names(found) == here.ranked()[:2]
    assert here.read == 28 + 28 * 8 + 2 * 52, "the first chunk holds the four rows"


def test_a_bound_within_rounding_gives_nobody_up(run):
    """Two trials alike but for rounding: both are measured, the first listed goes first."""
    errors = table(2, 0.0).clone()
    errors[1:] = errors[0] * (1 + 1e-13 * torch.arange(1, 28, dtype=torch.float64)[:, None])
    errors[2:] *= 3
    here = run(errors)
    notices = []
    here.notice = notices.append
    assert names(choose_exactly(here, here.trials(), 1)) == here.ranked()[:1]
    assert list(here.errors)[1] not in here.given_up
    assert len(notices) == 1 and notices[0].startswith("Within rounding of each other: 0, 1 (D ")


def test_what_differs_is_not_said_to_be_within_rounding(run):
    here = run(table(3, 0.5))
    here.notice = pytest.fail
    choose_exactly(here, here.trials(), 3)


@pytest.mark.parametrize("keep", [1, 3])
def test_a_race_finds_about_the_best_and_reads_less(run, keep):
    """Of trials that differ by half: on average the first is within a percent of the best, and the last kept of the
    last that should be."""
    read = everything = 0
    first, last = [], []
    for seed in range(10):
        here = run(table(seed, 0.5, rows=200))
        value = {a: (row[:-1].mean() + row[-1]).item() for a, row in here.errors.items()}
        found = names(choose_by_racing(here, trials := here.trials(), keep))
        assert len(found) == keep == len(set(found))
        first.append(value[found[0]] / value[here.ranked()[0]] - 1)
        last.append(max(map(value.get, found)) / value[here.ranked()[keep - 1]] - 1)
        assert all(trial.gap is not None for trial in trials)
        read, everything = read + here.read, everything + errors_of(here)
    assert sum(first) / 10 < 0.03 and sum(last) / 10 < 0.03
    assert read < everything / 2


def errors_of(run):
    """Entries of the table."""
    return sum(row.numel() for row in run.errors.values())
