"""Single tensors out of a safetensors file by plain reads: nothing is mapped, and no more is read than is asked for.

A mapping counts in full against what Windows lets a process commit, however little of it is touched, and the usual
readers map the whole file. Here a tensor takes its own bytes, and a conversion a few MB beside them.
"""

import contextlib
import os
from collections.abc import Iterable
from pathlib import Path

import torch

from ..disk import reading
from ..errors import SkrrError
from .header import Header, read_header

__all__ = ["DTYPES", "TensorReader", "read_tensors"]

# safetensors' names -> PyTorch's, those that this PyTorch has.
NAMES = {
    **{"F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16", "BOOL": "bool"},
    **{"I64": "int64", "I32": "int32", "I16": "int16", "I8": "int8", "U8": "uint8"},
    **{"U64": "uint64", "U32": "uint32", "U16": "uint16"},
    **{"F8_E4M3": "float8_e4m3fn", "F8_E5M2": "float8_e5m2", "F8_E8M0": "float8_e8m0fnu"},
    **{"F8_E4M3FNUZ": "float8_e4m3fnuz", "F8_E5M2FNUZ": "float8_e5m2fnuz"},
}
DTYPES = {ours: getattr(torch, theirs) for ours, theirs in NAMES.items() if hasattr(torch, theirs)}
BUFFER = 4 * 1024 * 1024
BROKEN = "Check its disk, and try again."


class TensorReader:
    """An open safetensors file: `with TensorReader(header) as file: file.read(name)`. `asked` counts the bytes of the
    tensors that were read."""

    def __init__(self, header: Header):
        self.header, self.asked = header, 0

    def __enter__(self):
        path = self.header.path
        with reading(path), contextlib.ExitStack() as opened:
            # Unbuffered: a buffered file reads ahead, into memory of its own.
            self.file = opened.enter_context(open(path, "rb", buffering=0))
            if os.fstat(self.file.fileno()).st_size != self.header.file_bytes:
                raise SkrrError(f"{path.name} changed while it was read. Try again when nothing writes to it.")
            opened.pop_all()
        return self

    def __exit__(self, *error):
        self.file.close()

    def dtype(self, name: str) -> torch.dtype:
        """The dtype that tensor `name` is stored in. Raises SkrrError when PyTorch has none for it."""
        stored = self.header.tensors[name].dtype
        if stored not in DTYPES:
            raise SkrrError(
                f"{self.header.path.name} stores {name} as {stored}, which this PyTorch cannot hold. Update PyTorch, "
                "or choose another file."
            )
        return DTYPES[stored]

    def read(self, name: str, dtype: torch.dtype | None = None) -> torch.Tensor:
        """The tensor `name` on the CPU, in memory of its own; converted to `dtype` a few MB at a time if that is not
        what it is stored in. Raises SkrrError."""
        entry, stored = self.header.tensors[name], self.dtype(name)
        self.asked += entry.bytes
        with reading(self.header.path, BROKEN):
            self.file.seek(self.header.data_at + entry.start)
        result = torch.empty(entry.shape, dtype=dtype or stored)
        if result.dtype == stored:
            self._fill(result)
            return result
        flat, step = result.reshape(-1), BUFFER // stored.itemsize
        part = torch.empty(min(step, len(flat)), dtype=stored)
        for first in range(0, len(flat), step):
            here = part[: len(flat) - first]
            self._fill(here)
            flat[first : first + len(here)].copy_(here)
        return result

    def read_all(self, names: Iterable[str]) -> dict[str, torch.Tensor]:
        """Several tensors, in the order of the file, as they are stored."""
        return {name: self.read(name) for name in sorted(names, key=lambda name: self.header.tensors[name].start)}

    def _fill(self, tensor: torch.Tensor) -> None:
        """The next bytes of the file into a contiguous tensor."""
        if not tensor.numel():
            return
        rest = memoryview(tensor.reshape(-1).view(torch.uint8).numpy())
        while rest:
            with reading(self.header.path, BROKEN):
                count = self.file.readinto(rest)
            if not count:
                name = self.header.path.name
                raise SkrrError(f"{name} became shorter while it was read. Try again when nothing writes to it.")
            rest = rest[count:]


def read_tensors(path: str | Path) -> dict[str, torch.Tensor]:
    """All tensors of a safetensors file, by name, as they are stored."""
    header = read_header(path)
    with TensorReader(header) as file:
        return file.read_all(header.tensors)
