"""Safetensors files with a plan inside: written from a dense file by copying what is kept, byte for byte.

No PyTorch and no tensor in memory, so any storage format works (fp8, scaled, 4-bit) and RAM stays at a few MB.
A re-used sub-block needs no tensors of its own: its source is stored once, and the plan says where it runs again.
The file keeps the source's tensor names and metadata and adds:

    skrr_plan      the plan JSON (see plan_json), of exactly one level
    skrr_prefixes  JSON {slot: what stands before the encoder's tensor names}
    skrr_source    name and size of the file it was made from
    skrr_version   the version of this pack
"""

import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from .. import __version__
from ..disk import exists, is_file, new_file, reading
from ..errors import PlanError, SkrrError
from ..plans.plan import Plan
from ..plans.plan_json import MAX_TEXT, dumps, loads
from ..plans.plan_text import is_compact, loads_level, read_plan_text
from ..plans.presets import load_preset, preset_names
from .header import BITS, Header, read_header
from .infer import infer_architecture
from .tensor_names import EncoderTensors, find_encoders, tensors_of

__all__ = [
    "PLAN_KEY",
    "PREFIXES_KEY",
    "VERSION_KEY",
    "Written",
    "match_encoder",
    "open_plan",
    "read_plan",
    "read_plan_file",
    "write_pruned",
]

PLAN_KEY, PREFIXES_KEY = "skrr_plan", "skrr_prefixes"
SOURCE_KEY, VERSION_KEY = "skrr_source", "skrr_version"
COPY_BUFFER = 4 * 1024 * 1024


@dataclass(frozen=True)
class Written:
    """What `write_pruned` did: file sizes in bytes, and the names of the tensors that were left out."""

    source_bytes: int
    target_bytes: int
    dropped: tuple[str, ...]


def read_plan(path: str | Path) -> Plan:
    """The plan inside the safetensors file at `path`. Raises SkrrError when there is none."""
    header = read_header(path)
    if PLAN_KEY not in header.metadata:
        raise SkrrError(f"{header.path.name} has no plan inside: it is a dense file. Apply a plan to it first.")
    return loads(header.metadata[PLAN_KEY])


def open_plan(reference: str) -> Plan:
    """The plan that `reference` names: a preset, a shared `skrr1.` line, a file with a plan as JSON or as such a
    line, or a safetensors file with a plan inside."""
    if is_compact(reference):
        return loads_level(reference)
    if reference in preset_names():
        return load_preset(reference)
    path = Path(reference)
    if not is_file(path):
        raise SkrrError(
            f"{reference!r} is neither a file nor a preset; the presets are {', '.join(preset_names())}."
        )
    if path.suffix.lower() in (".safetensors", ".sft"):
        return read_plan(path)
    return read_plan_file(path)


def read_plan_file(path: Path, features=frozenset()) -> Plan:
    """The plan in a text file: JSON, or a level's line, as in pasted text; `features` as in `loads`. Raises
    SkrrError."""
    try:
        with reading(path):
            size = path.stat().st_size
            if size > 4 * MAX_TEXT:
                raise PlanError(f"{path.name} has {size} bytes; a plan has at most {MAX_TEXT} characters.")
            text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise PlanError(f"{path.name} is not a plan: it is not UTF-8 text (byte {error.start}).") from None
    return read_plan_text(text, features)


def match_encoder(header: Header, plan: Plan, slot: str) -> EncoderTensors:
    """The one encoder of the file that the plan's encoder `slot` fits. Raises PlanError saying how those that
    are there differ."""
    expected = plan.encoders[slot].architecture
    fitting, others = [], []
    for encoder in find_encoders(header.tensors):
        if encoder.family != expected.family:
            others.append(f"a {encoder.family.upper()} text encoder")
            continue
        found = infer_architecture(encoder, header.path, expected.heads, expected.activation)
        differences = expected.differences(found)
        if differences:
            others.append(f"a {found.describe()} ({'; '.join(differences)})")
        else:
            fitting.append(encoder)
    if not fitting:
        raise PlanError(
            f"Plan {plan.name!r} is for a {expected.describe()}, but {header.path.name} holds "
            f"{' and '.join(others) or 'no T5 or CLIP text encoder under the names of transformers or ComfyUI'}. "
            "Choose the file of that encoder, or a plan for this one."
        )
    named = [encoder for encoder in fitting if slot in encoder.prefix]
    if len(fitting) > 1 and len(named) != 1:
        raise PlanError(
            f"{header.path.name} holds {len(fitting)} encoders that plan {plan.name!r} fits, under "
            f"{', '.join(repr(encoder.prefix) for encoder in fitting)}. Choose a file with one of them."
        )
    return (named or fitting)[0]


