"""Corrections inside the file of a smaller encoder, which then needs neither the dense file nor a side file.

A re-fitted matrix stands under the name of the one whose place it took. What comes to removed places has names of its
own, which only Skrr CLIP Loader reads:

    skrr_fitted (metadata)               JSON list of the kept sub-blocks whose output matrix was fitted anew
    skrr_added.<removed place>.<part>    bias, or down and up, as in a side file (see the engine's `side_file`)

The plan inside says that it needs corrections, so that no other reader of such files takes it for a plain one.
"""

import json

import torch

from ....skrr_engine.corrections.found import Corrections
from ....skrr_engine.corrections.side_file import corrections_of, is_place, read_parts
from ....skrr_engine.errors import SkrrError
from ....skrr_engine.files.header import Header
from ....skrr_engine.plans.plan import Plan
from ..clip.correcting import added_in
from ..clip.trees import TextEncoder
from ..encoders import adapter_of

__all__ = ["added_bytes", "baked", "baked_in", "is_added", "is_corrected"]

FITTED_KEY, ADDED = "skrr_fitted", "skrr_added."
MOST_TEXT = 10_000


def baked(encoder: TextEncoder) -> tuple[dict[str, torch.Tensor], dict[str, str], set[str]]:
    """For the file of a corrected encoder: what is added to it by names in the file, the metadata, and the names in its
    state dict of what that stands for."""
    added = added_in(encoder.transformer, encoder.applied)
    tensors = {f"{ADDED}{place}.{part}": t for place, (_, one) in added.items() for part, t in one.tensors.items()}
    paths = tuple(f"{path}." for path, _ in added.values())
    names = {name for name in encoder.transformer.state_dict() if name.startswith(paths)} if paths else set()
    fitted = [index for index in encoder.fitted if encoder.has(index)]
    return tensors, {FITTED_KEY: json.dumps(fitted)}, names


def is_corrected(encoder: TextEncoder) -> bool:
    """Whether the encoder runs with corrections."""
    note = None if encoder.plan is None else encoder.plan.levels[0].corrections
    return note is not None and encoder.slot in note.weights


def is_added(name: str) -> bool:
    """Whether a tensor in a file is none of the encoder's, but comes to a removed place."""
    return name.startswith(ADDED)


def added_bytes(header: Header) -> int:
    """What comes to removed places, in bytes."""
    return sum(entry.bytes for name, entry in header.tensors.items() if is_added(name))


def baked_in(header: Header, plan: Plan, slot: str, transformer) -> Corrections:
    """The corrections inside a file, for the encoder `slot` of `plan`, which `transformer` is, dense. Raises SkrrError
    where they are not sound."""
    level = plan.levels[0]
    adapter, paths = adapter_of(transformer), {id(module): path for path, module in transformer.named_modules()}
    names = {}
    for name in filter(is_added, header.tensors):
        place, _, part = name.removeprefix(ADDED).partition(".")
        if not is_place(place) or part == "matrix":
            raise _damaged(header, f"tensor {name[:40]!r} is for no place of the encoder")
        names[name] = (slot, int(place), part)
    for index in _fitted(header, plan.encoders[slot].architecture.sub_blocks):
        parent, layer = adapter.output(transformer, index)
        name = f"{paths[id(parent)]}.{layer}.weight"
        if name not in header.tensors:
            raise _damaged(header, f"it lacks the fitted matrix {name}")
        names[name] = (slot, index, "matrix")
    parts = read_parts(header, plan, names, _damaged)
    return corrections_of(plan, slot, level.corrections.weights[slot], parts.get(slot, {}))


def _fitted(header: Header, count: int) -> list[int]:
    text = header.metadata.get(FITTED_KEY, "")
    try:
        found = json.loads(text) if len(text) <= MOST_TEXT else None
    except (ValueError, RecursionError):
        found = None
    whole = isinstance(found, list) and all(type(index) is int and 0 <= index < count for index in found)
    if not whole or len(set(found)) != len(found):
        raise _damaged(header, f"its list of fitted sub-blocks is {text[:40]!r}")
    return found


def _damaged(header: Header, what: str) -> SkrrError:
    return SkrrError(
        f"{header.path.name} is damaged: its corrections cannot be read, because {what}. Write the file again."
    )
