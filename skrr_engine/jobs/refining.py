"""Refining a plan: its set of skipped sub-blocks stays, re-use is found anew on other weights or prompts."""

from ..errors import PlanError, SkrrError
from ..events import Phase
from ..measure.execute import assign
from ..measure.objective import Objective
from ..measure.sweep import measure_many
from ..plans.plan import Level, Plan, make_cut, make_level
from ..running.run import Run
from ..search.reuse import reuse_for
from .forecast import Forecast
from .job import CHOOSERS
from .making_plans import encoder_infos
from .settings import Settings

__all__ = ["refine_plan"]


def refine_plan(objective: Objective, plan: Plan, settings: Settings, record: dict | None = None) -> Plan:
    """Re-use for the level of `plan` that reaches the target, on this objective's prompts: about 2 evaluations a
    skipped sub-block, fewer in the fast mode, however many minutes that takes. The result holds that level alone, with
    its pairs and its measured discrepancy: nothing is known of the others on these weights. Without re-use it is only
    measured."""
    slot, architecture = settings.slot, objective.stack.architecture
    if slot not in plan.encoders:
        raise PlanError(f"The plan to refine is for {', '.join(plan.encoders)}; the encoder to search is {slot}.")
    if len(plan.encoders) > 1:
        raise PlanError("The plan to refine cuts several encoders; refine a plan of one encoder.")
    differences = plan.encoders[slot].architecture.differences(architecture)
    if differences:
        raise PlanError(f"The plan to refine is for another encoder: {'; '.join(differences)}.")
    level = _first_reached(objective, plan, settings)
    order = level.cuts[slot].skip
    objective.report(Phase("re-use", 2 * len(order) + 1))
    if settings.reuse:
        run = Run(objective, seed=settings.seed, fast=settings.mode == "fast")
        run.phase, run.level, run.levels = "re-use", len(order), len(order)
        forecast = Forecast(run, 1, settings.mode == "fast")
        forecast.expect([("re-use", len(order))])
        run.time_left = forecast.seconds_left
        reuse, found, _ = reuse_for(run, order, CHOOSERS[settings.mode])
    else:
        reuse = {}
        (found,) = measure_many(objective, [assign(len(objective.stack.subblocks), order)]).values()
    encoders = encoder_infos(objective, settings)
    refined = make_level(encoders, {slot: make_cut(order, reuse)}, found.to_json())
    note = f"The level of {100 * level.sparsity:.2f} % of plan {plan.name!r}, measured and refined on these weights."
    return Plan(settings.name, encoders, (refined,), (note,), **(record or {}))


def _first_reached(objective: Objective, plan: Plan, settings: Settings) -> Level:
    """The smallest level of `plan` that reaches both targets."""
    for level in plan.levels:
        if settings.slot in level.cuts and settings.reached(objective.stack, level.cuts[settings.slot].skip):
            return level
    plan.level_for(settings.sparsity)  # says the most there is, where the sparsity is out of reach
    raise SkrrError(f"No level of plan {plan.name!r} saves {settings.bytes_saved / 1e9:.3f} GB; ask for less.")
