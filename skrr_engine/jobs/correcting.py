"""A level of a plan with its corrections: fitted, put beside the plan as a side file, and named by it."""

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from ..corrections.estimate import estimate_fit, measured_rates
from ..corrections.fit import Fitted, fit_corrections
from ..corrections.side_file import write_side_file
from ..corrections.sites import KINDS, Settings
from ..errors import PlanError, SkrrError
from ..events import Notice
from ..measure.execute import assign
from ..measure.objective import Objective
from ..plans.plan import Level, Plan

__all__ = ["USUAL", "CorrectedPlan", "correct_level", "cost_of"]

# What measured best on the small pipeline, and what needs no byte more (docs/corrections.md).
USUAL = ("bridge, all",)


@dataclass(frozen=True)
class CorrectedPlan:
    """`plan` has the corrected level alone and names the side file, which is there; `kind` is the kind that was taken,
    None where none lowered the discrepancy: then the plan is as it was, and no file was written. `fitted` says, kind by
    kind, what was found, `cost` what was told before it began."""

    plan: Plan
    kind: str | None
    fitted: Mapping[str, Fitted]
    cost: str


def correct_level(
    plan: Plan,
    level: Level,
    slot: str,
    fit: Objective,
    selection: Objective,
    side_file: str | Path,
    kinds: Sequence[str] = USUAL,
    settings: Mapping[str, Settings] = KINDS,
    budget: int | None = None,
    folder: str | Path | None = None,
) -> CorrectedPlan:
    """Fits `level` of `plan` for its encoder `slot`, in each of `kinds` (names in `settings`), and writes the one with
    the lowest discrepancy over `selection` to `side_file`. The discrepancy of the new level is that one: over prompts
    that chose, but that nothing was fitted on. Reports, raises and keeps what it has in `folder` (one below it for each
    kind) as `fit_corrections` does; the first thing it reports is what it will cost."""
    unknown = [kind for kind in kinds if kind not in settings]
    if unknown or not kinds:
        raise SkrrError(f"The kinds of corrections are {list(kinds)}; expected one or more of {', '.join(settings)}.")
    if slot not in level.cuts or level.corrections:
        what = "has corrections already" if level.corrections else f"does not cut encoder {slot!r}"
        raise PlanError(f"This level {what}. Choose a level without corrections that cuts the encoder.")
    cut = level.cuts[slot]
    assignment = assign(len(fit.stack.subblocks), cut.skip, cut.reuse_map)
    cost = cost_of(level, slot, fit, selection, kinds, settings)
    fit.report(Notice(cost))
    fitted = {
        kind: fit_corrections(
            fit, selection, assignment, settings[kind], budget, folder and Path(folder) / kind.replace(", ", "-")
        )
        for kind in kinds
    }
    if folder is not None:
        with contextlib.suppress(OSError):
            Path(folder).rmdir()  # empty by now, unless it holds something of others
    kind = min(fitted, key=lambda one: fitted[one].after.value)
    best = fitted[kind]
    alone = plan.with_levels([level])
    if not best.corrections.tensors:
        return CorrectedPlan(alone, None, fitted, cost)
    note = write_side_file(side_file, alone, {slot: best.corrections})
    corrected = replace(level, discrepancy=best.after.to_json(), corrections=note)
    record = {
        **plan.search,
        "corrections": kind,
        "corrections_fit_prompts": len(fit.calibration.prompts),
        "corrections_selection_prompts": len(selection.calibration.prompts),
        "corrections_discrepancy_before": best.before.value,
    }
    return CorrectedPlan(plan.with_levels([corrected], search=record), kind, fitted, cost)


def cost_of(
    level: Level,
    slot: str,
    fit: Objective,
    selection: Objective,
    kinds: Sequence[str] = USUAL,
    settings: Mapping[str, Settings] = KINDS,
) -> str:
    """What `correct_level` will take, from counted operations, and how long that is at what this machine does at the
    moment: a sentence for people."""
    cut = level.cuts[slot]
    assignment = assign(len(fit.stack.subblocks), cut.skip, cut.reuse_map)
    estimates = [estimate_fit(fit, selection, assignment, settings[kind]) for kind in kinds]
    rates = measured_rates(fit)
    told = [f"{one.describe()}, about {_time(one.seconds(*rates))} at this machine's speed" for one in estimates]
    return f"Fit of the corrections: {'; '.join(told)}."


def _time(seconds: float) -> str:
    size, unit = (3600, "h") if seconds > 5400 else (60, "min") if seconds > 90 else (1, "s")
    return f"{seconds / size:.2g} {unit}"
