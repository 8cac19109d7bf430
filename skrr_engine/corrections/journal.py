"""A fit on disk, so that one that was stopped goes on: a small file for every place that is done, in a folder."""

import json
from collections.abc import Mapping
from pathlib import Path

import torch

from ..disk import is_file, new_file
from ..errors import SkrrError
from ..files.header import read_header
from ..files.tensor_reading import TensorReader
from .side_file import write_tensors

__all__ = ["Journal"]

KEY, ABOUT = "skrr_fit", "skrr_fit_place"


class Journal:
    """What a fit with this `fingerprint` (of all that it depends on) has found, place by place, in `folder`; None: it
    keeps nothing. A file of another fit, or one that is damaged, counts as not there and is written anew."""

    def __init__(self, folder: str | Path | None, fingerprint: str):
        self.folder, self.fingerprint = None if folder is None else Path(folder), fingerprint

    def _path(self, place: int) -> Path:
        return self.folder / f"{place:04}.safetensors"

    def find(self, place: int) -> tuple[dict, dict[str, torch.Tensor]] | None:
        """What was put for `place`: (about, tensors)."""
        if self.folder is None or not is_file(self._path(place)):
            return None
        try:
            header = read_header(self._path(place))
            if header.metadata.get(KEY) != self.fingerprint:
                return None
            with TensorReader(header) as file:
                tensors = file.read_all(header.tensors)
            return json.loads(header.metadata[ABOUT]), tensors
        except (SkrrError, KeyError, ValueError):
            return None

    def put(self, place: int, about: Mapping, tensors: Mapping[str, torch.Tensor]) -> None:
        """On disk when this returns. Raises SkrrError where it cannot be."""
        if self.folder is None:
            return
        with new_file(self._path(place)) as temporary:
            write_tensors(temporary, tensors, {KEY: self.fingerprint, ABOUT: json.dumps(dict(about))})

    def clear(self, places: int) -> None:
        """Removes what was kept for the first `places` places, as far as the folder lets it."""
        if self.folder is None:
            return
        try:
            for place in range(places):
                self._path(place).unlink(missing_ok=True)
            self.folder.rmdir()  # only if it is empty: nothing of others goes
        except OSError:
            pass  # what is left is not taken for another fit's
