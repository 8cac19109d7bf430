"""A plan's levels as text."""

from ..skrr_engine.plan import Plan

__all__ = ["ladder"]


def ladder(plan: Plan) -> str:
    """One line a level: size, discrepancy, re-use."""
    lines = [f"Plan {plan.name!r} for {', '.join(info.architecture.describe() for info in plan.encoders.values())}:"]
    for level in plan.levels:
        skipped = sum(len(cut.skip) for cut in level.cuts.values())
        reused = sum(len(cut.reuse) for cut in level.cuts.values())
        measured = "not measured" if level.discrepancy is None else f"{level.discrepancy['value']:.4g}"
        lines.append(
            f"{100 * level.sparsity:6.2f} %  {skipped:3d} skipped  {reused:3d} re-used  discrepancy {measured}"
        )
    return "\n".join([*lines, *plan.notes])
