"""An embedding table that stays in its file: the rows of a prompt are read when they are looked up.

A row is some KB, a prompt a few hundred rows, so a lookup takes some ten milliseconds; the table takes up to 2 GB. The
reads are plain: nothing is mapped.

A LoRA that is loaded behind it finds no such table: ComfyUI warns "lora key not loaded" and leaves that part of the
LoRA out. Tables that a LoRA trains are rare; Skrr Apply behind ComfyUI's own loader and the LoRA keeps one.
"""

import os

import torch

from ....skrr_engine.disk import reading
from ....skrr_engine.errors import SkrrError
from ....skrr_engine.files.header import Header
from ....skrr_engine.files.tensor_reading import DTYPES
from .host_table import HostTable, rows_of
from .weights import is_quantized

__all__ = ["FileRows", "FileTable"]


class FileRows:
    """The rows of the tensor `name`, a matrix, of a safetensors file."""

    def __init__(self, header: Header, name: str):
        entry = header.tensors[name]
        self.path, self.dtype = header.path, DTYPES[entry.dtype]
        self.rows, self.columns = entry.shape
        self.start = header.data_at + entry.start
        with self._open() as file:
            self.state = self._state(file)
        if self.state[0] != header.file_bytes:
            raise self._lost()

    def read(self, ids: torch.Tensor) -> torch.Tensor:
        """The rows `ids`, each read once. Raises SkrrError where the file is no longer what it was."""
        if ids.numel() and not 0 <= int(ids.min()) <= int(ids.max()) < self.rows:
            raise SkrrError(
                f"A token has the number {int(ids.max())}, and the encoder knows {self.rows}, counted from 0."
            )
        wanted, places = ids.unique(return_inverse=True)
        found = torch.empty((len(wanted), self.columns), dtype=self.dtype)
        size = self.columns * self.dtype.itemsize
        view = memoryview(found.reshape(-1).view(torch.uint8).numpy())
        with self._open() as file:
            if self._state(file) != self.state:
                raise self._lost()
            for place, row in enumerate(wanted.tolist()):
                file.seek(self.start + row * size)
                if file.readinto(view[place * size : (place + 1) * size]) != size:
                    raise self._lost()
        return found[places]

    def _open(self):
        try:
            return open(self.path, "rb", buffering=0)
        except OSError:
            raise self._lost() from None

    def _state(self, file):
        """By what a changed file is known."""
        with reading(self.path):
            found = os.fstat(file.fileno())
        return found.st_size, found.st_mtime_ns

    def _lost(self) -> SkrrError:
        return SkrrError(
            f"{self.path.name} was changed or removed since Skrr CLIP Loader opened it, and the encoder reads its "
            "embedding table from there. Put the file back, or restart ComfyUI to load what is there now."
        )


class FileTable(HostTable):
    """Stands in for an embedding module whose table is `rows`. `source` is that module, its table without data."""

    def __init__(self, source, rows: FileRows):
        super().__init__(source)
        self._rows, weight = rows, source.weight
        # Of the size and type of the table, without its memory: one element, seen everywhere.
        if is_quantized(weight):
            empty = torch.zeros((), dtype=weight._qdata.dtype).expand(weight._qdata.shape)
            weight = type(weight)(empty, weight._layout_cls, weight._params)
        else:
            weight = torch.zeros((), dtype=weight.dtype).expand(weight.shape)
        self.source._parameters["weight"] = torch.nn.Parameter(weight, requires_grad=False)

    def rows(self, ids: torch.Tensor):
        """The rows `ids` as a table of their own, in the table's format."""
        return rows_of(self.weight, ids, self._rows.read(ids))

    def __deepcopy__(self, memo):
        return type(self)(self.source, self._rows)