def write_pruned(source: str | Path, target: str | Path, plan: Plan, *, overwrite: bool = False) -> Written:
    """Writes `source` without the tensors of the sub-blocks that `plan` skips to `target`, the plan inside.

    `plan` has exactly one level (`plan.with_levels([level])`). The target appears whole or not at all. Raises
    SkrrError when the plan does not fit the file, the source is pruned already, or the target exists and
    `overwrite` is not set; a file is never written over itself.
    """
    target = Path(target)
    header = read_header(source)
    if len(plan.levels) != 1:
        raise PlanError(f"A file takes one level; plan {plan.name!r} has {len(plan.levels)}. Choose a level first.")
    if plan.levels[0].corrections:
        raise PlanError(
            f"Plan {plan.name!r} needs its corrections, which this file could not hold. Choose a level without them."
        )
    if PLAN_KEY in header.metadata:
        raise SkrrError(f"{header.path.name} is pruned already. Apply the plan to the dense file it was made from.")
    there = exists(target)
    if there and _same(header.path, target):
        raise SkrrError(f"{target.name} would be written over itself. Choose another name for the pruned file.")
    if there and not overwrite:
        raise SkrrError(f"{target.name} exists already. Choose another name, or say --overwrite.")
    dropped, prefixes = _cut(header, plan)
    kept = [name for name in header.tensors if name not in dropped]
    metadata = {
        **header.metadata,
        PLAN_KEY: dumps(plan),
        PREFIXES_KEY: json.dumps(prefixes),
        SOURCE_KEY: f"{header.path.name}, {header.file_bytes} bytes",
        VERSION_KEY: __version__,
    }
    return Written(header.file_bytes, _write(header, target, metadata, kept), tuple(sorted(dropped)))


def _same(path: Path, other: Path) -> bool:
    with reading(other):
        return os.path.samefile(path, other)


def _cut(header: Header, plan: Plan) -> tuple[set[str], dict[str, str]]:
    """The full names of the tensors that go, and slot -> prefix."""
    dropped, prefixes = set(), {}
    for slot, cut in plan.levels[0].cuts.items():
        encoder = match_encoder(header, plan, slot)
        gone = tensors_of(encoder.tensors, plan.encoders[slot].architecture, cut.skip)
        dropped |= {encoder.prefix + name for name in gone}
        prefixes[slot] = encoder.prefix
    return dropped, prefixes


def _write(header: Header, target: Path, metadata: Mapping[str, str], names: Iterable[str]) -> int:
    """Returns the file's size."""
    # Wide elements first: dropping tensors shifts the rest, and readers need a tensor at a multiple of its element.
    order = sorted(names, key=lambda n: (-BITS.get(header.tensors[n].dtype, 64), header.tensors[n].start))
    items, at = {"__metadata__": dict(metadata)}, 0
    for name in order:
        entry = header.tensors[name]
        items[name] = {"dtype": entry.dtype, "shape": entry.shape, "data_offsets": [at, at + entry.bytes]}
        at += entry.bytes
    text = json.dumps(items).encode()
    text += b" " * (-len(text) % 8)
    with new_file(target) as temporary, open(temporary, "xb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        _copy(header, order, file)
        file.flush()
        os.fsync(file.fileno())
    return 8 + len(text) + at


def _copy(header: Header, names: Iterable[str], file) -> None:
    """The tensors' bytes, one after another, to the end of `file`. What cannot be read is not told as unwritable."""
    path, buffer = header.path, memoryview(bytearray(COPY_BUFFER))
    with reading(path):
        source = open(path, "rb")
    with source:
        for name in names:
            entry = header.tensors[name]
            with reading(path):
                source.seek(header.data_at + entry.start)
            rest = entry.bytes
            while rest:
                with reading(path):
                    count = source.readinto(buffer[: min(rest, len(buffer))])
                if not count:
                    what = "became shorter while it was read. Try again when nothing writes to it."
                    raise SkrrError(f"{path.name} {what}")
                file.write(buffer[:count])
                rest -= count
