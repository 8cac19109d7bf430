"""Corrections on disk: a side file beside a plan, safetensors, strict on both ways because it comes from strangers.

Normative, version 1. The metadata has exactly these texts:

    skrr_corrections        "1"
    skrr_corrected_plan     plan JSON (see `plans/plan_json`) of one level without corrections: what they are for
    skrr_corrected_weights  JSON {slot: digest of the weights they were fitted on}, for one to all encoders of the level

and the tensors are, in F16, BF16, F32 or F64 and all of them finite, with `width` etc. of the plan's encoder:

    <slot>/<kept sub-block>/matrix    (width, inputs of its output matrix), in place of its own output matrix
    <slot>/<removed place>/bias       (width,)
    <slot>/<removed place>/down, up   (rank, width + 1) and (width, rank): a bridge, rank at most width

A kept sub-block that is re-used elsewhere has no matrix; a place has a bias or a bridge. A reader MUST refuse
everything else, and weights with another digest. A plan that needs corrections names the SHA-256 of the whole file.
"""

import hashlib
import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from ..disk import new_file, reading, writing
from ..errors import PlanError, SkrrError
from ..files.header import Header, read_header
from ..files.tensor_reading import TensorReader
from ..plans.architecture import Architecture
from ..plans.plan import Cut, Level, Plan, SideFileNote
from ..plans.plan_json import dumps, loads
from .added import Bias, Bridge
from .found import Corrections

__all__ = [
    "DIGITS",
    "SideFile",
    "corrections_of",
    "is_place",
    "keep_beside",
    "read_parts",
    "read_side_file",
    "side_file_for",
    "write_side_file",
    "write_tensors",
]

KEYS = VERSION_KEY, PLAN_KEY, WEIGHTS_KEY = "skrr_corrections", "skrr_corrected_plan", "skrr_corrected_weights"
VERSION = "1"
DTYPES = {"F16": torch.float16, "BF16": torch.bfloat16, "F32": torch.float32, "F64": torch.float64}
MAX_WEIGHTS = 2000
BUFFER = 4 * 1024 * 1024
# Digits of the digest in a side file's name, by which it is found; the whole digest is checked when it is read.
DIGITS = 12


@dataclass(frozen=True)
class SideFile:
    """What a side file holds: the plan that it is for, of one level, slot -> corrections, and how a plan names it."""

    plan: Plan
    corrections: Mapping[str, Corrections]
    note: SideFileNote


def write_side_file(path: str | Path, plan: Plan, corrections: Mapping[str, Corrections]) -> SideFileNote:
    """Writes `corrections` (slot -> what was fitted under that encoder's cut) for `plan`, of one level, to `path`,
    which appears whole or not at all; returns what the plan's level takes as its `corrections`. Raises SkrrError."""
    path = Path(path)
    if len(plan.levels) != 1 or not corrections:
        raise SkrrError(
            f"{len(plan.levels)} levels and {len(corrections)} encoders with corrections; a side file takes one level "
            "and at least one encoder."
        )
    for slot, one in corrections.items():
        _check_cut(slot, one.cut, plan.levels[0])
    plain = plan.with_levels([replace(plan.levels[0], corrections=None)])
    weights = {slot: one.weights for slot, one in corrections.items()}
    metadata = {VERSION_KEY: VERSION, PLAN_KEY: dumps(plain), WEIGHTS_KEY: json.dumps(weights)}
    tensors = {
        f"{slot}/{place}/{name}": tensor.detach().cpu().contiguous()
        for slot, one in corrections.items()
        for (place, name), tensor in one.tensors.items()
    }
    with new_file(path) as temporary:
        write_tensors(temporary, tensors, metadata)
        found = read_side_file(temporary)
    return found.note


def keep_beside(path: Path, folder: Path, name: str, note: SideFileNote) -> Path:
    """Gives the side file at `path` the name in `folder` by which it is found for plan `name`, which is returned."""
    kept = folder / f"{name}-{note.file[:DIGITS]}.safetensors"
    with writing(kept):
        os.replace(path, kept)
    return kept


