"""What a file says of the free parts that it was written without: their names, types and shapes, and their bytes.

ComfyUI recognises encoders by names and shapes, some of them of parts that are gone. In the file their names are left,
with tensors of no size: ComfyUI's own loader refuses them by their shape, or fails where they are used, instead of
running an encoder with parts that were never filled. Skrr CLIP Loader reads the metadata.
"""

import json

import torch

from ....skrr_engine.errors import SkrrError
from ....skrr_engine.files.header import Header
from ....skrr_engine.files.tensor_reading import DTYPES
from ..clip.free import FreePart

__all__ = ["FREE_KEY", "free_in", "free_metadata", "hub_names"]

FREE_KEY = "skrr_free"
MOST_TENSORS, MOST_SIDES, MOST_SIDE = 20_000, 8, 1 << 32
TYPES = {dtype: name for name, dtype in DTYPES.items()}
# ComfyUI recognises files of these kinds by the names of their publisher, and turns them into its own.
HUB = {"model.lm_head.": "lm_head.", "model.": "model.language_model.", "visual.": "model.visual."}


def hub_names(names) -> dict[str, str]:
    """The encoder's names of tensors -> those in a file, by which ComfyUI recognises the encoder again."""
    names = list(names)
    looks = any(name.startswith("visual.deepstack_merger_list.") for name in names)
    hub = looks and not any(name.startswith("model.layers.49.") for name in names)  # that one has ComfyUI's names
    hub = hub or any(".linear_attn." in name for name in names)
    renamed = {}
    for name in names:
        start = next((start for start in HUB if name.startswith(start)), None) if hub else None
        renamed[name] = name if start is None else HUB[start] + name.removeprefix(start)
    return renamed


def free_metadata(parts: tuple[FreePart, ...], names: dict[str, str]) -> tuple[dict[str, str], dict[str, torch.Tensor]]:
    """For a file written without `parts`: its metadata, and the tensors of no size. `names` are those in the file."""
    gone = [part for part in parts if part.kind != "table"]
    if not gone:
        return {}, {}
    tensors = {names[name]: [TYPES[dtype], list(shape)] for part in gone for name, dtype, shape in part.tensors}
    text = json.dumps({"sizes": {part.kind: part.size for part in gone}, "tensors": tensors})
    return {FREE_KEY: text}, {name: torch.zeros(0, dtype=DTYPES[dtype]) for name, (dtype, _) in tensors.items()}


def free_in(header: Header) -> tuple[dict[str, tuple[str, tuple[int, ...]]], dict[str, int]]:
    """(name -> its type and shape, kind -> its bytes) of the free parts that the file was written without. Raises
    SkrrError where that cannot be read."""
    text = header.metadata.get(FREE_KEY)
    if text is None:
        return {}, {}
    try:
        found = json.loads(text)
        tensors = {name: (dtype, tuple(shape)) for name, (dtype, shape) in found["tensors"].items()}
        sizes = {str(kind): int(size) for kind, size in found["sizes"].items()}
        sound = len(tensors) <= MOST_TENSORS and all(_sound(*entry) for entry in tensors.values())
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
        sound = False
    if not sound:
        raise SkrrError(f"{header.path.name} is damaged: its list of free parts cannot be read. Write it again.")
    return tensors, sizes


def _sound(dtype, shape) -> bool:
    whole = all(isinstance(side, int) and not isinstance(side, bool) and 0 < side <= MOST_SIDE for side in shape)
    return dtype in DTYPES and len(shape) <= MOST_SIDES and whole
