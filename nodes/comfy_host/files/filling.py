"""Builds a CLIP from files without memory, and puts in only the tensors that are kept.

ComfyUI allocates an encoder whole before it reads a file, and safetensors maps the file whole: touched or not, Windows
counts both in full. So ComfyUI's loader gets a state dict without data first (PyTorch's meta device: names, shapes
and dtypes, by which it recognises and builds the encoder). Then the tree is cut, and what is left takes its tensors
from the file, each read into memory of its own. Under dynamic VRAM ComfyUI maps files on purpose, and runs weights
from the mapping: there the mapped tensors are put in.
"""

import json

import comfy.model_management as mm
import comfy.utils
import torch

from ....skrr_engine.errors import SkrrError
from ....skrr_engine.files.header import Header
from ....skrr_engine.files.tensor_reading import DTYPES, TensorReader
from ..clip.trees import find_models
from ..weights.weights import is_quantized
from .encoder_choice import EncoderFile
from .whole_files import load_whole

__all__ = ["META", "fill", "outline", "runs_where"]

META = torch.device("meta")
# Where a quantised file keeps the formats of its layers, and the mark of the older kind.
QUANTISED, SCALED = "_quantization_metadata", "scaled_fp8"
# By these ComfyUI knows CLIP files in other names, which it translates as a whole.
OTHER_NAMES = ("transformer.resblocks.0.ln_1.weight", "text_projection")
# Two names of one table in T5 files; ComfyUI reads the second.
TABLE, SHARED = "encoder.embed_tokens.weight", "shared.weight"
# CLIP files without a text projection are common, and ComfyUI runs them.
OFTEN_ABSENT = frozenset({"text_projection.weight"})


def outline(file: EncoderFile) -> dict[str, torch.Tensor]:
    """The state dict of `file` without data, for ComfyUI to recognise and build the encoder by. Only what is no
    weight has data: a tokenizer in the file, single values, the marks of quantised layers."""
    header, state = file.header, {}
    with TensorReader(header) as reader:
        for name, ours in zip(header.tensors, _names(header), strict=True):
            shape, dtype = header.tensors[name].shape, _built_as(reader.dtype(name))
            if shape in ((), (1,)) or (dtype == torch.uint8 and len(shape) == 1):
                state[ours] = reader.read(name, dtype)
            else:
                state[ours] = torch.empty(shape, dtype=dtype, device=META)
    stand_ins = {n: torch.empty(shape, dtype=torch.float16, device=META) for n, shape in file.stand_ins.items()}
    # These last: a file's list of quantised layers may still name them, and they are plain.
    return _as_comfyui_reads(state, header) | stand_ins


def runs_where(headers: list[Header], device: str) -> dict[str, torch.device]:
    """ComfyUI's model options for a CLIP of these files: built on the meta device, loaded and kept where ComfyUI's
    own loaders would. `device` is "default" or "cpu"."""
    offload = torch.device("cpu") if device == "cpu" else mm.text_encoder_offload_device()
    load = torch.device("cpu") if device == "cpu" else mm.text_encoder_device()
    norms = [header.tensors.get("encoder.final_layer_norm.weight") for header in headers]
    dtypes = [mm.text_encoder_dtype(load), *(_built_as(DTYPES[norm.dtype]) for norm in norms if norm is not None)]
    # ComfyUI does the same while it builds, but would move there what has no data yet.
    if not all(mm.supports_cast(load, dtype) for dtype in dtypes):
        load = offload
    return {"load_device": load, "offload_device": offload, "initial_device": META}


def fill(clip, files: list[EncoderFile], outlines: list[dict[str, torch.Tensor]]) -> None:
    """Puts the files' tensors into the (cut) tree of `clip`, which was built from their outlines. Raises SkrrError
    when a file does not bring all that its encoder needs."""
    patcher = clip.patcher
    encoders = {slot: model.transformer for slot, model in find_models(patcher.model).items()}
    for file, built_from in sorted(zip(files, outlines, strict=True), key=lambda pair: pair[0].slot is None):
        transformer = encoders.pop(file.slot or _slot_of(file.header, built_from, encoders))
        for module in transformer.modules():
            if hasattr(module, "factory_kwargs"):
                module.factory_kwargs["device"] = patcher.offload_device  # where a quantised layer puts what it loads
        state = _mapped(file) if patcher.is_dynamic() else _read(file, transformer, patcher.offload_device)
        transformer.load_state_dict(state, strict=False, assign=True)
        _check_whole(transformer, file.header, patcher.offload_device)


