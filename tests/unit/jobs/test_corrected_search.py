"""The search that knows of corrections as a job: its plan names its corrections, and is there with them or not at all;
stopped anywhere it goes on to the same plan."""

from dataclasses import replace

import pytest

from skrr_engine.corrections.side_file import side_file_for
from skrr_engine.corrections.sites import KINDS
from skrr_engine.corrections.stand_ins import fit_stand_ins
from skrr_engine.errors import PlanError, SkrrError
from skrr_engine.events import LevelDone, Phase, Step
from skrr_engine.jobs.corrected_search import find_corrected_plan
from skrr_engine.jobs.settings import Settings
from skrr_engine.measure.execute import assign, encode
from skrr_engine.measure.objective import Objective, Tally
from skrr_engine.measure.projection import no_projection
from skrr_engine.plans.plan_json import CORRECTIONS, dumps, loads
from skrr_engine.search.with_stand_ins import polish, search_with_stand_ins

SMALL = {"bridge, all": replace(KINDS["bridge, all"], rank=3, ridges=(0.1,))}
ASKED = Settings("t5xxl", 0.3, name="fox")


@pytest.fixture
def sets(tiny):
    """sets() -> (searched, fit, selection) on one stack of its own."""

    def make(seed=0):
        stack = tiny.stack(seed=seed)

        def objective(count, prompts):
            made = tiny.rows(count, prompts)
            named = replace(made, prompts=tuple(f"{prompts}: {n}" for n in range(count)))
            return Objective(stack, named, no_projection(("sequence",)))

        return objective(20, 1), objective(150, 2), objective(30, 3)

    return make


def find(sets, side_file, folder=None, settings=ASKED, **more):
    return find_corrected_plan(*sets, settings, side_file, folder, fits=SMALL, fit_folder=folder, **more)


def listen(sets, report):
    for objective in sets:
        objective.report = report


def test_the_plan_is_what_the_search_and_the_fit_find(sets, tmp_path):
    some, path = sets(), tmp_path / "side.safetensors"
    made = find(some, path, record={"search": {"null_weight": 1.0}, "denoiser": {"family": "none"}})
    plan, (level,) = made.plan, made.plan.levels
    searched, fit, selection = some
    stand_ins = fit_stand_ins(fit)
    wanted = polish(searched, stand_ins, search_with_stand_ins(searched, stand_ins, 0.3)[-1])
    assert level.cuts["t5xxl"].skip == wanted.order and level.sparsity >= 0.3
    assert plan.name == "fox" and plan.denoiser == {"family": "none"}
    assert plan.search["mode"] == "corrected" and plan.search["null_weight"] == 1.0
    one = side_file_for(path, level)["t5xxl"].applied(fit.stack)
    tally = Tally(selection)
    for batch in selection.batches:
        tally.add(batch, encode(one.stack, one.assignment, batch))
    assert tally.total().value == pytest.approx(level.discrepancy["value"], rel=1e-9)
    assert tally.total().value < selection.measure(assign(8, wanted.order)).value


def test_no_reader_takes_it_uncorrected(sets, tmp_path):
    text = dumps(find(sets(), tmp_path / "side").plan)
    assert loads(text, {CORRECTIONS}).levels[0].corrections is not None
    with pytest.raises(PlanError, match="corrections"):
        loads(text)


def test_without_corrections_there_is_no_plan(sets, tmp_path, monkeypatch):
    monkeypatch.setitem(SMALL, "bridge, all", replace(SMALL["bridge, all"], sites="none", gaps="bias", ridges=(1e9,)))
    with pytest.raises(SkrrError, match=r"cannot go without\. Give it more prompts, ask for less"):
        find(sets(), tmp_path / "side")
    assert not (tmp_path / "side").exists()


class Stopped(Exception):
    """As a cancel."""


def stop_at(kind, number):
    """A listener that stops at the event of that kind with that number."""
    seen = []

    def report(event):
        if isinstance(event, kind):
            seen.append(event)
            if len(seen) == number:
                raise Stopped

    return report


STOPS = [(Phase, 1), (LevelDone, 1), (LevelDone, 2), (Phase, 3), (Phase, 4), (Step, 30)]


@pytest.mark.parametrize("at", STOPS, ids=str)
def test_stopped_it_goes_on(sets, tmp_path, monkeypatch, at):
    """To the same plan and the same side file; what was measured is not measured again."""
    whole = find(sets(), tmp_path / "whole").plan
    folder = tmp_path / "journal"
    folder.mkdir()
    some = sets()
    listen(some, stop_at(*at))
    with pytest.raises(Stopped):
        find(some, tmp_path / "side", folder)
    assert not (tmp_path / "side").exists()
    again = find(sets(), tmp_path / "side", folder).plan
    assert dumps(again) == dumps(whole)
    assert (tmp_path / "side").read_bytes() == (tmp_path / "whole").read_bytes()

    measured, usual = [], search_with_stand_ins.__globals__["measure_many"]
    monkeypatch.setitem(
        search_with_stand_ins.__globals__, "measure_many", lambda *a: measured.append(a) or usual(*a)
    )
    assert dumps(find(sets(), tmp_path / "third", folder).plan) == dumps(whole) and measured == []


def test_a_larger_target_goes_on_from_a_smaller_one(sets, tmp_path):
    find(sets(), tmp_path / "small", tmp_path)
    more = replace(ASKED, sparsity=0.5)
    found = find(sets(), tmp_path / "large", tmp_path, more).plan
    assert dumps(found) == dumps(find(sets(), tmp_path / "anew", None, more).plan)
    assert len(list(tmp_path.glob("*.json"))) == 1


def test_bytes_are_a_target_too(sets, tmp_path):
    some = sets()
    blocks = some[0].stack.subblocks
    wanted = blocks[0].bytes + blocks[1].bytes + 1
    level = find(some, tmp_path / "side", settings=replace(ASKED, sparsity=0.0, bytes_saved=wanted)).plan.levels[0]
    saved = [blocks[i].bytes for i in level.cuts["t5xxl"].skip]
    assert sum(saved) >= wanted > sum(saved) - max(saved)


def test_bad_input(sets, tmp_path):
    searched, fit, selection = sets()
    with pytest.raises(SkrrError, match="on two encoders"):
        find((sets()[0], fit, selection), tmp_path / "side")
    with pytest.raises(SkrrError, match="20 prompts are in the fit and in the selection"):
        find((searched, searched, searched), tmp_path / "side")
    with pytest.raises(SkrrError, match="cannot be reached"):
        find((searched, fit, selection), tmp_path / "side", settings=replace(ASKED, sparsity=0.999))
