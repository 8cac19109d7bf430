"""Two processes that search together give the plan of one."""

import json
import os

import pytest

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
