"""Puts into a CLIP that was built without data only the tensors that are kept.

ComfyUI allocates an encoder whole before it reads a file, and safetensors maps the file whole: touched or not, Windows
counts both in full. So ComfyUI's loader gets outlines without data first (`outlines.py`). Then the tree is made
smaller, and what is left takes its tensors from the file, each read into memory of its own. Under dynamic VRAM ComfyUI
maps files on purpose, and runs weights from the mapping: there the mapped tensors are put in.
"""

import comfy.model_management as mm
import torch

from ....skrr_engine.errors import SkrrError
from ....skrr_engine.files.header import Header
from ....skrr_engine.files.tensor_reading import DTYPES, TensorReader
from ..weights.file_table import FileRows
from ..weights.weights import is_quantized
from .encoder_choice import EncoderFile
from .outlines import META, Load, as_comfyui_reads, built_as, names_of
from .whole_files import load_whole

__all__ = ["check_whole", "fill", "rows_in_files", "runs_where"]

# By these ComfyUI finds out in which dtype an encoder is built.
TYPICAL = ("encoder.final_layer_norm.weight", "model.norm.weight", "model.layers.0.input_layernorm.weight")
# CLIP files without a text projection are common, and ComfyUI runs them.
OFTEN_ABSENT = frozenset({"text_projection.weight"})


def runs_where(files: list[EncoderFile], device: str) -> dict[str, torch.device]:
    """ComfyUI's model options for a CLIP of these files: built on the meta device, loaded and kept where ComfyUI's
    own loaders would. `device` is "default" or "cpu"."""
    offload = torch.device("cpu") if device == "cpu" else mm.text_encoder_offload_device()
    load = torch.device("cpu") if device == "cpu" else mm.text_encoder_device()
    stored = [file.header.tensors[name].dtype for file in files for name in TYPICAL if name in file.header.tensors]
    dtypes = [mm.text_encoder_dtype(load), *(built_as(DTYPES[name]) for name in stored if name in DTYPES)]
    # ComfyUI does the same while it builds, but would move there what has no data yet.
    if not all(mm.supports_cast(load, dtype) for dtype in dtypes):
        load = offload
    return {"load_device": load, "offload_device": offload, "initial_device": META}


def rows_in_files(tables: list, loads: list[Load]) -> dict[int, FileRows]:
    """For those embedding modules of `tables` that a file holds as they are, by their id: their rows there."""
    ids, found = {id(module) for module in tables}, {}
    for load in loads:
        for path, module in load.module.named_modules():
            name = f"{path}.weight"
            there = load.name_in_file(name) if id(module) in ids and name in load.state else None
            header = load.outline.file.header
            if there is not None and header.tensors[there].shape == tuple(module.weight.shape):
                found[id(module)] = FileRows(header, there)
    return found


def fill(clip, loads: list[Load], in_files: dict[int, FileRows], given: dict[int, torch.Tensor]) -> None:
    """Puts the files' tensors into the CLIP's tree, which was made smaller after it was built from the files' outlines.
    The tables that stay `in_files` (see `rows_in_files`) are left without data. `given` (id of a layer -> its weight)
    were read before, and are not read again."""
    patcher = clip.patcher
    for load in loads:
        for module in load.module.modules():
            if hasattr(module, "factory_kwargs"):
                module.factory_kwargs["device"] = patcher.offload_device  # where a quantised layer puts what it loads
        tables = {f"{path}.weight" for path, module in load.module.named_modules() if id(module) in in_files}
        there = {f"{path}.weight": given.get(id(module)) for path, module in load.module.named_modules()}
        there = {name: weight for name, weight in there.items() if weight is not None}
        load.module.load_state_dict(_kept(load, tables, there, patcher) | there, strict=False, assign=True)


def _kept(load: Load, tables: set[str], there: dict[str, torch.Tensor], patcher) -> dict[str, torch.Tensor]:
    """What `load.module` still has a place for and what is not `there`, with data but for the `tables`, in the dtypes
    that ComfyUI gave it."""
    names = [name for name in _places(load) if name not in there]
    state = {name: load.state[name] for name in names if not load.state[name].is_meta}
    empty = [name for name in names if name not in state and name not in tables]
    if patcher.is_dynamic():  # ComfyUI takes weights as they are mapped, whatever their dtype
        state |= _data(load, empty, {}, _mapped(load.outline.file.header))
        return state | {name: load.state[name] for name in tables}
    plain = {name: p.dtype for name, p in load.module.named_parameters() if not is_quantized(p)}
    dtypes = {name: dtype for name, dtype in plain.items() if dtype.is_floating_point}
    state |= _data(load, empty, dtypes)
    for name, tensor in state.items():
        if tensor.dtype != torch.uint8 or tensor.dim() > 1:  # marks of layers are read where they are
            state[name] = tensor.to(dtypes.get(name, tensor.dtype)).to(patcher.offload_device)
    return state | {name: load.state[name].to(dtypes.get(name, load.state[name].dtype)) for name in tables}


