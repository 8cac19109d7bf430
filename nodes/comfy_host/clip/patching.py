"""Free parts and plan level -> smaller CLIP: a structural clone without them, in a patcher and CLIP of its own."""

import copy
import uuid
from dataclasses import dataclass

import comfy.model_management as mm
from comfy.patcher_extension import CallbacksMP
from comfy.utils import get_attr, set_attr

from ....skrr_engine.errors import PlanError, SkrrError
from ....skrr_engine.plans.architecture import Architecture
from ....skrr_engine.plans.plan import Cut, Level, Plan, make_cut
from ..encoders import adapter_of, has_layer
from ..weights.memory import module_bytes, rest
from ..weights.weights import rewrap
from .cloning import structural_clone
from .correcting import (
    NO_CORRECTIONS,
    CorrectionsBySlot,
    added_modules,
    check_corrected_level,
    check_weights,
    put_matrices,
    refuse_second,
)
from .free import FreePart, parts_of, take_out
from .leaks import refuse_leaks
from .trees import ATTACHMENT, FREED, Freed, TextEncoder, choose_encoder, encoder_for, find_models, text_encoders

__all__ = ["Applied", "Patched", "apply_level", "cut_tree", "freed_with", "make_smaller"]


@dataclass(frozen=True)
class Applied:
    """What was done to one encoder: remembered on the patcher, so that it survives its clones. `plan` has the one
    level that was applied last; `fitted` are the kept sub-blocks whose output matrix was exchanged."""

    cut: Cut
    architecture: Architecture
    plan: Plan
    fitted: tuple[int, ...] = ()


@dataclass(frozen=True)
class Patched:
    """A smaller CLIP and the figures of its report. Bytes are weights in their storage format, (before, after), as
    ComfyUI loads them; `plan` and `level` are None where only `free` parts were taken out.

    `shared` tells whether dense and pruned use the same storages; None where no dense CLIP was loaded at all.
    """

    clip: object
    plan: Plan | None
    level: Level | None
    applied: dict[str, Applied]
    encoder_bytes: dict[str, tuple[int, int]]
    clip_bytes: tuple[int, int]
    shared: bool | None
    dropped_patches: tuple[str, ...] = ()
    free: tuple[FreePart, ...] = ()


def apply_level(clip, plan: Plan, level: Level, corrections: CorrectionsBySlot = NO_CORRECTIONS) -> Patched:
    """`clip` with the cuts of `level` and its corrections, and nothing else. See `make_smaller`."""
    return make_smaller(clip, plan, level, corrections=corrections)


def make_smaller(
    clip,
    plan: Plan | None = None,
    level: Level | None = None,
    free: tuple = (),
    corrections: CorrectionsBySlot = NO_CORRECTIONS,
) -> Patched:
    """`clip` with the cuts of `level`, with the `corrections` that it cannot do without (slot -> Corrections), and
    without the `free` parts (FreePart). The given CLIP stays as it is and keeps working beside the result.

    Raises PlanError when the plan or its corrections are for another encoder, SkrrError when the CLIP cannot be cut.
    Applied to an already cut CLIP the result is that of both plans; places named by the later one follow it.
    """
    earlier = clip.patcher.get_attachment(ATTACHMENT) or {}
    now = {} if level is None else _check(clip, plan, level, corrections)
    patcher = clip.patcher
    if any(patcher.injections.values()):
        raise SkrrError(
            "This CLIP carries a bypass LoRA, which is tied to the dense encoder's modules. "
            "Put Skrr Apply before the node that loads that LoRA."
        )
    rest(patcher)
    dense_tree = patcher.model
    dense_bytes = {slot: module_bytes(encoder.transformer) for slot, encoder in text_encoders(clip).items()}
    before = module_bytes(dense_tree)
    shared = _may_share(patcher)
    for slot in corrections:
        encoder = choose_encoder(clip, slot)
        check_weights(slot, encoder.transformer, encoder.architecture, corrections)
    removed = _removed_parameters(clip, level) | parts_of(dense_tree, free)
    tree = structural_clone(dense_tree, lambda parameter: not shared and id(parameter) not in removed)
    cuts = {slot: applied.cut for slot, applied in now.items()}
    _make_smaller(tree, cuts, free, corrections, own=not shared)
    pruned, dropped = _new_patcher(patcher, tree, (cuts, free, corrections), shared)
    pruned.set_attachments(ATTACHMENT, {**earlier, **now})
    pruned.set_attachments(FREED, freed_with(clip, free))
    result = copy.copy(clip)  # not clip.clone(): a clone thrown away later drops pinned buffers it shares
    result.patcher, result.cond_stage_model = pruned, tree
    result.tokenizer_options = clip.tokenizer_options.copy()
    refuse_leaks(result, dense_tree)
    kept = {slot: module_bytes(encoder.transformer) for slot, encoder in text_encoders(result).items()}
    smaller = {*cuts, *(part.slot for part in free)}
    return Patched(
        clip=result,
        plan=plan,
        level=level,
        applied=now,
        encoder_bytes={slot: (dense_bytes[slot], kept[slot]) for slot in dense_bytes if slot in smaller},
        clip_bytes=(before, module_bytes(tree)),
        shared=shared,
        dropped_patches=dropped,
        free=free,
    )


