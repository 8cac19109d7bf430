"""From a plan to a corrected one: fit, side file, and the plan that names it."""

import re
from dataclasses import replace

import pytest

from skrr_engine.corrections.side_file import side_file_for
from skrr_engine.corrections.sites import KINDS
from skrr_engine.errors import PlanError, SkrrError
from skrr_engine.events import Notice, Phase
from skrr_engine.jobs.correcting import correct_level
from skrr_engine.measure.execute import assign, encode
from skrr_engine.measure.objective import Objective, Tally
from skrr_engine.measure.projection import no_projection
from skrr_engine.plans.plan import EncoderInfo, Plan, make_cut, make_level
from skrr_engine.plans.plan_json import CORRECTIONS, dumps, loads

SMALL = {name: replace(one, rank=3) for name, one in KINDS.items()}


@pytest.fixture
def case(tiny):
    """(plan of two levels, fit, selection) on one stack."""
    stack = tiny.stack()

    def objective(count, seed):
        made = tiny.rows(count, seed)
        return Objective(
            stack, replace(made, prompts=tuple(f"{seed}: {n}" for n in range(count))), no_projection(("sequence",))
        )

    info = {"t5xxl": EncoderInfo(stack.architecture)}
    levels = tuple(make_level(info, {"t5xxl": make_cut(skip)}) for skip in ((4,), (4, 1)))
    return Plan("found", info, levels, search={"beam": 3}), objective(150, 1), objective(30, 2)


def test_the_corrected_plan_is_applied_as_it_was_measured(case, tmp_path):
    plan, fit, selection = case
    path = tmp_path / "side.safetensors"
    found = correct_level(plan, plan.levels[1], "t5xxl", fit, selection, path, ("next", "bridge, all"), SMALL)
    assert set(found.fitted) == {"next", "bridge, all"}
    assert found.kind == min(found.fitted, key=lambda kind: found.fitted[kind].after.value)
    (level,) = loads(dumps(found.plan), {CORRECTIONS}).levels
    assert level.cuts == plan.levels[1].cuts and found.plan.search["beam"] == 3
    assert found.plan.search["corrections"] == found.kind and found.plan.search["corrections_fit_prompts"] == 150
    one = side_file_for(path, level)["t5xxl"].applied(fit.stack)
    tally = Tally(selection)
    for batch in selection.batches:
        tally.add(batch, encode(one.stack, one.assignment, batch))
    assert tally.total().value == pytest.approx(level.discrepancy["value"], rel=1e-9)
    assert level.discrepancy["value"] < 0.8 * selection.measure(assign(8, (4, 1))).value


def test_the_cost_is_told_before_anything_is_fitted(case, tmp_path):
    """Counted operations, and the time that they take at what this machine does."""
    plan, fit, selection = case
    fit.report = (heard := []).append
    found = correct_level(plan, plan.levels[1], "t5xxl", fit, selection, tmp_path / "side", ("bridge, all",), SMALL)
    first, second = (event for event in heard if isinstance(event, Notice | Phase))
    assert first == Notice(found.cost) and second == Phase("fit", 8)
    assert heard.index(first) < heard.index(second)
    number = r"[\d.e+-]+"
    assert re.fullmatch(
        r"Fit of the corrections: 7 places from [\d,]+ positions of 150 prompts: "
        rf"{number} multiply-adds in the encoder, {number} in float64, "
        rf"[\d.]+ \w+ beside the encoder, about {number} (s|min|h) at this machine's speed\.",
        found.cost,
    )


def test_corrections_that_do_not_help_leave_the_plan_as_it_was(case, tmp_path):
    plan, fit, selection = case
    dead = plan.with_levels([make_level(plan.encoders, {"t5xxl": make_cut((7,))})])  # nothing kept behind it
    found = correct_level(dead, dead.levels[0], "t5xxl", fit, selection, tmp_path / "side", ("next",))
    assert (found.kind, found.plan) == (None, dead) and list(tmp_path.iterdir()) == []


def test_what_cannot_be_corrected_is_a_sentence(case, tmp_path):
    plan, fit, selection = case
    level = plan.levels[0]
    for kinds in ((), ("gain",)):
        with pytest.raises(SkrrError, match=r"expected one or more of bias, bridge, next, all"):
            correct_level(plan, level, "t5xxl", fit, selection, tmp_path / "side", kinds)
    with pytest.raises(PlanError, match="does not cut encoder 'clip_l'"):
        correct_level(plan, level, "clip_l", fit, selection, tmp_path / "side")
    found = correct_level(plan, level, "t5xxl", fit, selection, tmp_path / "side", ("next",))
    with pytest.raises(PlanError, match="has corrections already"):
        correct_level(found.plan, found.plan.levels[0], "t5xxl", fit, selection, tmp_path / "side")