def _places(load: Load) -> list[str]:
    """The names of what `load.module` still has a place for."""
    modules = {path for path, module in load.module.named_modules() if hasattr(module, "weight")}
    named = [*load.module.named_parameters(), *load.module.named_buffers()]
    modules |= {name.rpartition(".")[0] for name, _ in named}
    return [name for name in load.state if name.rpartition(".")[0] in modules]


def _data(load: Load, names: list[str], dtypes: dict, mapped: dict | None = None) -> dict[str, torch.Tensor]:
    """What the file, or what is `mapped` of it, holds for `names`."""
    header = load.outline.file.header
    if load.outline.stored is None:
        there = mapped or _read(header, {name: name for name in header.tensors}, {})
        names_now = zip(header.tensors, names_of(header), strict=True)
        whole = as_comfyui_reads({now: there[name] for name, now in names_now}, header)
        return {name: whole[name] for name in names}
    stored = {name: load.name_in_file(name) for name in names}
    stored = {name: there for name, there in stored.items() if there is not None}  # the others are stand-ins
    return _read(header, stored, dtypes) if mapped is None else {name: mapped[n] for name, n in stored.items()}


def _read(header: Header, stored: dict[str, str], dtypes: dict[str, torch.dtype]) -> dict[str, torch.Tensor]:
    """name -> the tensor that `stored` names, each converted while it is read where `dtypes` has another."""
    with TensorReader(header) as reader:
        return {
            name: reader.read(stored[name], dtypes.get(name) or built_as(reader.dtype(stored[name])))
            for name in sorted(stored, key=lambda name: header.tensors[stored[name]].start)
        }


def _mapped(header: Header) -> dict[str, torch.Tensor]:
    """All tensors as ComfyUI maps them under dynamic VRAM, which reads nothing yet."""
    state = load_whole(header)
    return {name: state[name].to(built_as(state[name].dtype)) for name in header.tensors}


def check_whole(clip, loads: list[Load]) -> None:
    """Every weight must have come from a file: ComfyUI leaves others uninitialised. Raises SkrrError."""
    for load in loads:
        lacking, file = _lacking(load.module, clip.patcher.offload_device), load.outline.file
        if lacking and file.sizes:
            raise SkrrError(
                f"{file.header.path.name} was written without parts that this needs: {len(lacking)} tensors, the first "
                f"{lacking[0]}. Load the whole file, or switch pictures and text_generation off."
            )
        if lacking:
            raise SkrrError(
                f"{file.header.path.name} is not whole: it lacks {len(lacking)} tensors, the first {lacking[0]}. Write "
                "or download it again."
            )
    if lacking := _lacking(clip.patcher.model, clip.patcher.offload_device):
        names = " and ".join(dict.fromkeys(load.outline.file.header.path.name for load in loads))
        raise SkrrError(
            f"{names} do not make the whole of this type's CLIP: {lacking[0]} and {len(lacking) - 1} more tensors are "
            "in none of them. Choose all the files that the type takes."
        )


def _lacking(module, device: torch.device) -> list[str]:
    """The names of the weights below `module` that no file filled. Fills those that files often do not have."""
    lacking = []
    for path, part in module.named_modules():
        # A quantised layer without its weight has none at all.
        if hasattr(part, "factory_kwargs") and getattr(part, "weight", None) is None:
            lacking.append(f"{path}.weight")
        for name, tensor in [*part.named_parameters(recurse=False), *part.named_buffers(recurse=False)]:
            full = f"{path}.{name}".removeprefix(".")
            if not tensor.is_meta:
                continue
            if full in OFTEN_ABSENT:
                value = torch.zeros(tensor.shape, dtype=tensor.dtype, device=device)
                setattr(part, name, torch.nn.Parameter(value, requires_grad=False))
            else:
                lacking.append(full)
    return lacking
