"""kill -9 at random points of a search: the next run goes on and ends in the same plan, its D but for rounding."""

import os
import signal

import pytest

TIMES = 12


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the children are forked")
@pytest.mark.parametrize("mode", ["fast", "exact"])
def test_a_killed_search_goes_on_and_ends_in_the_same_plan(forked, mode):
    """Twelve times each, 24 in all."""
    found = forked["killed"][mode]
    assert len(found["killed"]) == TIMES
    for one in found["killed"]:
        assert one["signal"] == signal.SIGKILL, one
        assert one["same"] and not one["left"], one
    # What was on disk is not done again: the second half of a search is shorter than all of it.
    late = [one for one in found["killed"] if one["moment"] > found["whole"] / 2]
    assert late and all(one["again"] < found["whole"] for one in late)
