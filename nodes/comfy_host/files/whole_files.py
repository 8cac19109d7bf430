"""Whole safetensors files by ComfyUI's own reader, which under dynamic VRAM maps them on purpose."""

import comfy.utils
import torch

from ....skrr_engine.disk import reading
from ....skrr_engine.errors import SkrrError
from ....skrr_engine.files.header import Header

__all__ = ["load_whole"]


def load_whole(header: Header) -> dict[str, torch.Tensor]:
    """All tensors of the file by name. Raises SkrrError where it cannot be read, or is no longer that of `header`."""
    with reading(header.path):
        state = comfy.utils.load_torch_file(str(header.path), safe_load=True)
    if state.keys() != header.tensors.keys():
        raise SkrrError(f"{header.path.name} changed while it was read. Try again when nothing writes to it.")
    return state