def _slot_of(header: Header, built_from: dict[str, torch.Tensor], encoders: dict) -> str:
    """Which of the encoders a file was built into: the one that has its shapes."""

    def overlap(slot: str) -> float:
        """The share of names in common, 0 where a shape differs."""
        ours = {name: p.shape for name, p in encoders[slot].named_parameters() if not is_quantized(p)}
        both = ours.keys() & built_from.keys()
        return all(ours[n] == built_from[n].shape for n in both) * len(both) / len(ours.keys() | built_from.keys())

    best = max(encoders, key=overlap)
    if not overlap(best):
        raise SkrrError(
            f"{header.path.name} fits none of the encoders that this type is made of ({', '.join(encoders)}). Choose "
            "one file for each of them."
        )
    return best


def _read(file: EncoderFile, transformer, device: torch.device) -> dict[str, torch.Tensor]:
    """What `transformer` has a place for, in the dtypes that ComfyUI gave it."""
    header = file.header
    plain = {name: p.dtype for name, p in transformer.named_parameters() if not is_quantized(p)}
    dtypes = {name: dtype for name, dtype in plain.items() if dtype.is_floating_point}
    stored = dict(zip(_names(header), header.tensors, strict=True))
    wanted = {name for name in stored if stored[name] not in file.gone}
    if not any(name in stored for name in OTHER_NAMES):
        modules = {path for path, module in transformer.named_modules() if hasattr(module, "weight")}
        modules |= {name.rpartition(".")[0] for name in plain}
        wanted = {name for name in wanted if name.rpartition(".")[0] in modules or name == SCALED}
    state = {}
    with TensorReader(header) as reader:
        for name in sorted(wanted, key=lambda name: header.tensors[stored[name]].start):
            state[name] = reader.read(stored[name], dtypes.get(name)).to(device)
    state = _as_comfyui_reads(state, header)
    return {name: tensor.to(dtypes.get(name, tensor.dtype)) for name, tensor in state.items()}


def _mapped(file: EncoderFile) -> dict[str, torch.Tensor]:
    """All kept tensors as ComfyUI maps them under dynamic VRAM, which reads nothing yet."""
    state = load_whole(file.header)
    names = dict(zip(file.header.tensors, _names(file.header), strict=True))
    state = {names[name]: t.to(_built_as(t.dtype)) for name, t in state.items() if name not in file.gone}
    return _as_comfyui_reads(state, file.header)


def _built_as(stored: torch.dtype) -> torch.dtype:
    """The dtype that ComfyUI is told. It casts no float64 to any device, and would build on the meta device and then
    move what has no data; nothing computes with the digits that float32 leaves out."""
    return torch.float32 if stored == torch.float64 else stored


def _names(header: Header) -> list[str]:
    """The names of the header's tensors, in its order, with a T5's embedding under the name that ComfyUI reads."""
    alone = TABLE in header.tensors and SHARED not in header.tensors
    return [SHARED if alone and name == TABLE else name for name in header.tensors]


def _as_comfyui_reads(state: dict, header: Header) -> dict:
    """`state` under today's names, as ComfyUI's own CLIP loader changes what older files hold: the marks of
    quantised layers (of those that are there), and open_clip's names."""
    metadata = dict(header.metadata)
    if QUANTISED in metadata:
        try:
            listed = json.loads(metadata[QUANTISED])
            listed["layers"] = {name: layer for name, layer in listed["layers"].items() if f"{name}.weight" in state}
        except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
            raise SkrrError(
                f"{header.path.name} is damaged: its list of quantised layers cannot be read. Download it again."
            ) from None
        metadata[QUANTISED] = json.dumps(listed)
    state = comfy.utils.convert_old_quants(state, model_prefix="", metadata=metadata)[0]
    if OTHER_NAMES[0] in state:
        return comfy.utils.clip_text_transformers_convert(state, "", "")
    if OTHER_NAMES[1] in state:
        state["text_projection.weight"] = state.pop(OTHER_NAMES[1]).transpose(0, 1).contiguous()
    return state


def _check_whole(transformer, header: Header, device: torch.device) -> None:
    """Every weight must have come from the file: ComfyUI leaves others uninitialised."""
    lacking = []
    for path, module in transformer.named_modules():
        # A quantised layer without its weight has none at all.
        if hasattr(module, "factory_kwargs") and getattr(module, "weight", None) is None:
            lacking.append(f"{path}.weight")
        for name, tensor in [*module.named_parameters(recurse=False), *module.named_buffers(recurse=False)]:
            full = f"{path}.{name}".removeprefix(".")
            if not tensor.is_meta:
                continue
            if full in OFTEN_ABSENT:
                value = torch.zeros(tensor.shape, dtype=tensor.dtype, device=device)
                setattr(module, name, torch.nn.Parameter(value, requires_grad=False))
            else:
                lacking.append(full)
    if lacking:
        raise SkrrError(
            f"{header.path.name} is not whole: it lacks {len(lacking)} tensors, the first {lacking[0]}. "
            "Write or download it again."
        )
