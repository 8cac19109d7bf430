"""The commands about plans and files: apply, inspect, presets. None of them loads PyTorch."""

from ..files.files import open_plan, write_pruned
from ..plans.presets import load_preset, preset_names
from ..plans.tables import plan_table, reuse_pairs

__all__ = ["apply", "inspect", "presets"]


def apply(args) -> None:
    """Writes the pruned file and prints what was done."""
    plan = open_plan(args.plan)
    level = plan.level_for(args.sparsity)
    written = write_pruned(args.encoder, args.out, plan.with_levels([level]), overwrite=args.overwrite)
    print(f"Plan {plan.name!r}: {100 * args.sparsity:.2f} % asked, level of {100 * level.sparsity:.2f} % taken.")
    for slot, cut in level.cuts.items():
        shape = plan.encoders[slot].architecture
        print(
            f"{slot}: {len(cut.skip)} of {shape.sub_blocks} sub-blocks skipped "
            f"({', '.join(map(str, sorted(cut.skip))) or 'none'}), {100 * shape.sparsity(cut.skip):.2f} % of its "
            f"parameters, {len(cut.reuse)} of the places re-used."
        )
    for pairs in reuse_pairs(level):
        print(f"Re-used: {pairs}.")
    saved = written.source_bytes - written.target_bytes
    print(
        f"{args.out}: {written.target_bytes:,} bytes, before {written.source_bytes:,}; {saved:,} bytes "
        f"({100 * saved / written.source_bytes:.2f} % of the file) and {len(written.dropped)} tensors less."
    )
    print("Discrepancy: " + ("not measured." if level.discrepancy is None else f"{level.discrepancy['value']:.4g}."))


def inspect(args) -> None:
    """Prints a plan."""
    print(plan_table(open_plan(args.path)))


def presets(args) -> None:
    """Prints what is published."""
    for name in preset_names():
        plan = load_preset(name)
        print(f"{name}: {len(plan.levels)} levels, up to {100 * plan.levels[-1].sparsity:.2f} %")
        print("  " + ", ".join(f"{100 * level.sparsity:.2f}" for level in plan.levels))
    print("These are for T5-XXL (T5 v1.1, 24 layers). There are none for umT5, CLIP or language-model encoders:")
    print("nobody has published any, and a plan of one encoder says nothing about another. Use search.")