def side_file_for(path: str | Path, level: Level) -> Mapping[str, Corrections]:
    """The corrections that `level` needs, from the side file at `path`: slot -> corrections. Raises SkrrError where it
    is missing, another one than the level names, or for another plan."""
    if level.corrections is None:
        raise PlanError("This level has no corrections. Apply it as it is.")
    found = read_side_file(path)
    if found.note != level.corrections:
        raise SkrrError(
            f"{Path(path).name} is not the side file that the plan names ({found.note.file[:12]} instead of "
            f"{level.corrections.file[:12]}). Use the one that came with the plan."
        )
    for slot, one in found.corrections.items():
        _check_cut(slot, one.cut, level)
    return found.corrections


def read_side_file(path: str | Path) -> SideFile:
    """The side file at `path`, checked in every respect. Raises SkrrError with one sentence."""
    header = read_header(path)
    if header.metadata.keys() != set(KEYS):
        raise SkrrError(
            f"{header.path.name} holds no corrections: its metadata are {_short(sorted(header.metadata))}, expected "
            f"{', '.join(KEYS)}. Choose the side file of a plan."
        )
    version = header.metadata[VERSION_KEY]
    if version != VERSION:
        raise SkrrError(
            f"{header.path.name} has version {_short(version)}; this pack reads version {VERSION}. Update the pack."
        )
    plan = loads(header.metadata[PLAN_KEY])
    if len(plan.levels) != 1:
        raise _wrong(header, f"it is for a plan of {len(plan.levels)} levels, expected 1")
    weights = _weights(header, plan)
    parts = read_parts(header, plan, _names(header, weights), _wrong)
    corrections = {slot: corrections_of(plan, slot, weights[slot], parts.get(slot, {})) for slot in weights}
    return SideFile(plan, corrections, SideFileNote(_sha256(header.path), weights))