def freed_with(clip, free: tuple[FreePart, ...]) -> dict[str, Freed]:
    """What is gone of each encoder, that of an earlier Skrr Apply included, with its shape when it was whole."""
    freed = dict(clip.patcher.get_attachment(FREED) or {})
    encoders = text_encoders(clip)
    for slot in dict.fromkeys(part.slot for part in free):
        encoder, parts = encoders[slot], tuple(part for part in free if part.slot == slot)
        earlier = freed[slot].parts if slot in freed else ()
        architecture = None if encoder.adapter is None else encoder.architecture
        freed[slot] = Freed(architecture, earlier + parts)
    return freed


def _check(clip, plan: Plan, level: Level, corrections: CorrectionsBySlot) -> dict[str, Applied]:
    """The cuts of `level` joined with those made earlier, each against the encoder it is for."""
    check_corrected_level(level, corrections)
    found = {}
    for slot, cut in level.cuts.items():
        encoder = encoder_for(clip, plan, slot)
        refuse_second(encoder, slot in corrections)
        fitted = tuple(sorted(corrections[slot].matrices)) if slot in corrections else ()
        found[slot] = Applied(_join(encoder, cut), encoder.architecture, plan.with_levels([level]), fitted)
    return found


def _join(encoder: TextEncoder, cut: Cut) -> Cut:
    """`cut` after the cut that an earlier Skrr Apply made."""
    earlier = encoder.applied
    joined = cut
    if earlier is not None:
        skip = earlier.skip + tuple(i for i in cut.skip if i not in earlier.skip)
        joined = make_cut(skip, {k: v for k, v in earlier.reuse if k not in cut.skip} | cut.reuse_map)
    try:
        joined.check(encoder.architecture.sub_blocks)
    except PlanError as error:
        before = "" if earlier is None else " together with the earlier Skrr Apply; apply one plan only"
        raise PlanError(f"The plan does not fit{before}: {error}") from None
    return joined


def _may_share(patcher) -> bool:
    """Whether dense and pruned may use the same storages. Hooks write into weights in place: where a model runs
    in the very memory it rests in (CPU), or already carries hooks, the kept tensors are copied."""
    if patcher.forced_hooks is not None or patcher.hook_patches:
        return False
    return patcher.is_dynamic() or patcher.load_device != patcher.offload_device


def _removed_parameters(clip, level: Level | None) -> set[int]:
    """ids of the parameters and buffers that the level drops: they need no copy."""
    removed = set()
    for slot, cut in level.cuts.items() if level is not None else ():
        encoder = choose_encoder(clip, slot)
        for index in cut.skip:
            if encoder.has(index) and (encoder.applied is None or index not in encoder.applied.skip):
                for part in encoder.adapter.parts(encoder.transformer, index):
                    removed.update(id(tensor) for tensor in (*part.parameters(), *part.buffers()))
    return removed


