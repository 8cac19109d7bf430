"""A search on disk: every finished level, under a fingerprint of all it depends on. Written atomically."""

import json
import os
import secrets
from pathlib import Path

from .digest import digest_json
from .errors import SkrrError

__all__ = ["Checkpoint", "write_atomically"]

FORMAT, VERSION = "skrr-search", 1
MAX_FILE = 16 * 1024 * 1024


def write_atomically(path: str | Path, data: bytes) -> None:
    """Puts `data` at `path` so that a reader sees the old file or the new one, never a part."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    # Not tempfile: its files are readable by their owner only, and a plan is to be shared.
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")
    try:
        with open(temporary, "xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:
        raise SkrrError(
            f"{path.name} cannot be written: {error.strerror}. Free some space, close what has the file open, and run "
            "again; what was written before is intact."
        ) from None
    finally:
        temporary.unlink(missing_ok=True)


class Checkpoint:
    """The levels of one search: `levels[n]` is a list of beams `{"order", "discrepancy"}`, best first; `reuse`
    maps a level's number (as text) to `{"pairs", "discrepancy"}`."""

    def __init__(self, path: str | Path | None, fingerprint: str):
        """`path` None keeps everything in memory; in a folder the file is named by the fingerprint. An existing
        file of another search, or a damaged one, is refused with a SkrrError that names it."""
        self.path = None if path is None else Path(path)
        if self.path is not None and self.path.is_dir():
            self.path = self.path / f"{fingerprint[:32]}.json"
        self.fingerprint = fingerprint
        self.levels: list[list[dict]] = []
        self.reuse: dict[str, dict] = {}
        if self.path is not None and self.path.exists():
            self._load()

    def _load(self) -> None:
        cure = f"Delete {self.path.name} to search anew."
        if self.path.stat().st_size > MAX_FILE:
            raise SkrrError(f"The search file {self.path.name} is larger than any search writes. {cure}")
        try:
            data = json.loads(self.path.read_text(encoding="utf-8"))
            kind = (data["format"], data["version"])
            fingerprint, levels, reuse = data["fingerprint"], data["levels"], data["reuse"]
            whole = data["checksum"] == digest_json([fingerprint, levels, reuse])
        except (ValueError, KeyError, TypeError, RecursionError):
            whole = False
        if not whole:
            raise SkrrError(f"The search file {self.path.name} is damaged. {cure}")
        if kind != (FORMAT, VERSION) or fingerprint != self.fingerprint:
            raise SkrrError(
                f"The search file {self.path.name} belongs to another search (other encoder, prompts or settings). "
                + cure
            )
        self.levels, self.reuse = levels, reuse

    def save(self) -> None:
        """Writes everything found so far."""
        if self.path is None:
            return
        data = {
            "format": FORMAT,
            "version": VERSION,
            "fingerprint": self.fingerprint,
            "levels": self.levels,
            "reuse": self.reuse,
            "checksum": digest_json([self.fingerprint, self.levels, self.reuse]),
        }
        write_atomically(self.path, json.dumps(data).encode())
