"""Which plan an encoder gets where nobody connects one: the best at hand, published or found here."""

import logging
from collections.abc import Iterator

from ....skrr_engine.errors import PlanError, SkrrError
from ....skrr_engine.plans.plan import Level, Plan
from ....skrr_engine.plans.presets import load_preset, preset_names
from ....skrr_engine.plans.sketch import same_weights
from ..clip.trees import text_encoders, tree_family
from ..denoiser.projections import found_for
from .folders import list_plans, load_plan
from .side_files import has_side_file

__all__ = ["best_plan", "may_be_chosen", "named_plan"]


def named_plan(name: str) -> Plan:
    """The published plan `name`, or the one in the file `name` of models/skrr."""
    return load_preset(name) if name in preset_names() else load_plan(name)


def best_plan(clip, sparsity: float) -> Plan:
    """The plan to take `sparsity` of out of `clip`. Of those of the encoders' shapes, found for this kind of CLIP and
    on no weights that are known to be others, with a level that goes so far: first one found on these very weights,
    then the one with the lowest discrepancy there; published ones, which this pack has not measured, come last.

    Raises SkrrError where there is none."""
    encoders, kind = text_encoders(clip), tree_family(clip.patcher.model)
    known = (plan for plan in _at_hand() if found_for(plan.denoiser.get("family"), kind) and _fits(plan, encoders))
    fitting = [usable for plan in known if (usable := _usable(plan)) is not None]
    if not fitting:
        shapes = ", ".join(encoder.describe() for encoder in encoders.values()) or "no text encoder"
        raise SkrrError(
            f"There is no plan at hand for this CLIP ({kind}: {shapes}): none is published, and none in models/skrr "
            "fits. Set sparsity to 0, and only what no picture reads is removed; or find a plan with Skrr Search."
        )
    reaching = [(plan, level) for plan in fitting if (level := _level(plan, sparsity)) is not None]
    if not reaching:
        furthest = max(fitting, key=lambda plan: plan.levels[-1].sparsity)
        raise SkrrError(
            f"No plan at hand for this CLIP goes to {100 * sparsity:.2f} %: {furthest.name!r} goes furthest, to "
            f"{100 * furthest.levels[-1].sparsity:.2f} %. Ask for that or less, or search for a larger one."
        )
    return min(reaching, key=lambda found: _rank(*found, encoders))[0]


def may_be_chosen(kind: str, published: Plan) -> bool:
    """Whether a plan of models/skrr may come before `published` at a CLIP of this kind: then it is known only when the
    weights are at hand."""
    shapes = {slot: info.architecture for slot, info in published.encoders.items()}
    return any(
        found_for(plan.denoiser.get("family"), kind)
        and all(slot in shapes and not shapes[slot].differences(i.architecture) for slot, i in plan.encoders.items())
        for plan in _files()
    )


def _at_hand() -> Iterator[Plan]:
    yield from _files()
    yield from map(load_preset, preset_names())


def _files() -> Iterator[Plan]:
    """The plans in models/skrr; a file that is none must not keep the others from being chosen."""
    for name in list_plans():
        try:
            yield load_plan(name)
        except SkrrError as error:
            logging.warning("Skrr: %s in models/skrr is left out: %s", name, error)


def _fits(plan: Plan, encoders: dict) -> bool:
    """Whether its encoders are in the CLIP: the shape, and no weights that are known to be others."""
    for slot, info in plan.encoders.items():
        encoder = encoders.get(slot)
        if encoder is None or encoder.adapter is None or info.architecture.differences(encoder.architecture):
            return False
        if same_weights(info.weights_sketch, encoder.sketch) is False:
            return False
    return True


def _usable(plan: Plan) -> Plan | None:
    """`plan` with the levels of which all is here that they cannot do without; None where there is no such level."""
    levels = [one for one in plan.levels if one.corrections is None or has_side_file(one.corrections)]
    return plan.with_levels(levels) if levels else None


def _level(plan: Plan, sparsity: float) -> Level | None:
    """The level that reaches `sparsity`, if there is one."""
    try:
        return plan.level_for(sparsity)
    except PlanError:
        return None


def _rank(plan: Plan, level: Level, encoders: dict) -> tuple[bool, float]:
    """The lower the better."""
    same = [same_weights(info.weights_sketch, encoders[slot].sketch) for slot, info in plan.encoders.items()]
    measured = (level.discrepancy or {}).get("value", float("inf"))
    return not all(same), measured
