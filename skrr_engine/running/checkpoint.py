"""A search on disk: a journal, one line a finding, under a fingerprint of all that the search depends on.

Every line carries a checksum of itself and of all lines before it, and is appended as soon as its finding is known. A
process that is killed leaves at most a torn last line, which is dropped; anything else that does not add up is refused.
When a level is finished the file is rewritten without the findings inside that level, atomically.
"""

import base64
import hashlib
import json
from collections.abc import Callable
from pathlib import Path

import torch

from ..disk import exists, is_folder, reading, remove_parts, write_atomically, writing
from ..errors import SkrrError
from ..precision import SUM

__all__ = ["Checkpoint", "packed", "unpacked"]

FORMAT, VERSION = "skrr-search", 2
# A level of 10,000 prompts holds some 30 MB of findings.
MAX_FILE = 256 * 1024 * 1024
CHECKSUM = 16
FULL = "Free some space and run again; the search goes on where it was."


def packed(values: torch.Tensor) -> dict:
    """`values` as float64 in JSON values, bit for bit."""
    values = values.to(SUM).contiguous()
    return {"shape": list(values.shape), "data": base64.b64encode(values.numpy().tobytes()).decode()}


def unpacked(found: dict) -> torch.Tensor:
    """The float64 tensor that `packed` made `found` of."""
    return torch.frombuffer(bytearray(base64.b64decode(found["data"])), dtype=SUM).reshape(found["shape"])


class Checkpoint:
    """What one search has found, in JSON values of the caller's: `levels[n]` is what level n + 1 ended with, `reuse`
    maps a level's number (as text) to its pairs, `over` says how the search ended if not at its target. Findings
    inside a level go through `once`."""

    def __init__(self, path: str | Path | None, fingerprint: str):
        """`path` None keeps everything in memory; in a folder the file is named by the fingerprint. An existing
        file of another search, or a damaged one, is refused with a SkrrError that names it."""
        self.path = None if path is None else Path(path)
        if self.path is not None and is_folder(self.path):
            self.path = self.path / f"{fingerprint[:32]}.json"
        self.fingerprint = fingerprint
        self.levels: list = []
        self.reuse: dict[str, dict] = {}
        self.over: dict | None = None
        self._once: dict[str, object] = {}
        self._last, self._size = "", 0
        if self.path is not None and exists(self.path):
            self._load()
            remove_parts(self.path)

    def once(self, key: str, compute: Callable[[], torch.Tensor]) -> torch.Tensor:
        """The float64 tensor found under `key` in the level under way, from disk if it is there, else computed and
        written down. A search that asks the same questions in the same order goes on bit for bit where it was."""
        if key not in self._once:
            found = packed(compute())
            self._append({"once": key, "value": found})
            self._once[key] = found
        return unpacked(self._once[key])

    def findings(self) -> tuple:
        """Everything found so far, for `adopt`."""
        return self.levels, self.reuse, self.over, self._once

    def adopt(self, findings: tuple) -> None:
        """Takes what another process has read; nothing is written."""
        self.levels, self.reuse, self.over, self._once = findings

    def add_level(self, entry) -> None:
        """The level under way ended with `entry`; it is on disk when this returns."""
        self.levels.append(entry)
        self._rewrite()

    def add_reuse(self, level: int, entry: dict) -> None:
        """Re-use for level `level` (from 0) ended with `entry`; it is on disk when this returns."""
        self.reuse[str(level)] = entry
        self._rewrite()

    def finish(self, entry: dict) -> None:
        """The search ended before its target, or on part of its prompts: asked again, it is not to go on."""
        self.over = entry
        self._rewrite()

    def _load(self) -> None:
        with reading(self.path, f"Delete {self.path.name} to search anew."):
            if self.path.stat().st_size > MAX_FILE:
                raise self._refusal("is larger than any search writes")
            data = self.path.read_bytes()
        # Only the last line can be torn: what ends with a newline was written whole.
        whole, _, torn = data.rpartition(b"\n")
        records = []
        for line in whole.split(b"\n") if whole else ():
            records.append(self._read(line))
        if not records:
            if not self._line(self._header()).startswith(torn):
                raise self._refusal("is damaged")
            return
        self._take(records)
        if torn:
            self._rewrite(keep=True)
        else:
            self._size = len(data)

    def _read(self, line: bytes) -> dict:
        checksum, _, text = line.partition(b" ")
        expected = self._chain(text)
        try:
            record = json.loads(text)
        except (ValueError, RecursionError):
            record = None
        if not isinstance(record, dict) or checksum.decode("ascii", "replace") != expected:
            raise self._refusal("is damaged")
        self._last = expected
        return record

    def _take(self, records: list[dict]) -> None:
        header, *rest = records
        if header != self._header():
            raise self._refusal("belongs to another search (other encoder, prompts or settings)")
        for record in rest:
            match record:
                case {"level": entry}:
                    self.levels.append(entry)
                case {"reuse": str(level), "found": dict(entry)}:
                    self.reuse[level] = entry
                case {"over": dict(entry)}:
                    self.over = entry
                case {"once": str(key), "value": {"shape": list(), "data": str()} as value}:
                    self._once[key] = value
                case _:
                    raise self._refusal("is damaged")

    def _refusal(self, what: str) -> SkrrError:
        return SkrrError(f"The search file {self.path.name} {what}. Delete {self.path.name} to search anew.")

    def _header(self) -> dict:
        return {"format": FORMAT, "version": VERSION, "fingerprint": self.fingerprint}

    def _chain(self, text: bytes) -> str:
        return hashlib.sha256(self._last.encode() + text).hexdigest()[:CHECKSUM]

    def _line(self, record: dict) -> bytes:
        """The next line; the checksum of the following one builds on it."""
        text = json.dumps(record).encode()
        self._last = self._chain(text)
        return self._last.encode() + b" " + text + b"\n"

    def _append(self, record: dict) -> None:
        if self.path is None:
            return
        if not self._size:
            self._rewrite(keep=True)
        line = self._line(record)
        with writing(self.path, FULL), open(self.path, "ab") as file:
            if file.tell() != self._size:
                raise SkrrError(
                    f"The search file {self.path.name} is being written by another search. Let one of them finish."
                )
            file.write(line)
        self._size += len(line)

    def _rewrite(self, keep: bool = False) -> None:
        """The file anew; findings inside a level go, unless `keep`."""
        if not keep:
            self._once = {}
        if self.path is None:
            return
        self._last = ""
        records = [self._header(), *({"level": entry} for entry in self.levels)]
        records += [{"reuse": level, "found": entry} for level, entry in self.reuse.items()]
        records += [] if self.over is None else [{"over": self.over}]
        records += [{"once": key, "value": value} for key, value in self._once.items()]
        data = b"".join([self._line(record) for record in records])
        write_atomically(self.path, data)
        self._size = len(data)
