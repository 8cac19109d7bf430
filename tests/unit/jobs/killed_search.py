"""Not a test: run by forked_searches.py for test_killed.py. Searches in forked children that kill themselves with
SIGKILL at a random moment (an event, or around the rename of a file), then once more to the end, and tells what came
out."""

import os
import random
import signal

from conftest import make_objective, make_rows, make_t5

from skrr_engine.encoders.t5 import T5Stack
from skrr_engine.jobs.search import Settings, find_plan
from skrr_engine.measure.objective import Objective
from skrr_engine.plans.plan_json import dumps, loads

PROMPTS = 4
TIMES, MODES = 12, ("fast", "exact")


def search(path, mode, report):
    like = make_objective(T5Stack(make_t5(layers=3, seed=3)))
    objective = Objective(like.stack, make_rows(PROMPTS), like.projection, report=report)
    return dumps(find_plan(objective, Settings("t5xxl", 0.35, beam=2, mode=mode), path))


def alike(found, expected):
    """Equal but for the last bits of D: on some processors those of a product depend on which rows share its call, and
    a killed search has some of the rows on disk."""
    if len(found.levels) != len(expected.levels):
        return False
    for one, other in zip(found.levels, expected.levels, strict=True):
        far = [abs(value - other.discrepancy[name]) > 1e-12 * abs(value) for name, value in one.discrepancy.items()]
        if any(far) or one.cuts != other.cuts:
            return False
    return found.with_levels(expected.levels) == expected


class Moments:
    """Counts moments, and kills this process at number `last`."""

    def __init__(self, last=None):
        self.count, self.last = 0, last

    def __call__(self, *_):
        self.count += 1
        if self.count == self.last:
            os.kill(os.getpid(), signal.SIGKILL)

    def around(self, function):
        def wrapped(*args):
            self()
            function(*args)
            self()

        return wrapped


def in_child(path, mode, last):
    """The signal that ended a search with `last` moments to live."""
    child = os.fork()
    if not child:
        moments = Moments(last)
        os.replace, os.fsync = moments.around(os.replace), moments.around(os.fsync)
        search(path, mode, moments)
        os._exit(0)
    return os.WTERMSIG(os.waitpid(child, 0)[1])


def searched(folder, times, mode):
    """How long a whole search is, and what became of each that was killed."""
    folder.mkdir(parents=True)
    sampler = random.Random(5)
    whole = Moments()
    os_replace, os_fsync = os.replace, os.fsync
    os.replace, os.fsync = whole.around(os_replace), whole.around(os_fsync)
    expected = search(folder / "whole.json", mode, whole)
    os.replace, os.fsync = os_replace, os_fsync
    found = []
    for number in range(times):
        path = folder / f"{number}.json"
        moment = sampler.randrange(1, whole.count + 1)
        ended = in_child(path, mode, moment)
        again = Moments()
        same = alike(loads(search(path, mode, again)), loads(expected))
        found.append({"moment": moment, "signal": ended, "same": same, "again": again.count})
        found[-1]["left"] = len(list(folder.glob(f".{number}.json.*")))
    return {"whole": whole.count, "killed": found}


def run(folder):
    """What came out, by mode."""
    return {mode: searched(folder / mode, TIMES, mode) for mode in MODES}
