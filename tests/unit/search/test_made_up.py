"""Exact choices among trials whose errors are made up."""

import pytest
import torch

from skrr_engine.search.exact import choose_exactly

from .made_up import made, names, table


@pytest.fixture
def run(tiny):
    return lambda errors: made(tiny, errors)


@pytest.mark.parametrize("keep", [1, 3, 5, None])
@pytest.mark.parametrize("spread", [0.02, 0.5, 20])
def test_an_exact_choice_is_that_of_measuring_all(run, spread, keep):
    """Where trials are nearly alike the leaders change from chunk to chunk."""
    for seed in range(2):
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
