"""Loads a CLIP from safetensors files and reads only the tensors that a plan keeps."""

from pathlib import Path

import comfy.sd
import folder_paths

from ....skrr_engine.disk import reading
from ....skrr_engine.errors import PlanError, SkrrError
from ....skrr_engine.plans.plan import Level, Plan
from ....skrr_engine.plans.plan_json import dumps, loads
from ..clip.patching import Applied, Patched, cut_tree
from ..clip.trees import ATTACHMENT, choose_encoder, find_models, tree_family
from ..weights.memory import module_bytes, rest
from .encoder_choice import EncoderFile, find_cuts, open_header, plan_inside
from .filling import fill, outline, runs_where

__all__ = ["CLIP_TYPES", "load_kept"]

# The types of ComfyUI's own CLIP loaders whose trees hold a T5 or CLIP that Skrr can cut, those that this release has.
CLIP_TYPES = tuple(
    name
    for name in (
        *("flux", "sd3", "pixart", "chroma", "sdxl", "stable_diffusion", "wan", "hidream", "mochi", "ltxv"),
        *("hunyuan_video", "cosmos", "cogvideox", "stable_cascade", "stable_audio", "ace"),
    )
    if name == "sdxl" or hasattr(comfy.sd.CLIPType, name.upper())  # SDXL has no type of its own there
)
# What the types must turn out to be, by `tree_family`; the others have a tree of their own.
TREES = {"flux": "flux", "sd3": "sd3", "pixart": "pixart", "chroma": "pixart", "sdxl": "sdxl"}


def load_kept(
    paths: list[Path],
    clip_type: str,
    plan: Plan | None = None,
    level: Level | None = None,
    device: str = "default",
    disable_dynamic: bool = False,
) -> Patched:
    """The CLIP of `paths`, with the cuts of `level` (of `plan`), or of the plan inside a pruned file.

    `device` is "default" or "cpu", as in ComfyUI's loaders. Raises PlanError when no file fits the plan,
    SkrrError for files that cannot be read this way.
    """
    if len(set(paths)) != len(paths):
        raise SkrrError("The same file is chosen twice. Choose one file for each encoder.")
    headers = [open_header(path) for path in paths]
    text = None if plan is None or level is None else dumps(plan.with_levels([level]))
    plan, level = plan_inside(headers, plan) or (plan, level)
    if plan is None or level is None:
        raise SkrrError("None of the files has a plan inside. Connect a plan, or use ComfyUI's own CLIP loader.")
    files = find_cuts(headers, plan, level)
    outlines = [outline(file) for file in files]
    clip = _build(files, outlines, clip_type, device, disable_dynamic)
    _check_type(clip, clip_type, len(paths))
    applied, dense, taken = {}, {}, plan.with_levels([level])
    for slot, cut in level.cuts.items():
        encoder = choose_encoder(clip, slot)
        differences = plan.encoders[slot].architecture.differences(encoder.architecture)
        if differences:
            raise PlanError(f"The files make another encoder {slot} than the plan is for: {'; '.join(differences)}.")
        applied[slot], dense[slot] = Applied(cut, encoder.architecture, taken), module_bytes(encoder.transformer)
    cut_tree(clip.patcher.model, dict(level.cuts))
    fill(clip, files, outlines)
    rest(clip.patcher)
    clip.patcher.size = 0
    clip.patcher.set_attachments(ATTACHMENT, applied)
    clip.patcher.cached_patcher_init = (_reload, (paths, clip_type, text, device))
    kept = {slot: module_bytes(choose_encoder(clip, slot).transformer) for slot in level.cuts}
    for file in files:
        if file.is_pruned:
            # What it lacks has no format of its own: taken as that of the rest.
            shape = applied[file.slot].architecture
            dense[file.slot] = round(kept[file.slot] / (1 - shape.sparsity(level.cuts[file.slot].skip)))
    after = module_bytes(clip.patcher.model)
    return Patched(
        clip=clip,
        plan=plan,
        level=level,
        applied=applied,
        encoder_bytes={slot: (dense[slot], kept[slot]) for slot in level.cuts},
        clip_bytes=(after + sum(dense[slot] - kept[slot] for slot in level.cuts), after),
        shared=None,
    )


def _reload(paths: list[Path], clip_type: str, text: str | None, device: str, disable_dynamic: bool = False):
    """ComfyUI's `cached_patcher_init` factory: the same again, for hooks and several GPUs. `text` is the plan's,
    None where a file brings it."""
    plan = None if text is None else loads(text)
    level = None if plan is None else plan.levels[0]
    return load_kept(paths, clip_type, plan, level, device, disable_dynamic).clip.patcher


def _check_type(clip, clip_type: str, files: int) -> None:
    """ComfyUI guesses what to build from the number and kind of files; a wrong guess would show at sampling."""
    tree = clip.patcher.model
    slots, family = find_models(tree), tree_family(tree)
    if len(slots) != files or TREES.get(clip_type, family) != family:
        raise SkrrError(
            f"Type {clip_type} and these {files} files make a CLIP of type {family} with {', '.join(slots)}. Choose "
            "the type the model needs, and one file for each of its encoders."
        )


def _build(files: list[EncoderFile], outlines: list[dict], clip_type: str, device: str, disable_dynamic: bool):
    """ComfyUI's own loading, from state dicts without data: a CLIP of the right kind and sizes, and without memory."""
    if clip_type not in CLIP_TYPES:
        raise SkrrError(f"The type {clip_type!r} is not one of {', '.join(CLIP_TYPES)}.")
    try:
        with reading("A tokenizer of ComfyUI's", "Update ComfyUI, or install it anew."):
            return comfy.sd.load_text_encoder_state_dicts(
                [dict(state) for state in outlines],
                embedding_directory=folder_paths.get_folder_paths("embeddings"),
                # As ComfyUI's own loaders.
                clip_type=getattr(comfy.sd.CLIPType, clip_type.upper(), comfy.sd.CLIPType.STABLE_DIFFUSION),
                model_options=runs_where([file.header for file in files], device),
                disable_dynamic=disable_dynamic,
            )
    except RuntimeError as error:
        if "size mismatch" not in str(error):
            raise
        names = ", ".join(file.header.path.name for file in files)
        raise SkrrError(f"A tensor of {names} has not the shape that type {clip_type} needs.") from error