def cut_tree(
    tree, cuts: dict[str, Cut], corrections: CorrectionsBySlot = NO_CORRECTIONS, own: bool = True
) -> None:
    """Replaces the skipped sub-blocks of a tree that is ours alone, by what the corrections add where there are any;
    `own`: over storages that nothing else uses. Matrices are not put in."""
    for slot, sd_model in find_models(tree).items():
        if slot in cuts:
            transformer = sd_model.transformer
            skip = [index for index in cuts[slot].skip if has_layer(transformer, index // 2)]
            added = added_modules(cuts[slot], corrections.get(slot), own)
            adapter_of(transformer).cut(transformer, skip, cuts[slot].reuse_map, added)


def _make_smaller(
    tree, cuts: dict[str, Cut], free: tuple[FreePart, ...], corrections: CorrectionsBySlot, own: bool
) -> None:
    """Cuts before free parts: a plan may name sub-blocks of layers that go whole."""
    for slot, sd_model in find_models(tree).items():
        if slot in corrections and slot in cuts:
            put_matrices(sd_model.transformer, corrections[slot], own)
    cut_tree(tree, cuts, corrections, own)
    take_out(tree, free)


def _new_patcher(source, tree, smaller: tuple, shared: bool):
    """A patcher around `tree` that carries `source`'s patches and options but none of its load state, and the
    patched keys that no longer have a place. `smaller`: cuts, free parts and corrections, for building it anew."""
    patcher = source.clone(model_override=(tree, ({}, {}, {}, set())))
    # clone() takes these over from the dense patcher, where they speak of the dense tree.
    patcher.size = 0
    patcher.parent = None
    patcher.patches_uuid = uuid.uuid4()
    if hasattr(patcher, "clone_base_uuid"):
        patcher.clone_base_uuid = uuid.uuid4()
    patcher.hook_backup, patcher.cached_hook_patches, patcher.current_hooks = {}, {}, None
    tree.device = patcher.offload_device
    keys = set(tree.state_dict().keys())
    dropped = tuple(sorted(key for key in patcher.patches if key not in keys))
    patcher.patches = {key: value for key, value in patcher.patches.items() if key in keys}
    before, after = dict(source.model.named_modules()), dict(tree.named_modules())
    patcher.object_patches = {k: v for k, v in patcher.object_patches.items() if _has_place(k, before, after)}
    patcher.weight_wrapper_patches = {k: v for k, v in patcher.weight_wrapper_patches.items() if k in keys}
    patcher.hook_patches = {
        hook: {key: value for key, value in patches.items() if key in keys}
        for hook, patches in patcher.hook_patches.items()
    }
    if source.cached_patcher_init is not None:
        # ComfyUI rebuilds a model from its file for hooks, torch.compile and several GPUs; inherited unchanged
        # this would bring the dense encoder back.
        patcher.cached_patcher_init = (_rebuild, (source.cached_patcher_init, *smaller))
    if shared and not patcher.is_dynamic():
        patcher.add_callback_with_key(CallbacksMP.ON_REGISTER_ALL_HOOK_PATCHES, ATTACHMENT, _part_hooked_storages)
        patcher.add_callback_with_key(CallbacksMP.ON_LOAD, ATTACHMENT, _take_back_hooks_on_the_dense)
    patcher.model_size()
    return patcher, dropped


def _part_hooked_storages(patcher, *_):
    """ComfyUI calls this when hooks are set on the pruned CLIP. Under little VRAM a weight may be run from where it
    is stored, and hooks write into it in place: those weights get a storage of their own, apart from the dense's."""
    rest(patcher)
    for key in {key for patches in patcher.hook_patches.values() for key in patches}:
        set_attr(patcher.model, key, rewrap(get_attr(patcher.model, key), share=False))


def _take_back_hooks_on_the_dense(patcher, *_):
    """ComfyUI calls this when the pruned CLIP is loaded. Hooks set on the dense one may stand in weights that both
    use; ComfyUI puts them in again when the dense is used again."""
    for loaded in mm.current_loaded_models:
        if loaded.model is not None and loaded.model is not patcher and loaded.model.is_clip:
            loaded.model.unpatch_hooks()


def _has_place(path: str, before: dict, after: dict) -> bool:
    """Whether what an object patch replaces, and what holds it, is in the cut tree still what it was."""
    return all(type(before.get(p)) is type(after.get(p)) for p in (path, path.rpartition(".")[0]))


def _rebuild(
    dense_init, cuts: dict[str, Cut], free: tuple[FreePart, ...], corrections: CorrectionsBySlot, **options
):
    """Loads the dense encoder as its loader did and cuts it: ComfyUI's `cached_patcher_init` factory."""
    factory, arguments, *index = dense_init
    result = factory(*arguments, **options)
    patcher = result[index[0]] if index else result
    rest(patcher)
    for slot, sd_model in find_models(patcher.model).items():  # the file may be another one by now
        if slot in corrections:
            check_weights(slot, sd_model.transformer, corrections[slot].architecture, corrections)
    _make_smaller(patcher.model, cuts, free, corrections, own=not _may_share(patcher))
    patcher.size = 0
    return patcher
