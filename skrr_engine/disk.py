"""The one place where files meet the system: what it refuses (OSError) becomes a sentence that names the path.

Every access to a file stands within `reading` or `writing`, or goes through the functions here. Other exceptions pass,
so that a cancel stays a cancel; a file that is written appears whole or not at all.
"""

import contextlib
import glob
import os
import secrets
from collections.abc import Iterator
from pathlib import Path

from .errors import SkrrError

__all__ = [
    "exists",
    "is_file",
    "is_folder",
    "make_folder",
    "new_file",
    "reading",
    "remove_parts",
    "write_atomically",
    "writing",
]

READ_CURE = "Check the path and who may read it."
WRITE_CURE = (
    "Free some space, close what has the file open (Windows does not let a loaded file be replaced), allow writing "
    "there, and run again; what was written before is intact."
)
# Names of files are shorter; what is longer was no name, and is not shown in full.
SHOWN = 300


@contextlib.contextmanager
def reading(path: str | Path, cure: str = READ_CURE) -> Iterator[None]:
    """Around whatever reads `path` or asks about it. Where the system names a file of its own, that one is told."""
    try:
        yield
    except OSError as error:
        what = error.filename if isinstance(error.filename, str) else path
        raise SkrrError(f"{_shown(what)} cannot be read: {_reason(error)}. {cure}") from None


@contextlib.contextmanager
def writing(path: str | Path, cure: str = WRITE_CURE) -> Iterator[None]:
    """Around whatever writes `path`."""
    try:
        yield
    except OSError as error:
        path = Path(path)
        raise SkrrError(f"{path.name} cannot be written into {path.parent}: {_reason(error)}. {cure}") from None


def exists(path: Path) -> bool:
    """Whether there is anything at `path`. Raises SkrrError where the system does not say."""
    with reading(path):
        return path.exists()


def is_file(path: Path) -> bool:
    """Whether `path` is a file; as `exists`."""
    with reading(path):
        return path.is_file()


def is_folder(path: Path) -> bool:
    """Whether `path` is a folder; as `exists`."""
    with reading(path):
        return path.is_dir()


def make_folder(path: Path) -> Path:
    """`path`, a folder that is made if needed."""
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise SkrrError(
            f"The folder {path} cannot be made: {_reason(error)}. Allow writing there, or free its name."
        ) from None
    return path


@contextlib.contextmanager
def new_file(path: Path) -> Iterator[Path]:
    """A path beside `path` to write to. It takes the place of `path` when the block ends well; an error or a cancel
    leaves what was there before, and nothing else."""
    # Not tempfile: its files are readable by their owner only, and a plan is to be shared.
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")
    try:
        with writing(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            yield temporary
            os.replace(temporary, path)
    finally:
        _remove(temporary)


def remove_parts(path: Path) -> None:
    """Removes what a process that was killed while it wrote `path` has left, as far as the system lets it."""
    with contextlib.suppress(OSError):
        for part in path.parent.glob(f".{glob.escape(path.name)}.*.part"):
            _remove(part)


def _remove(part: Path) -> None:
    """The error that left a part is the one to tell, not one of removing it."""
    with contextlib.suppress(OSError):
        part.unlink()


def write_atomically(path: str | Path, data: bytes) -> None:
    """Puts `data` at `path` so that a reader sees the old file or the new one, never a part."""
    with new_file(Path(path)) as temporary, open(temporary, "xb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def _reason(error: OSError) -> str:
    """Why, in the system's words; of a library's own OSError the first line."""
    return error.strerror or (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")


def _shown(path: str | Path) -> str:
    return str(path) if len(str(path)) <= SHOWN else f"{str(path)[:SHOWN]}…"
