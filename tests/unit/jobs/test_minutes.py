"""A search within a given time, what is reported of the time left, and how many prompts fit."""

import math
import time

import pytest

from skrr_engine.errors import SkrrError
from skrr_engine.events import LevelDone, Phase, Progress
from skrr_engine.jobs import job
from skrr_engine.jobs.forecast import Forecast
from skrr_engine.jobs.regret import ENOUGH, REGRET, prompts_in_time, regret
from skrr_engine.jobs.search import Settings, find_plan
from skrr_engine.measure.objective import Objective
from skrr_engine.measure.projection import no_projection


def objective_of(tiny, prompts=24, pause=0.0, report=lambda event: None):
    """A tiny T5 over `prompts` prompts, whose every sub-block call waits `pause` seconds."""
    like = tiny.objective(tiny.stack(layers=4, seed=3))
    for block in like.stack.subblocks:

        def residual(hidden, context, inner=block.residual):
            time.sleep(pause)
            return inner(hidden, context)

        object.__setattr__(block, "residual", residual)
    return Objective(like.stack, tiny.rows(prompts), like.projection, report=report)


def test_what_is_found_when_the_time_is_over_is_the_plan(tiny, tmp_path):
    settings = Settings("t5xxl", 0.4, beam=2, minutes=0.03)
    began = time.monotonic()
    plan = find_plan(objective_of(tiny, 200, pause=0.002), settings, tmp_path)
    assert time.monotonic() - began < 20
    assert plan.levels and plan.notes[0].startswith("Searched for at most 0.03 minutes, on ")
    assert "of 200 prompts" in plan.notes[0]
    # The same job again is not searched further.
    events = []
    again = find_plan(objective_of(tiny, 200, report=events.append), settings, tmp_path)
    assert again == plan
    assert {type(event) for event in events} == {LevelDone}


def test_no_level_in_the_time_is_said(tiny, tmp_path):
    with pytest.raises(SkrrError, match=r"0.0001 minutes were over before the first level was found"):
        find_plan(objective_of(tiny, pause=0.01), Settings("t5xxl", 0.4, minutes=0.0001), tmp_path)


def test_enough_time_is_no_limit(tiny):
    """All prompts, the same plan as without a limit."""
    free = find_plan(objective_of(tiny, 8), Settings("t5xxl", 0.3, beam=2))
    timed = find_plan(objective_of(tiny, 8), Settings("t5xxl", 0.3, beam=2, minutes=60))
    assert timed.levels == free.levels
    assert timed.notes == ("Searched for at most 60 minutes, on 8 of 8 prompts.",)


@pytest.mark.parametrize(
    "change, sentence",
    [
        ({"minutes": -1}, "The time is -1 minutes; expected 0"),
        ({"minutes": math.inf}, "The time is inf minutes"),
        ({"mode": "slow"}, "The search mode is 'slow'; expected fast or exact"),
        ({"beam": 0}, "The beam size is 0"),
    ],
)
def test_wrong_settings_are_refused(tiny, change, sentence):
    with pytest.raises(SkrrError, match=sentence):
        find_plan(objective_of(tiny), Settings("t5xxl", **{"sparsity": 0.2, **change}))


def test_prompts_in_time():
    """The most that fit, of the sizes measured; the least where none does; no more than helps."""
    assert prompts_in_time(1000, 100, lambda size: size) == 64
    assert prompts_in_time(1000, 0.5, lambda size: size) == min(REGRET)
    assert prompts_in_time(10, 0.5, lambda size: size) == 10
    assert regret(prompts_in_time(5000, 1e9, lambda size: size)) <= ENOUGH
    assert prompts_in_time(50, 100, lambda size: size) == 50


def test_fewer_prompts_regret_more():
    values = [REGRET[size] for size in sorted(REGRET)]
    assert values == sorted(values, reverse=True)
    assert regret(1) == max(values) and regret(10**6) == min(values)


