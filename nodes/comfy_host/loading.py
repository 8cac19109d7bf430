"""Loads a CLIP from safetensors files and reads only the tensors that a plan keeps.

ComfyUI's own loader tells encoders apart by a few tensors that a plan may remove. Where one is gone a zero of the
right shape stands in (one element, expanded: no memory); after loading, the skipped sub-blocks are cut out.
"""

import json
import logging
from collections.abc import Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import comfy.memory_management
import comfy.model_management as mm
import comfy.sd
import comfy.utils
import folder_paths
import torch
from safetensors import safe_open

from ...skrr_engine.architecture import Architecture
from ...skrr_engine.errors import PlanError, SkrrError
from ...skrr_engine.files import PLAN_KEY, PREFIXES_KEY, match_encoder
from ...skrr_engine.header import Header, read_header
from ...skrr_engine.plan import Level, Plan
from ...skrr_engine.plan_json import dumps, loads
from ...skrr_engine.tensor_names import find_encoders, tensors_of
from .memory import module_bytes, rest
from .patching import Applied, Patched, cut_tree
from .trees import ATTACHMENT, choose_encoder, find_models, tree_family

__all__ = ["CLIP_TYPES", "load_kept"]

# The types of ComfyUI's own CLIP loaders whose trees hold a T5 or CLIP that Skrr can cut.
CLIP_TYPES = ("flux", "sd3", "pixart", "chroma", "sdxl", "stable_diffusion", "wan", "hidream", "mochi", "ltxv")
# Where a quantised file keeps the formats of its layers.
QUANTISED = "_quantization_metadata"
# What the types must turn out to be, by `tree_family`; the others have a tree of their own.
TREES = {"flux": "flux", "sd3": "sd3", "pixart": "pixart", "chroma": "pixart", "sdxl": "sdxl"}
# CLIP files without a text projection are common, and ComfyUI runs them.
OFTEN_ABSENT = frozenset({"text_projection.weight"})
@dataclass(frozen=True)
class _File:
    """One file. Where its encoder is cut: the slot, the names that are not read, what ComfyUI needs in their place
    to recognise the encoder (name -> shape), and the bytes of the dense encoder."""

    header: Header
    slot: str | None = None
    gone: frozenset[str] = frozenset()
    stand_ins: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    encoder_bytes: int = 0


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
    headers = [_header(path) for path in paths]
    inside = [header for header in headers if PLAN_KEY in header.metadata]
    text = None if plan is None or level is None else dumps(plan.with_levels([level]))
    if inside:
        plan, level = _plan_inside(inside, plan)
    if plan is None or level is None:
        raise SkrrError("None of the files has a plan inside. Connect a plan, or use ComfyUI's own CLIP loader.")
    files = _find_cuts(headers, plan, level)
    clip = _load(files, clip_type, device, disable_dynamic)
    rest(clip.patcher)
    _check_type(clip, clip_type, len(paths))
    applied = {}
    for slot, cut in level.cuts.items():
        shape = choose_encoder(clip, slot).architecture
        differences = plan.encoders[slot].architecture.differences(shape)
        if differences:
            raise PlanError(f"The files make another encoder {slot} than the plan is for: {'; '.join(differences)}.")
        applied[slot] = Applied(cut, shape)
    cut_tree(clip.patcher.model, dict(level.cuts))
    clip.patcher.size = 0
    clip.patcher.set_attachments(ATTACHMENT, applied)
    _check_complete(clip, files)
    clip.patcher.cached_patcher_init = (_reload, (paths, clip_type, text, device))
    dense = {f.slot: f.encoder_bytes for f in files if f.slot}
    after = module_bytes(clip.patcher.model)
    kept = {slot: module_bytes(choose_encoder(clip, slot).transformer) for slot in level.cuts}
    before = after + sum(dense[slot] - kept[slot] for slot in level.cuts)
    return Patched(
        clip=clip,
        plan=plan,
        level=level,
        applied=applied,
        encoder_bytes={slot: (dense[slot], kept[slot]) for slot in level.cuts},
        clip_bytes=(before, after),
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


def _check_complete(clip, files: list[_File]) -> None:
    """Every weight of a cut encoder must come from its file: ComfyUI leaves others uninitialised."""
    for file in files:
        if file.slot is not None:
            wanted = set(choose_encoder(clip, file.slot).transformer.state_dict()) - OFTEN_ABSENT
            wanted = {name for name in wanted if name.endswith((".weight", ".bias"))}
            lacking = sorted(wanted - set(file.header.tensors))
            if lacking:
                raise SkrrError(
                    f"{file.header.path.name} is not whole: it lacks {len(lacking)} tensors, the first {lacking[0]}. "
                    "Write or download it again."
                )


def _header(path: Path) -> Header:
    if path.suffix.lower() not in (".safetensors", ".sft"):
        loader = "ComfyUI-GGUF's loader" if path.suffix.lower() == ".gguf" else "ComfyUI's own CLIP loader"
        raise SkrrError(
            f"{path.name} is no safetensors file, which alone can be read in part. Use {loader}, then Skrr Apply."
        )
    return read_header(path)


def _plan_inside(inside: list[Header], plan: Plan | None) -> tuple[Plan, Level]:
    """The plan of the one pruned file among the files."""
    names = " and ".join(header.path.name for header in inside)
    if len(inside) > 1:
        raise SkrrError(f"{names} are both pruned; only one of the files may be. Load the other one dense.")
    if plan is not None:
        raise SkrrError(f"{names} is pruned already and brings its plan. Disconnect the plan, or load the dense file.")
    found = loads(inside[0].metadata[PLAN_KEY])
    if len(found.levels) != 1:
        raise PlanError(f"{names} holds a plan of {len(found.levels)} levels; a file holds one. Write it again.")
    return found, found.levels[0]


def _find_cuts(headers: list[Header], plan: Plan, level: Level) -> list[_File]:
    """The files, each with what `level` takes out of it. A pruned file's tensors are all kept: none goes."""
    files = {header.path: _File(header) for header in headers}
    for slot, cut in level.cuts.items():
        errors, shape = [], plan.encoders[slot].architecture
        for header in headers:
            if PLAN_KEY in header.metadata:
                _check_prefix(header)
                stand_ins = _stand_ins(shape, lambda name, here=header: name not in here.tensors)
                files[header.path] = _File(header, slot, frozenset(), stand_ins, _dense_bytes(header, plan, slot))
                break
            try:
                encoder = match_encoder(header, plan, slot)
            except PlanError as error:
                errors.append(str(error))
                continue
            if encoder.prefix:
                raise SkrrError(
                    f"{header.path.name} is a checkpoint with the encoder inside. Load it with ComfyUI's own "
                    "checkpoint loader and put Skrr Apply behind it."
                )
            gone = frozenset(tensors_of(encoder.tensors, shape, cut.skip))
            dense = sum(entry.bytes for entry in encoder.tensors.values())
            files[header.path] = _File(header, slot, gone, _stand_ins(shape, gone.__contains__), dense)
            break
        else:
            raise PlanError(errors[0])
    return list(files.values())


def _check_prefix(header: Header) -> None:
    """A file pruned out of a checkpoint keeps the checkpoint's names, which no text-encoder loader knows."""
    prefixes = header.metadata.get(PREFIXES_KEY, "{}")
    if any(encoder.prefix for encoder in find_encoders(header.tensors)):
        raise SkrrError(
            f"{header.path.name} holds its encoder under other names ({prefixes[:80]}): it was pruned out of a "
            "checkpoint. Prune the text-encoder file instead."
        )


def _stand_ins(shape: Architecture, missing) -> dict[str, tuple[int, int]]:
    """The tensors by which ComfyUI tells encoders apart and routes files into a tree of several, those of them
    that are `missing` from the file: name -> shape."""
    block = "encoder.block.{}.layer.{}.{}.weight".format
    inner, wide = shape.heads * shape.head_width, (shape.feed_forward, shape.width)
    if shape.family == "clip":
        marks = {f"text_model.encoder.layers.{n}.mlp.fc1.weight": wide for n in (0, 1, 22, 30) if n < shape.layers}
    else:
        marks = {
            block(0, 0, "SelfAttention.k"): (inner, shape.width),
            block(0, 0, "SelfAttention.o"): (shape.width, inner),
        }
        if shape.layers > 23:
            marks[block(23, 1, "DenseReluDense.wi_1" if shape.gated else "DenseReluDense.wi")] = wide
    return {name: sides for name, sides in marks.items() if missing(name)}


def _dense_bytes(header: Header, plan: Plan, slot: str) -> int:
    """About what a pruned file's encoder took dense: its bytes a parameter, times all parameters."""
    shape = plan.encoders[slot].architecture
    kept = shape.total_parameters - shape.parameters_of(plan.levels[0].cuts[slot].skip)
    return round(sum(entry.bytes for entry in header.tensors.values()) * shape.total_parameters / kept)


def _load(files: list[_File], clip_type: str, device: str, disable_dynamic: bool):
    """ComfyUI's own loading, from state dicts without what goes."""
    if clip_type not in CLIP_TYPES:
        raise SkrrError(f"The type {clip_type!r} is not one of {', '.join(CLIP_TYPES)}.")
    options = {}
    if device == "cpu":
        options["load_device"] = options["offload_device"] = torch.device("cpu")
    # Built on the GPU the dense skeleton would be loaded whole before it is cut.
    options["initial_device"] = options.get("offload_device", mm.text_encoder_offload_device())
    with _without_missing_keys():
        try:
            return comfy.sd.load_text_encoder_state_dicts(
                [_state_dict(file) for file in files],
                embedding_directory=folder_paths.get_folder_paths("embeddings"),
                # As ComfyUI's own loaders: SDXL has no type of its own.
                clip_type=getattr(comfy.sd.CLIPType, clip_type.upper(), comfy.sd.CLIPType.STABLE_DIFFUSION),
                model_options=options,
                disable_dynamic=disable_dynamic,
            )
        except RuntimeError as error:
            if "size mismatch" not in str(error):
                raise
            names = ", ".join(file.header.path.name for file in files)
            raise SkrrError(f"A tensor of {names} has not the shape that type {clip_type} needs.") from error


def _state_dict(file: _File) -> dict[str, torch.Tensor]:
    path = str(file.header.path)
    if comfy.memory_management.aimdo_enabled:
        # Under dynamic VRAM this maps the file and reads nothing yet.
        state, metadata = comfy.utils.load_torch_file(path, return_metadata=True)
        state = {name: tensor for name, tensor in state.items() if name not in file.gone}
    else:
        with safe_open(path, framework="pt", device="cpu") as opened:
            state = {name: opened.get_tensor(name) for name in opened.keys() if name not in file.gone}
            metadata = opened.metadata()
    state = comfy.utils.convert_old_quants(state, model_prefix="", metadata=_known_layers(metadata or {}, state))[0]
    for name, sides in file.stand_ins.items():
        state[name] = torch.zeros(1, dtype=torch.float16).expand(sides)
    return state


def _known_layers(metadata: dict[str, str], state: dict) -> dict[str, str]:
    """A quantised file's own list of its layers, without those that were not read."""
    if QUANTISED not in metadata:
        return metadata
    listed = json.loads(metadata[QUANTISED])
    listed["layers"] = {name: layer for name, layer in listed["layers"].items() if f"{name}.weight" in state}
    return {**metadata, QUANTISED: json.dumps(listed)}


@contextmanager
def _without_missing_keys():
    """Inside, ComfyUI does not warn of the keys that were left out on purpose."""

    def keep(record: logging.LogRecord) -> bool:
        return not str(record.msg).startswith("clip missing")

    logging.getLogger().addFilter(keep)
    try:
        yield
    finally:
        logging.getLogger().removeFilter(keep)
