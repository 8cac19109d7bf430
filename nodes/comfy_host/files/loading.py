"""Loads a CLIP from safetensors files and reads only the tensors that are needed: none of its free parts, and of the
rest what a plan keeps."""

from dataclasses import replace
from pathlib import Path

import comfy.sd
import folder_paths

from ....skrr_engine.disk import reading
from ....skrr_engine.errors import SkrrError
from ....skrr_engine.plans.plan import Level, Plan
from ....skrr_engine.plans.plan_json import CORRECTIONS, dumps, loads
from ..clip.correcting import check_corrected_level, check_weights, fitted_layers, put_back_matrices, put_matrices
from ..clip.free import FreePart, find_free, take_out
from ..clip.patching import Applied, Patched, cut_tree, freed_with
from ..clip.trees import ATTACHMENT, FREED, encoder_for, find_models, tree_family
from ..weights.file_table import FileRows, FileTable
from ..weights.memory import module_bytes, rest
from .baked import added_bytes, baked_in
from .encoder_choice import EncoderFile, find_cuts, open_header, plan_inside
from .filling import check_whole, fill, rows_in_files, runs_where
from .outlines import Load, Outline, WithoutData, loads_of, outline
from .side_files import corrections_for

__all__ = ["CLIP_TYPES", "load_kept"]

# SDXL has no type of its own in ComfyUI's list. Those that were here first stand first.
FIRST = (
    *("flux", "sd3", "pixart", "chroma", "sdxl", "stable_diffusion", "wan", "hidream", "mochi", "ltxv"),
    *("hunyuan_video", "cosmos", "cogvideox", "stable_cascade", "stable_audio", "ace"),
)
KNOWN = {"sdxl", *(kind.name.lower() for kind in comfy.sd.CLIPType)}
# The types of ComfyUI's own CLIP loaders, those that this release has.
CLIP_TYPES = (*(name for name in FIRST if name in KNOWN), *sorted(KNOWN.difference(FIRST)))
# What the types must turn out to be, by `tree_family`; the others have a tree of their own.
TREES = {"flux": "flux", "sd3": "sd3", "pixart": "pixart", "chroma": "pixart", "sdxl": "sdxl"}


def load_kept(
    paths: list[Path],
    clip_type: str,
    plan: Plan | None = None,
    level: Level | None = None,
    device: str = "default",
    disable_dynamic: bool = False,
    **keep: bool,
) -> Patched:
    """The CLIP of `paths` without its free parts, with the cuts of `level` (of `plan`), or of the plan inside a pruned
    file. `keep` are `pictures` and `text_generation` of `find_free`.

    `device` is "default" or "cpu", as in ComfyUI's loaders. Raises PlanError when no file fits the plan,
    SkrrError for files that cannot be read this way.
    """
    if len(set(paths)) != len(paths):
        raise SkrrError("The same file is chosen twice. Choose one file for each encoder.")
    headers = [open_header(path) for path in paths]
    text = None if plan is None or level is None else dumps(plan.with_levels([level]))
    plan, level = plan_inside(headers, plan) or (plan, level)
    files = find_cuts(headers, plan, level)
    clip, from_files = _build([outline(file) for file in files], clip_type, device, disable_dynamic)
    _check_type(clip, clip_type, files, from_files)
    free, in_files = _free_parts(clip, from_files, keep)
    before = module_bytes(clip.patcher.model)
    dense = {slot: module_bytes(model.transformer) for slot, model in find_models(clip.patcher.model).items()}
    applied = {}
    for slot, cut in level.cuts.items() if level is not None else ():
        applied[slot] = Applied(cut, encoder_for(clip, plan, slot).architecture, plan.with_levels([level]))
    inside, beside = _corrections(clip, files, plan, level)
    for slot, one in (inside | beside).items():
        applied[slot] = replace(applied[slot], fitted=tuple(sorted(one.matrices)))
    clip.patcher.set_attachments(FREED, freed_with(clip, free))
    clip.patcher.set_attachments(ATTACHMENT, applied)
    cut_tree(clip.patcher.model, {slot: found.cut for slot, found in applied.items()}, inside | beside)
    # Corrections know the weights that they are for by all that the plan keeps, read or not.
    late = [part for part in free if part.kind == "layers" and part.slot in beside]
    take_out(clip.patcher.model, [part for part in free if part.kind != "table" and part not in late])
    _fill(clip, from_files, in_files, inside, beside)
    take_out(clip.patcher.model, late)
    tables = [part for part in free if part.kind == "table"]
    take_out(clip.patcher.model, tables, lambda module: FileTable(module, in_files[id(module)]))
    check_whole(clip, from_files)
    rest(clip.patcher)
    clip.patcher.size = 0
    clip.patcher.cached_patcher_init = (_reload, (paths, clip_type, text, device, keep))
    return _patched(clip, files, plan, level, applied, free, before, dense)


def _corrections(clip, files: list[EncoderFile], plan: Plan | None, level: Level | None) -> tuple[dict, dict]:
    """slot -> the corrections inside the files, and slot -> those in the side file that the level names."""
    if level is None or level.corrections is None:
        return {}, {}
    models = find_models(clip.patcher.model)
    inside = {
        file.slot: baked_in(file.header, plan, file.slot, models[file.slot].transformer)
        for file in files
        if file.is_pruned and file.slot in level.corrections.weights
    }
    beside = {} if inside else dict(corrections_for(level))
    check_corrected_level(level, inside or beside)
    return inside, beside


