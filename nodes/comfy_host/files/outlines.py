"""The outline of a file: its state dict without data, and where what ComfyUI makes of it goes.

ComfyUI's loader recognises and builds an encoder by names, shapes and dtypes. It gets them without data (PyTorch's meta
device), renames what it renames, and hands each part to a module. Tensors without data are told apart by what they are,
not by their names: so every rename of every kind of CLIP and release is followed without knowing one of them.
"""

import json
from dataclasses import dataclass

import comfy.utils
import torch
from torch.overrides import TorchFunctionMode

from ....skrr_engine.errors import SkrrError
from ....skrr_engine.files.header import Header
from ....skrr_engine.files.tensor_reading import DTYPES, TensorReader
from .baked import is_added
from .encoder_choice import EncoderFile

__all__ = ["META", "Load", "Outline", "WithoutData", "as_comfyui_reads", "built_as", "loads_of", "names_of", "outline"]

META = torch.device("meta")
# Where a quantised file keeps the formats of its layers.
QUANTISED = "_quantization_metadata"
# By these ComfyUI knows CLIP files in other names, which it translates as a whole.
OTHER_NAMES = ("transformer.resblocks.0.ln_1.weight", "text_projection")
# Two names of one table in T5 files; ComfyUI reads the second.
TABLE, SHARED = "encoder.embed_tokens.weight", "shared.weight"


@dataclass(frozen=True)
class Outline:
    """A file as ComfyUI's loader sees it: `state` is name -> tensor, those that are weights without data.

    `stored` tells, by the id of a tensor without data, that tensor and the name of the file's that it stands for. Where
    ComfyUI translates a file as a whole, `stored` is None and `state` holds what comes out of that."""

    file: EncoderFile
    state: dict[str, torch.Tensor]
    stored: dict[int, tuple[torch.Tensor, str]] | None


@dataclass(frozen=True)
class Load:
    """What ComfyUI loads into `module` from the file of `outline`: `state` is the module's name -> tensor."""

    module: torch.nn.Module
    state: dict[str, torch.Tensor]
    outline: Outline

    def name_in_file(self, name: str) -> str | None:
        """What the file calls the tensor `name` of the module. None: it is not in the file as it is."""
        return (self.outline.stored or {}).get(id(self.state[name]), (None, None))[1]


class WithoutData(TorchFunctionMode):
    """While ComfyUI builds modules without data and loads outlines into them. What a module counts out when it is made
    (rotary frequencies) stands in no file, so it is computed all the same; and a module that was made with data all
    the same (norms that take no device) keeps it until its own comes from the file."""

    def __torch_function__(self, func, types, args=(), kwargs=None):
        """Calls `func`, changed in these two cases."""
        kwargs = dict(kwargs or {})
        if func is torch.arange and kwargs.get("device") is not None and torch.device(kwargs["device"]) == META:
            kwargs["device"] = "cpu"
        if func is torch.Tensor.copy_ and args[1].is_meta and not args[0].is_meta:
            return args[0]
        return func(*args, **kwargs)


def outline(file: EncoderFile) -> Outline:
    """The outline of `file`. Only what is no weight has data: a tokenizer in the file, single values, the marks of
    quantised layers. What a smaller file lacks is there as in the whole one."""
    header, state, stored = file.header, {}, {}
    with TensorReader(header) as reader:
        for name, ours in zip(header.tensors, names_of(header), strict=True):
            if name in file.stand_ins or is_added(name):
                continue
            shape, dtype = header.tensors[name].shape, built_as(reader.dtype(name))
            if shape in ((), (1,)) or (dtype == torch.uint8 and len(shape) == 1):
                state[ours] = reader.read(name, dtype)
            else:
                state[ours] = torch.empty(shape, dtype=dtype, device=META)
                stored[id(state[ours])] = state[ours], name
    translated = any(name in state for name in OTHER_NAMES)
    # Stand-ins last: a file's list of quantised layers may still name them, and they are plain.
    state = as_comfyui_reads(state, header)
    for name, (dtype, shape) in file.stand_ins.items():
        state[name] = torch.empty(shape, dtype=DTYPES[dtype], device=META)
    return Outline(file, state, None if translated else stored)


def loads_of(clip, states: list[dict], outlines: list[Outline]) -> list[Load]:
    """What ComfyUI loads into the CLIP that it built of `outlines`, and where. `states` are the state dicts as its
    loader left them, under the names of today. Nothing is loaded."""
    modules, loads = list(clip.patcher.model.modules()), []
    for state, of in zip(states, outlines, strict=True):

        def note(module, of=of):
            def load_state_dict(given, *args, **kwargs):
                loads.append(Load(module, dict(given), of))
                return [], []

            return load_state_dict

        for module in modules:
            module.load_state_dict = note(module)
        try:
            clip.load_sd(state | _taken(state, of))
        finally:
            for module in modules:
                del module.load_state_dict
    return loads


def _taken(state: dict, of: Outline) -> dict[str, torch.Tensor]:
    """What ComfyUI's loader took out of the outline's `state` while it loaded that (LTX-2's projection)."""
    left = {id(tensor) for tensor in state.values()}
    return {name: t for name, t in of.state.items() if t.is_meta and id(t) not in left and name not in state}


def built_as(stored: torch.dtype) -> torch.dtype:
    """The dtype that ComfyUI is told. It casts no float64 to any device, and would build on the meta device and then
    move what has no data; nothing computes with the digits that float32 leaves out."""
    return torch.float32 if stored == torch.float64 else stored


def names_of(header: Header) -> list[str]:
    """The names of the header's tensors, in its order, with a T5's embedding under the name that ComfyUI reads."""
    alone = TABLE in header.tensors and SHARED not in header.tensors
    return [SHARED if alone and name == TABLE else name for name in header.tensors]


def as_comfyui_reads(state: dict, header: Header) -> dict:
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
