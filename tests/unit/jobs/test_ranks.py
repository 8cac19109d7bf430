"""Two processes that search together give the plan of one; and how prompts are dealt out."""

import json
import os
from itertools import chain

import pytest
import torch

from skrr_engine.measure.objective import Objective
from skrr_engine.measure.ranks import Ranks, join
from skrr_engine.plans.plan_json import loads

FORKED = pytest.mark.skipif(not hasattr(os, "fork"), reason="the processes are forked")


def searched(forked, case):
    """What one process alone found, and each of two."""
    assert forked["ranked"][case] == [0, 0], forked["errors"]
    files = (forked["folder"] / case / name for name in ("alone", "rank 0", "rank 1"))
    return [json.loads(file.read_text()) for file in files if file.exists()]


@FORKED
@pytest.mark.parametrize("case", ["exact", "fast", "resumed", "in time"])
def test_two_find_the_plan_of_one(forked, case):
    """Both of them, for half of the work each; also when one process alone had begun."""
    alone, one, two = searched(forked, case)
    assert one["plan"] == two["plan"]
    expected, found = (loads(json.dumps(entry["plan"])) for entry in (alone, one))
    for ours, theirs in zip(found.levels, expected.levels, strict=True):
        assert ours.cuts == theirs.cuts
        # Other batches are rounded otherwise.
        assert ours.discrepancy == pytest.approx(theirs.discrepancy, rel=1e-9, abs=1e-13)
    assert one["told"].startswith("2 processes, ") and "speed-up of " in one["told"]
    if case != "resumed":
        # A process that measures a part of the null prompt's candidates shares fewer of their streams.
        assert alone["work"] <= one["work"] + two["work"] < 1.3 * alone["work"]
        assert max(one["work"], two["work"]) < 0.65 * alone["work"]


@FORKED
def test_both_stop_when_one_is_late(forked):
    """They find out where they wait for each other, and end in the same plan, or both say that there is none."""
    one, two = searched(forked, "late")
    assert one["plan"] == two["plan"]
    assert "0.02 minutes" in one["plan"]["notes"][0]


def ranks(size):
    """Ranks without a process group."""
    found = [object.__new__(Ranks) for _ in range(size)]
    for rank, one in enumerate(found):
        one.rank, one.size = rank, size
    return found


@pytest.mark.parametrize("size", [2, 3, 5])
def test_every_row_is_measured_once_and_shares_are_even(tiny, size):
    like = tiny.objective(tiny.stack())
    objective = Objective(like.stack, tiny.rows(24), like.projection)
    portions = [portion for portion in objective.portions if not portion.null]
    shares = [one.share([0, 1, 2], portions) for one in ranks(size)]
    assert all(numbers == [0, 1, 2] for numbers, _ in shares)
    rows = [sorted(chain.from_iterable(p.batch.row_ids for p in parts)) for _, parts in shares]
    assert sorted(chain.from_iterable(rows)) == list(range(24))
    assert max(map(len, rows)) - min(map(len, rows)) <= 1
    for _, parts in shares:
        for part in parts:
            whole = next(p for p in portions if p.batch.length == part.batch.length)
            at = [whole.batch.row_ids.index(row) for row in part.batch.row_ids]
            assert torch.equal(part.batch.tokens, whole.batch.tokens[at])


def test_the_null_prompts_assignments_are_split(tiny):
    null = tiny.objective(tiny.stack()).null
    shares = [one.share(list("abcde"), null) for one in ranks(2)]
    assert [numbers for numbers, _ in shares] == [[0, 2, 4], [1, 3]]
    assert all(parts == null for _, parts in shares)


def test_one_process_is_alone(monkeypatch):
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    assert join("cpu") is None
    monkeypatch.setenv("WORLD_SIZE", "1")
    assert join("cuda") is None


@FORKED
def test_torchrun(forked):
    """The command itself: one plan, one table, the speed-up."""
    folder = forked["folder"] / "launched"
    assert forked["launched"] == {"0": 0, "1": 0}, forked["errors"]
    assert loads((folder / "plan.json").read_text()).levels[-1].sparsity >= 0.2
    told = (folder / "told 0").read_text() + (folder / "told 1").read_text()
    assert told.count("Written: plan.json") == 1
    assert "2 processes, " in told and "speed-up of " in told
    assert (folder / "search.json").exists()