def _fill(clip, from_files: list[Load], in_files: dict[int, FileRows], inside: dict, beside: dict) -> None:
    """Puts the files' tensors in, and the matrices of the corrections; those of a side file once it is clear that the
    file has the weights that they are for."""
    models, given = find_models(clip.patcher.model), {}
    for slot, one in inside.items():
        given |= fitted_layers(models[slot].transformer, one)
    fill(clip, from_files, in_files, given)
    for slot, one in inside.items():
        put_back_matrices(models[slot].transformer, one)
    for slot, one in beside.items():
        check_weights(slot, models[slot].transformer, one.architecture, beside)
        put_matrices(models[slot].transformer, one, own=False)


def _free_parts(clip, from_files: list[Load], keep: dict) -> tuple[tuple[FreePart, ...], dict[int, FileRows]]:
    """The free parts, and the rows of the tables among them, by the module's id. A table that its file does not hold as
    it is read (older names, formats that cross rows) is loaded like all the rest."""
    free = find_free(clip, tables=True, **keep)
    models = find_models(clip.patcher.model)
    tables = {part: models[part.slot].transformer.get_submodule(*part.paths) for part in free if part.kind == "table"}
    in_files = rows_in_files(list(tables.values()), from_files)
    free = [part for part in free if part not in tables or id(tables[part]) in in_files]
    slots = {id(model.transformer): slot for slot, model in models.items()}
    written = {slots[id(load.module)]: load.outline.file.sizes for load in from_files if id(load.module) in slots}
    # What a file was written without has lost its format: its bytes are in the file's metadata.
    return tuple(replace(part, size=written[part.slot].get(part.kind, part.size)) for part in free), in_files


def _patched(clip, files, plan, level, applied, free: tuple[FreePart, ...], before: int, dense: dict) -> Patched:
    """The CLIP with the figures of its report; `before` and `dense` are those of the tree as it was built."""
    models = find_models(clip.patcher.model)
    kept = {slot: module_bytes(models[slot].transformer) for slot in dense}
    for file in files:
        if file.is_pruned:
            # What it lacks has no format of its own: taken as that of the rest.
            shape, cut = applied[file.slot].architecture, level.cuts[file.slot]
            gone = sum(part.size for part in free if part.slot == file.slot) - added_bytes(file.header)
            whole = round((kept[file.slot] + gone) / (1 - shape.sparsity(cut.skip)))
            before, dense[file.slot] = before + whole - dense[file.slot], whole
    smaller = {*applied, *(part.slot for part in free)}
    return Patched(
        clip=clip,
        plan=plan,
        level=level,
        applied=applied,
        encoder_bytes={slot: (dense[slot], kept[slot]) for slot in dense if slot in smaller},
        clip_bytes=(before, module_bytes(clip.patcher.model)),
        shared=None,
        free=free,
    )


def _reload(paths: list[Path], clip_type: str, text: str | None, device: str, keep: dict, disable_dynamic=False):
    """ComfyUI's `cached_patcher_init` factory: the same again, for hooks and several GPUs. `text` is the plan's,
    None where a file brings it or there is none."""
    plan = None if text is None else loads(text, {CORRECTIONS})
    level = None if plan is None else plan.levels[0]
    return load_kept(paths, clip_type, plan, level, device, disable_dynamic, **keep).clip.patcher


def _check_type(clip, clip_type: str, files: list[EncoderFile], from_files: list[Load]) -> None:
    """ComfyUI guesses what to build from the number and kind of files; a wrong guess would show at sampling."""
    tree = clip.patcher.model
    slots, family = find_models(tree), tree_family(tree)
    transformers = {id(model.transformer): slot for slot, model in slots.items()}
    # A module gets the names that it has, and others that it does not know.
    filled = {}
    for load in from_files:
        if load.state.keys() & load.module.state_dict().keys():
            filled.setdefault(id(load.module), []).append(load.outline.file)
    used = {id(file) for found in filled.values() for file in found}
    whole = transformers.keys() <= filled.keys() and all(len(found) == 1 for found in filled.values())
    if not whole or len(used) != len(files) or TREES.get(clip_type, family) != family:
        raise SkrrError(
            f"Type {clip_type} and these {len(files)} files make a CLIP of type {family} with {', '.join(slots)}. "
            "Choose the type the model needs, and one file for each of its encoders."
        )


def _build(outlines: list[Outline], clip_type: str, device: str, disable_dynamic: bool):
    """ComfyUI's own loading, from state dicts without data: a CLIP of the right kind and sizes, and without memory; and
    where its loader puts what the files hold."""
    if clip_type not in CLIP_TYPES:
        raise SkrrError(f"The type {clip_type!r} is not one of {', '.join(CLIP_TYPES)}.")
    states = [dict(of.state) for of in outlines]
    try:
        with reading("A tokenizer of ComfyUI's", "Update ComfyUI, or install it anew."), WithoutData():
            clip = comfy.sd.load_text_encoder_state_dicts(
                states,
                embedding_directory=folder_paths.get_folder_paths("embeddings"),
                # As ComfyUI's own loaders.
                clip_type=getattr(comfy.sd.CLIPType, clip_type.upper(), comfy.sd.CLIPType.STABLE_DIFFUSION),
                model_options=runs_where([of.file for of in outlines], device),
                disable_dynamic=disable_dynamic,
            )
    except RuntimeError as error:
        if "size mismatch" not in str(error):
            raise
        names = ", ".join(of.file.header.path.name for of in outlines)
        raise SkrrError(f"A tensor of {names} has not the shape that type {clip_type} needs.") from error
    return clip, loads_of(clip, states, outlines)
