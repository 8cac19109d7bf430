"""Not a test: run by forked_searches.py for test_ranks.py. Searches alone, then in two forked processes that talk
through gloo, and writes what each of them found into a folder a case."""

import json
import os
import socket
import time
from contextlib import suppress

from conftest import make_objective, make_rows, make_t5

from skrr_engine.encoders.t5 import T5Stack
from skrr_engine.errors import SkrrError
from skrr_engine.events import LevelDone
from skrr_engine.jobs.search import Settings, find_plan
from skrr_engine.measure.objective import Objective
from skrr_engine.measure.ranks import join
from skrr_engine.plans.plan_json import dumps

CASES = {
    "exact": {"mode": "exact"},
    "fast": {"mode": "fast"},
    "resumed": {"mode": "fast"},
    "in time": {"mode": "fast", "minutes": 60},
    "late": {"mode": "fast", "minutes": 0.02},
}
PROMPTS = 24


def objective(pause=0.0):
    like = make_objective(T5Stack(make_t5(layers=4, seed=3)))
    for block in like.stack.subblocks:
        inner = block.residual
        object.__setattr__(block, "residual", lambda h, c, inner=inner: (time.sleep(pause), inner(h, c))[1])
    return Objective(like.stack, make_rows(PROMPTS), like.projection)


def settings(case):
    return Settings("t5xxl", 0.35, beam=2, **CASES[case])


def one_of_two(rank, port, folder, case):
    os.environ |= {
        "RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port), "GLOO_SOCKET_IFNAME": "lo",
    }  # fmt: skip
    # One of them is slower, so that they are not late at the same moment.
    here = objective(pause=0.002 * rank if case == "late" else 0.0)
    here.ranks = join("cpu")
    try:
        plan = json.loads(dumps(find_plan(here, settings(case), folder if case == "resumed" else None)))
    except SkrrError as error:  # too late for any level, on a machine that is busy
        plan = {"notes": [str(error)]}
    found = {"plan": plan, "told": here.ranks.summary(here.applications), "work": here.applications}
    (folder / f"rank {rank}").write_text(json.dumps(found))
    here.ranks.leave()


class Stop(Exception):
    pass


def stop_after_two_levels(event):
    if isinstance(event, LevelDone) and event.skipped == 2:
        raise Stop


def searched(folder, case):
    """The exit codes of the two processes."""
    alone = objective()
    if case != "late":
        plan = find_plan(alone, settings(case))
        (folder / "alone").write_text(json.dumps({"plan": json.loads(dumps(plan)), "work": alone.applications}))
    if case == "resumed":
        begun = objective()
        begun.report = stop_after_two_levels
        with suppress(Stop):
            find_plan(begun, settings(case), folder)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    children = []
    for rank in range(2):
        child = os.fork()
        if not child:
            one_of_two(rank, port, folder, case)
            os._exit(0)
        children.append(child)
    return [os.waitpid(child, 0)[1] for child in children]


def run(folder):
    """The exit codes by case."""
    codes = {}
    for case in CASES:
        (folder / case).mkdir()
        codes[case] = searched(folder / case, case)
    return codes
