"""The text of Skrr Apply's report: what was taken, what it takes now, and what to watch."""

from ....skrr_engine.errors import PlanError
from ....skrr_engine.plans.plan import Level
from ....skrr_engine.plans.plan_text import dumps_level
from ....skrr_engine.plans.sketch import same_weights
from ..clip.patching import Patched
from ..clip.trees import text_encoders, tree_family
from ..denoiser.projections import found_for
from .free_words import free_lines

__all__ = ["report_of", "unchanged_report"]


def report_of(patched: Patched, asked: float | None) -> str:
    """Lines for people; where a plan was applied the last is its level as text to share. `asked` None: a file brought
    its plan, or there is none."""
    lines = free_lines(patched.free, from_files=patched.shared is None)
    if patched.plan is not None:
        lines += _plan_lines(patched, asked)
    before, after = patched.clip_bytes
    lines.append(f"Whole CLIP: {_gb(before)} before, {_gb(after)} after; {_gb(before - after)} saved.")
    if patched.plan is not None:
        lines.append(_discrepancy(patched.level))
    lines.append(_storages(patched))
    lines += _belongs(patched) if patched.plan is not None else []
    if patched.dropped_patches:
        lines.append(
            f"Warning: {len(patched.dropped_patches)} LoRA or merge patches were for removed parts and are left "
            f"out, the first {patched.dropped_patches[0]}."
        )
    if any(applied.cut.reuse for applied in patched.applied.values()):
        lines.append("A re-used sub-block runs with the LoRA of its source.")
    if patched.plan is not None:
        try:
            lines.append(f"To share this level: {dumps_level(patched.plan, patched.level)}")
        except PlanError as error:
            lines.append(str(error))
    return "\n".join(lines)


def _plan_lines(patched: Patched, asked: float | None) -> list[str]:
    """What the plan took, encoder by encoder."""
    plan, level = patched.plan, patched.level
    taken = f"level of {100 * level.sparsity:.2f} % taken"
    inside = asked is None
    lines = [f"Plan {plan.name!r}: {'inside the file' if inside else f'{100 * asked:.2f} % asked'}, {taken}."]
    if asked is not None and not plan.reaches(level, asked):
        lines.append("Note: that level is the plan's largest; what was asked is its share, rounded up.")
    for slot, applied in patched.applied.items():
        cut, (before, after) = applied.cut, patched.encoder_bytes[slot]
        sparsity = 100 * applied.architecture.sparsity(cut.skip)
        lines.append(
            f"{slot}: {len(cut.skip)} of {applied.architecture.sub_blocks} sub-blocks skipped "
            f"({', '.join(map(str, sorted(cut.skip)))}), {sparsity:.2f} % of its parameters."
        )
        pairs = ", ".join(f"{place} <- {source}" for place, source in cut.reuse) or "none"
        lines.append(f"{slot}: re-used {pairs}.")
        if level.corrections is not None and slot in level.corrections.weights:
            lines.append(f"{slot}: corrected, with what was fitted on these very weights.")
        lines.append(f"{slot}: {_gb(before)} before, {_gb(after)} after.")
    return lines


def unchanged_report() -> str:
    """For a CLIP without free parts, where no plan removes more."""
    return "Everything that this CLIP holds is read: it is passed on unchanged."


def _gb(size: int) -> str:
    return f"{size / 1e9:.3f} GB ({size:,} bytes)"


def _discrepancy(level: Level) -> str:
    if level.discrepancy is None:
        return "Discrepancy: not measured."
    found = level.discrepancy
    return (
        f"Discrepancy {found['value']:.4g} (prompts {found['conditional']:.4g}, empty prompt {found['null']:.4g}), "
        f"cosine {found['cosine']:.4g}, empty prompt's norm x {found['null_norm']:.3g}."
    )


def _belongs(patched: Patched) -> list[str]:
    """Whether the plan was found on these weights, and for this kind of model."""
    lines, plan = [], patched.plan
    encoders = text_encoders(patched.clip)
    for slot in patched.applied:
        same = same_weights(plan.encoders[slot].weights_sketch, encoders[slot].sketch)
        if same is None:
            lines.append(f"{slot}: the plan does not say on which weights it was found; not verified on these.")
        elif not same:
            lines.append(
                f"Warning: {slot} has the plan's shape but other weights than plan {plan.name!r} was found on. "
                "Compare pictures, or refine the plan with Skrr Search."
            )
    family, kind = plan.denoiser.get("family"), tree_family(patched.clip.patcher.model)
    if not found_for(family, kind):
        lines.append(f"Warning: plan {plan.name!r} was found for {family}; this CLIP is of type {kind}.")
    return lines


def _storages(patched: Patched) -> str:
    before, after = patched.clip_bytes
    if patched.shared is None:
        return "Memory: only the kept tensors were read."
    if not patched.shared:
        return (
            f"Memory: the kept weights are copies, because this encoder runs where it is stored. While the dense CLIP "
            f"is held too (the loader's output), both take {_gb(before + after)}."
        )
    if patched.clip.patcher.is_dynamic():
        return "Memory: dense and pruned share their storages (dynamic VRAM); both take no more than the dense."
    return (
        f"Memory: dense and pruned share their storages until the pruned one has been on the GPU once; after that "
        f"RAM holds up to {_gb(before + after)} for both while the loader's output is held. VRAM holds the kept bytes."
    )