def write_tensors(path: Path, tensors: Mapping[str, torch.Tensor], metadata: Mapping[str, str]) -> None:
    """A new safetensors file with equal bytes for equal content, because a plan names their digest; the library's own
    writer draws an order."""
    names, items, at = {dtype: name for name, dtype in DTYPES.items()}, {"__metadata__": dict(metadata)}, 0
    # Wide elements first: readers need a tensor at a multiple of its element.
    order = sorted(tensors, key=lambda name: (-tensors[name].itemsize, name))
    for name in order:
        tensor = tensors[name]
        end = at + tensor.nbytes
        items[name] = {"dtype": names[tensor.dtype], "shape": list(tensor.shape), "data_offsets": [at, end]}
        at = end
    text = json.dumps(items).encode()
    text += b" " * (-len(text) % 8)
    with writing(path), open(path, "xb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for name in order:
            file.write(memoryview(tensors[name].reshape(-1).view(torch.uint8).numpy()))
        file.flush()
        os.fsync(file.fileno())


def _wrong(header: Header, what: str) -> SkrrError:
    return SkrrError(f"{header.path.name} is not a sound side file: {what}. Download or fit it again.")


def _short(value) -> str:
    text = "".join(c if c.isprintable() else "?" for c in str(value)[:61])
    return text if len(text) <= 60 else text[:57] + "..."


def _weights(header: Header, plan: Plan) -> dict[str, str]:
    text = header.metadata[WEIGHTS_KEY]
    try:
        found = json.loads(text) if len(text) <= MAX_WEIGHTS else None
    except (ValueError, RecursionError):
        found = None
    sound = isinstance(found, dict) and found and all(
        isinstance(one, str) and len(one) == 64 and not set(one) - set("0123456789abcdef") for one in found.values()
    )
    if not sound:
        raise _wrong(header, f"{WEIGHTS_KEY} is {_short(text)}, expected slots and digests")
    for slot in found:
        if slot not in plan.levels[0].cuts:
            raise _wrong(header, f"it corrects encoder {_short(slot)}, which its plan does not cut")
    return found


def _names(header: Header, weights: Mapping[str, str]) -> dict[str, tuple[str, int, str]]:
    """name of a tensor -> slot, place and part."""
    names: dict[str, tuple[str, int, str]] = {}
    for name in header.tensors:
        slot, _, place = name.rpartition("/")[0].rpartition("/")
        if slot not in weights or not is_place(place):
            raise _wrong(header, f"tensor {_short(name)} is for no sub-block of its encoders")
        names[name] = (slot, int(place), name.rpartition("/")[2])
    return names


def is_place(text: str) -> bool:
    """Whether `text` is how a file writes the number of a sub-block."""
    return text.isascii() and text.isdigit() and str(int(text[:5])) == text


def read_parts(
    header: Header, plan: Plan, names: Mapping[str, tuple[str, int, str]], wrong: Callable[..., SkrrError]
) -> dict[str, dict[int, dict[str, torch.Tensor]]]:
    """slot -> place -> name -> tensor, of the tensors `names` (name in the file -> slot, place and part) of corrections
    for `plan`, of one level. Every shape is checked before a tensor is read. `wrong` makes the error for a file that is
    not sound out of the header and a clause."""
    for name, (slot, place, part) in names.items():
        entry = header.tensors[name]
        if entry.dtype not in DTYPES:
            raise wrong(header, f"tensor {_short(name)} is {_short(entry.dtype)}, expected {', '.join(DTYPES)}")
        expected = _shape(plan.encoders[slot].architecture, plan.levels[0].cuts[slot], place, part, entry.shape)
        if entry.shape != expected:
            wanted = "no such tensor" if expected is None else list(expected)
            raise wrong(header, f"tensor {_short(name)} has shape {_short(list(entry.shape))}, expected {wanted}")
    found: dict[str, dict[int, dict[str, torch.Tensor]]] = {slot: {} for slot, _, _ in names.values()}
    with TensorReader(header) as file:
        for name, (slot, place, part) in names.items():
            tensor = file.read(name)
            if not torch.isfinite(tensor).all():
                raise wrong(header, f"tensor {_short(name)} holds numbers that are not finite")
            found[slot].setdefault(place, {})[part] = tensor
    for slot, places in found.items():
        for place, some in places.items():
            if set(some) not in ({"matrix"}, {"bias"}, {"down", "up"}):
                parts = " and ".join(sorted(some))
                raise wrong(header, f"{_short(slot)}/{place} has {parts}; expected a matrix, a bias or a bridge")
            if "up" in some and some["up"].shape[1] != some["down"].shape[0]:
                raise wrong(header, f"the bridge {_short(slot)}/{place} has two ranks")
    return found


def _shape(shape: Architecture, cut: Cut, place: int, part: str, found: tuple[int, ...]) -> tuple[int, ...] | None:
    """What a tensor has to be like; None: there is none. The rank of a bridge is its own, from 1 to the width."""
    removed = place in cut.skip
    if place >= shape.sub_blocks or removed == (part == "matrix") or place in cut.reuse_map.values():
        return None
    if part == "matrix":
        return (shape.width, shape.feed_forward if place % 2 else shape.heads * shape.head_width)
    rank = max(1, min(found[0] if part == "down" else found[-1], shape.width)) if len(found) == 2 else 1
    return {"bias": (shape.width,), "down": (rank, shape.width + 1), "up": (shape.width, rank)}.get(part)


def corrections_of(plan: Plan, slot: str, weights: str, parts: dict[int, dict[str, torch.Tensor]]) -> Corrections:
    """What `read_parts` found for `slot`, as the corrections of its encoder with those weights."""
    matrices = {place: some["matrix"] for place, some in sorted(parts.items()) if "matrix" in some}
    added = {
        place: Bias(some["bias"]) if "bias" in some else Bridge(some["down"], some["up"])
        for place, some in sorted(parts.items())
        if "matrix" not in some
    }
    return Corrections(plan.encoders[slot].architecture, weights, plan.levels[0].cuts[slot], matrices, added)


def _check_cut(slot: str, cut: Cut, level: Level) -> None:
    planned = level.cuts.get(slot)
    if planned is None or (set(planned.skip), planned.reuse) != (set(cut.skip), cut.reuse):
        raise PlanError(
            f"The corrections of encoder {slot!r} were fitted for another level than this one. Use the side file of "
            "this level, or fit anew."
        )


def _sha256(path: Path) -> str:
    total = hashlib.sha256()
    with reading(path), open(path, "rb") as file:
        while part := file.read(BUFFER):
            total.update(part)
    return total.hexdigest()
