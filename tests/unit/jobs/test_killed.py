"""kill -9 at random points of a search: the next run goes on and ends in the same plan, its D but for rounding."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
TIMES, MODES = 12, ("fast", "exact")


@pytest.fixture(scope="module")
def searched(tmp_path_factory):
    """What came out, by mode; one process forks them all, as importing takes longer than a search."""
    paths = os.pathsep.join([str(HERE.parent), str(HERE.parents[2])])
    done = subprocess.run(
        [sys.executable, HERE / "killed_search.py", tmp_path_factory.mktemp("killed"), str(TIMES), *MODES],
        capture_output=True, text=True, env={**os.environ, "PYTHONPATH": paths},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the children are forked")
@pytest.mark.parametrize("mode", MODES)
def test_a_killed_search_goes_on_and_ends_in_the_same_plan(searched, mode):
    """Twelve times each, 24 in all."""
    found = searched[mode]
    assert len(found["killed"]) == TIMES
    for one in found["killed"]:
        assert one["signal"] == signal.SIGKILL, one
        assert one["same"] and not one["left"], one
    # What was on disk is not done again: the second half of a search is shorter than all of it.
    late = [one for one in found["killed"] if one["moment"] > found["whole"] / 2]
    assert late and all(one["again"] < found["whole"] for one in late)
