"""The header of a safetensors file, read strictly and without touching a tensor. Needs no PyTorch.

Format: 8 bytes little-endian length N, N bytes of JSON `{name: {"dtype", "shape", "data_offsets"}}` with an
optional text-to-text `"__metadata__"`, then the tensors' bytes, which cover the rest of the file without holes.
"""

import json
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from ..disk import reading
from ..errors import SkrrError

__all__ = ["BITS", "Entry", "Header", "read_header"]

MAX_HEADER = 100_000_000
MAX_RANK, MAX_SIDE = 32, 1 << 48
# Bits of one element. A dtype that is missing here is newer than this pack: its tensor's size goes unchecked.
BITS = {
    **{"F64": 64, "F32": 32, "F16": 16, "BF16": 16, "C64": 64, "BOOL": 8},
    **{"I64": 64, "I32": 32, "I16": 16, "I8": 8, "U64": 64, "U32": 32, "U16": 16, "U8": 8},
    **{"F8_E4M3": 8, "F8_E5M2": 8, "F8_E8M0": 8, "F8_E4M3FNUZ": 8, "F8_E5M2FNUZ": 8},
    **{"F6_E2M3": 6, "F6_E3M2": 6, "F4": 4},
}


@dataclass(frozen=True)
class Entry:
    """One tensor: its dtype as the format names it, its shape, and its bytes `start` to `end` (exclusive),
    counted from the end of the header."""

    dtype: str
    shape: tuple[int, ...]
    start: int
    end: int

    @property
    def bytes(self) -> int:
        """What the tensor takes in the file."""
        return self.end - self.start


@dataclass(frozen=True)
class Header:
    """A whole, consistent header. `data_at` is where the tensors begin in the file of `file_bytes` bytes."""

    path: Path
    metadata: Mapping[str, str]
    tensors: Mapping[str, Entry]
    data_at: int
    file_bytes: int


def read_header(path: str | Path) -> Header:
    """The header of the safetensors file at `path`. Raises SkrrError, naming the file, when the file cannot be
    read or its header is not sound in every respect."""
    path = Path(path)
    with reading(path), open(path, "rb") as file:
        size = os.fstat(file.fileno()).st_size
        length = int.from_bytes(file.read(8), "little")
        if size < 8 or not 2 <= length <= min(MAX_HEADER, size - 8):
            raise SkrrError(
                f"{path.name} is not a safetensors file: of its {size} bytes {length} would be header. Choose a "
                ".safetensors file; convert .pt, .bin and .gguf files first."
            )
        text = file.read(length)
    items = _parse(text, path)
    metadata = _metadata(items.pop("__metadata__", {}), path)
    tensors = {name: _entry(name, value, path) for name, value in items.items()}
    _check_cover(tensors, size - 8 - length, path)
    return Header(path, metadata, MappingProxyType(tensors), 8 + length, size)


def _damaged(path: Path, what: str) -> SkrrError:
    return SkrrError(f"{path.name} is damaged: {what}. Download or save the file again.")


def _short(value) -> str:
    """A value for an error message: one printable line of 60 characters at most."""
    text = "".join(c if c.isprintable() else "?" for c in str(value)[:61])
    return text if len(text) <= 60 else text[:57] + "..."


def _parse(text: bytes, path: Path) -> dict:
    def no_duplicates(pairs):
        found = dict(pairs)
        if len(found) != len(pairs):
            raise _damaged(path, "its header names something twice in one object")
        return found

    def no_constant(name):
        raise _damaged(path, f"its header holds the number {name}")

    try:
        found = json.loads(text.decode("utf-8"), object_pairs_hook=no_duplicates, parse_constant=no_constant)
    except SkrrError:
        raise
    except (ValueError, RecursionError) as error:
        raise _damaged(path, f"its header is not JSON ({type(error).__name__})") from None
    if not isinstance(found, dict) or text[:1] != b"{":
        raise _damaged(path, "its header is not a JSON object")
    return found


def _metadata(value, path: Path) -> Mapping[str, str]:
    if not isinstance(value, dict) or not all(isinstance(text, str) for text in value.values()):
        raise _damaged(path, "its __metadata__ is not an object of texts")
    return MappingProxyType(value)


def _whole(values, count: int | None, most: int) -> bool:
    return (
        isinstance(values, list)
        and (len(values) == count if count is not None else len(values) <= MAX_RANK)
        and all(isinstance(n, int) and not isinstance(n, bool) and 0 <= n <= most for n in values)
    )


def _entry(name: str, value, path: Path) -> Entry:
    if not isinstance(value, dict) or value.keys() != {"dtype", "shape", "data_offsets"}:
        raise _damaged(path, f"tensor {_short(name)} needs exactly dtype, shape and data_offsets")
    dtype, shape, offsets = value["dtype"], value["shape"], value["data_offsets"]
    if not isinstance(dtype, str):
        raise _damaged(path, f"tensor {_short(name)} has dtype {_short(dtype)}, expected text")
    if not _whole(shape, None, MAX_SIDE):
        raise _damaged(path, f"tensor {_short(name)} has shape {_short(shape)}, expected whole numbers")
    if not _whole(offsets, 2, 1 << 62) or offsets[0] > offsets[1]:
        raise _damaged(path, f"tensor {_short(name)} lies at {_short(offsets)}, expected [start, end]")
    start, end = offsets
    if dtype in BITS and math.prod(shape) * BITS[dtype] != 8 * (end - start):
        raise _damaged(
            path,
            f"tensor {_short(name)} has {end - start} bytes, but shape {_short(shape)} in {dtype} takes "
            f"{_short(math.prod(shape) * BITS[dtype] // 8)}",
        )
    return Entry(dtype, tuple(shape), start, end)


def _check_cover(tensors: Mapping[str, Entry], size: int, path: Path) -> None:
    """The tensors must cover the data exactly: holes and overlaps can hide another file's content."""
    at = 0
    for name, entry in sorted(tensors.items(), key=lambda item: (item[1].start, item[1].end)):
        if entry.start != at:
            kind = "overlaps the one before it" if entry.start < at else "leaves a hole before it"
            raise _damaged(path, f"tensor {_short(name)} at byte {entry.start} {kind} (expected {at})")
        at = entry.end
    if at != size:
        kind = "is cut off" if at > size else "has bytes that belong to no tensor"
        raise _damaged(path, f"it {kind}: its tensors take {at} bytes, the file holds {size}")