@pytest.mark.parametrize("mode", ["fast", "exact"])
def test_the_work_left_is_foretold(tiny, mode, monkeypatch):
    """From the third level on within a factor of 3 of what it came to; and it ends at nothing."""
    reported = []

    class Watched(Forecast):
        def finished(self):
            super().finished()
            reported.append((self.run.work, self.work_left()))

    monkeypatch.setattr(job, "Forecast", Watched)
    like = tiny.objective(tiny.stack(layers=8, seed=3))
    objective = Objective(like.stack, tiny.rows(48), like.projection)
    find_plan(objective, Settings("t5xxl", 0.4, beam=2, mode=mode))
    total = reported[-1][0]
    assert reported[-1][1] == 0
    for done, left in reported[2 : len(reported) // 2 + 1]:
        assert 1 / 3 < left / (total - done) < 3


@pytest.mark.parametrize("mode", ["fast", "exact"])
def test_the_work_of_levels_of_dead_sub_blocks_is_foretold(tiny, mode, monkeypatch):
    """Their candidates are one stream up to what is read, and nothing is re-used there."""
    levels = []

    class Watched(Forecast):
        def finished(self):
            phase, size = self.ahead[0]
            before = self.started_at
            super().finished()
            levels.append((phase, size, self.run.work - before, self._predicted(phase, size, len(self.run.order))))

    monkeypatch.setattr(job, "Forecast", Watched)
    objective = Objective(tiny.clip_stack(layers=8, layer=5), tiny.rows(24, pooled=True), no_projection(("sequence",)))
    assert set(objective.dead) == set(range(8, 16))
    asked = []
    objective.report = lambda event: asked.append(event) if isinstance(event, Phase) else None
    find_plan(objective, Settings("clip_l", objective.stack.sparsity(range(4, 16)), beam=2, mode=mode))
    dead = [level for level in levels if level[1] <= 8]
    assert len(dead) == 16
    for phase, size, actual, predicted in dead:
        if phase == "re-use":
            assert actual == predicted == 0, size
        else:
            assert 1 / 2.2 < actual / predicted < 2.2, size
    live = [level for level in levels if level[1] > 8 and level[0] == "skip"]
    done, foretold = (sum(level[n] for level in live) for n in (2, 3))
    assert 1 / 3 < done / foretold < 3
    first = next(event for event in asked if event.name == "skip")
    free = sum((2 if n else 1) * (8 - n) for n in range(8))
    assert first.evaluations - free in range(8, 8 + 4 * (2 * 8 + 16))


def test_progress_says_where_the_search_stands(tiny):
    events = []
    objective = objective_of(tiny, 24, report=events.append)
    plan = find_plan(objective, Settings("t5xxl", 0.3, beam=2))
    reported = [event for event in events if isinstance(event, Progress)]
    done = [event for event in events if isinstance(event, LevelDone)]
    blocks = objective.stack.subblocks
    assert [event.skipped for event in done] == list(range(1, len(plan.levels) + 1))
    for event in done:
        best = event.beams[0]
        assert best.discrepancy == event.discrepancy
        assert event.bytes_saved == sum(blocks[i].bytes for i in best.order)
        assert len(event.beams) <= 2
    for event in reported:
        assert 0 < event.candidates <= event.candidates_at_first
        assert 0 <= event.prompts <= event.prompts_in_all == 24
        assert event.level <= event.levels
        assert event.seconds_left is None or event.seconds_left >= 0
    skip = [event for event in reported if event.phase == "skip"]
    assert (skip[0].best, skip[0].bytes_saved, skip[0].beams) == (None, 0, ())
    assert (skip[-1].best, skip[-1].bytes_saved) == (done[-2].discrepancy, done[-2].bytes_saved)
    assert {event.phase for event in reported} == {"skip", "re-use"}
    assert skip[-1].describe().startswith(f"level {len(done)} of about {skip[-1].levels}, ")
    assert abs(skip[-1].levels - len(done)) <= 1
    assert " to go" in skip[-1].describe()
