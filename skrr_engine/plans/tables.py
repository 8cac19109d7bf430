"""Plans as text for a terminal."""

import unicodedata

from .plan import Level, Plan

__all__ = ["plan_table", "reuse_pairs"]

BYTES_FP16, BYTES_FP8 = 2, 1


def plan_table(plan: Plan) -> str:
    """The ladder, one line a level, then the re-use pairs and the notes. Kept sizes are of the plan's encoders, if
    all of their parameters were stored in 2 (fp16, bf16) or 1 byte (fp8)."""
    total = sum(info.architecture.total_parameters for info in plan.encoders.values())
    lines = [f"Plan {plan.name!r}"]
    lines += [f"  {slot}: {info.architecture.describe()}" for slot, info in plan.encoders.items()]
    lines.append(f"{'skipped':>8} {'re-used':>8} {'sparsity':>9} {'GB fp16':>10} {'GB fp8':>10}  discrepancy")
    lines.append(_row(0, 0, 0.0, total, "0 (dense)"))
    for level in plan.levels:
        lines.append(
            _row(
                sum(len(cut.skip) for cut in level.cuts.values()),
                sum(len(cut.reuse) for cut in level.cuts.values()),
                level.sparsity,
                total - level.removed_parameters,
                "not measured" if level.discrepancy is None else f"{level.discrepancy['value']:.4g}",
            )
        )
    for level in plan.levels:
        lines += [f"Re-use at {100 * level.sparsity:.2f} %: {text}" for text in reuse_pairs(level)]
    lines += [f"Note: {note}" for note in plan.notes]
    return "\n".join(map(_plain, lines))


def _plain(text: str) -> str:
    """A plan is a stranger's text: no control character of it reaches the terminal."""
    return "".join(" " if unicodedata.category(c) in ("Cc", "Cs") else c for c in text)


def _row(skipped: int, reused: int, sparsity: float, kept: int, discrepancy: str) -> str:
    return (
        f"{skipped:>8} {reused:>8} {100 * sparsity:>7.2f} % {BYTES_FP16 * kept / 1e9:>10.4g} "
        f"{BYTES_FP8 * kept / 1e9:>10.4g}  {discrepancy}"
    )


def reuse_pairs(level: Level) -> list[str]:
    """For each encoder that re-uses, "slot place <- source, …"."""
    return [
        f"{slot} " + ", ".join(f"{place} <- {source}" for place, source in cut.reuse)
        for slot, cut in level.cuts.items()
        if cut.reuse
    ]
