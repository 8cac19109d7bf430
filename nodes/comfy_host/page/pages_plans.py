"""A plan as numbers for the page to draw. The page reads no plan text: the engine's reader is the only one."""

from collections.abc import Mapping

from ....skrr_engine.measure.quality import quality_of, turned
from ....skrr_engine.plans.architecture import Architecture
from ....skrr_engine.plans.plan import ROUNDING, WHOLE_PERCENT, Level, Plan

__all__ = ["level_quality", "level_warnings", "plan_page", "slot_page"]

# The empty prompt's features against dense: a quarter longer is far outside what levels of good plans show.
NULL_NORM_HIGH = 1.25
PARTIAL = "(partial)"


def plan_page(plan: Plan) -> dict:
    """What the page draws of `plan`, JSON-able.

    `slots` have the parameters of one attention, one feed-forward and the whole encoder; `levels` are in the order
    in which they reach a target (`level_for` takes the first whose sparsity is at least the target - `rounding`;
    the largest goes for targets up to `beyond` above it),
    with `removed` parameters, `cuts` per slot (skip in the order of removal, reuse as [place, source]), the
    discrepancy's fields or None, the `quality` in words ({text, values}), and warnings as sentences.
    """
    return {
        "name": plan.name,
        "notes": list(plan.notes),
        "denoiser": str(plan.denoiser.get("model") or plan.denoiser.get("family") or ""),
        "rounding": ROUNDING,
        "beyond": WHOLE_PERCENT,
        "slots": [slot_page(slot, info.architecture) for slot, info in plan.encoders.items()],
        "levels": [_level(plan, level) for level in sorted(plan.levels, key=_rank)],
    }


def slot_page(slot: str, architecture: Architecture) -> dict:
    """One encoder of a plan: its layers, and the parameters of a sub-block of each kind and of the whole."""
    return {
        "slot": slot,
        "about": architecture.describe(),
        "layers": architecture.layers,
        "attention": architecture.attention_parameters,
        "feed_forward": architecture.feed_forward_parameters,
        "total": architecture.total_parameters,
    }


def _rank(level: Level) -> tuple[float, float]:
    """The order of `Plan.level_for`."""
    return level.sparsity, (level.discrepancy or {}).get("value", 0.0)


def _level(plan: Plan, level: Level) -> dict:
    return {
        "cuts": {
            slot: {"skip": list(cut.skip), "reuse": [list(pair) for pair in cut.reuse]}
            for slot, cut in level.cuts.items()
        },
        "sparsity": level.sparsity,
        "removed": level.removed_parameters,
        "discrepancy": _plain(level.discrepancy),
        "quality": level_quality(level),
        "warnings": level_warnings(plan, level),
    }


def level_quality(level: Level) -> dict:
    """A sentence and its values, from what the plan's own measurement carries: the features' cosine."""
    if level.discrepancy is None:
        return {"text": "Quality: not measured for this plan. Compare pictures.", "values": {}}
    found = quality_of(turned(level.discrepancy["cosine"]))
    if found.turned < 0.01:
        return {"text": "Quality: the text's features stay as they are, to a hundredth of their size.", "values": {}}
    values = {"lost": found.lost, "low": found.low, "high": found.high}
    text = (
        "Quality: about {lost} of 100 right pictures may be lost ({low} to {high}), measured on the pack's small "
        "pipeline. Compare pictures."
    )
    return {"text": text, "values": {name: f"{100 * share:.0f}" for name, share in values.items()}}


def _plain(discrepancy: Mapping[str, float] | None) -> dict | None:
    return None if discrepancy is None else dict(discrepancy)


def level_warnings(plan: Plan, level: Level) -> list[str]:
    """What to know before this level is used, as sentences; empty when there is nothing."""
    warnings = []
    if plan.name.endswith(PARTIAL):
        warnings.append("This plan is from a search that was cancelled before it reached its target.")
    norm = None if level.discrepancy is None else level.discrepancy["null_norm"]
    if norm is not None and norm > NULL_NORM_HIGH:
        warnings.append(
            f"The empty prompt's features are {norm:.2f} times as long as dense: guidance may overshoot. "
            "Compare pictures, or take a smaller level."
        )
    if any(not _left(plan, slot, cut) for slot, cut in level.cuts.items()):
        warnings.append("This level leaves no attention or no feed-forward at all.")
    return warnings


def _left(plan: Plan, slot: str, cut) -> bool:
    """Whether at least one sub-block of each kind is kept."""
    layers, skipped = plan.encoders[slot].architecture.layers, set(cut.skip)
    return all(len([i for i in skipped if i % 2 == kind]) < layers for kind in (0, 1))
