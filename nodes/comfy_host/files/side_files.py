"""Corrections beside the plans that name them: side files in the folders of `models/skrr`, found by their digest."""

from collections.abc import Mapping
from pathlib import Path

from ....skrr_engine.corrections.found import Corrections
from ....skrr_engine.corrections.side_file import DIGITS, keep_beside, read_side_file, side_file_for
from ....skrr_engine.errors import SkrrError
from ....skrr_engine.plans.plan import Level, SideFileNote
from .folders import plain_name, plans_folder, side_files

__all__ = ["check_side_name", "corrections_for", "has_side_file", "keep_side_file", "new_side_file"]

ENDING = ".safetensors"


def corrections_for(level: Level) -> Mapping[str, Corrections]:
    """slot -> the corrections that `level` cannot do without; none where it needs none. Raises SkrrError where their
    side file is missing or not sound."""
    if level.corrections is None:
        return {}
    found = _named(level.corrections)
    if found is None:
        raise SkrrError(
            f"This level needs its corrections, and their side file (…-{level.corrections.file[:DIGITS]}{ENDING}) is "
            "not in models/skrr. Put the file that came with the plan there, under its name, or choose a level without "
            "corrections."
        )
    return side_file_for(found, level)


def has_side_file(note: SideFileNote) -> bool:
    """Whether the side file that `note` names is there, whole."""
    found = _named(note)
    try:
        return found is not None and read_side_file(found).note == note
    except SkrrError:  # a damaged one is as good as none
        return False


def check_side_name(name: str) -> None:
    """Raises SkrrError where a plan's `name` makes no name for a side file: before a search, not after it."""
    plain_name(f"{name}-{DIGITS * '0'}", ENDING)


def new_side_file(name: str) -> Path:
    """Where the side file of plan `name` is written before its digest is known."""
    check_side_name(name)
    return plans_folder() / f".{name}.fitted{ENDING}"


def keep_side_file(path: Path, name: str, note: SideFileNote) -> str:
    """Gives a new side file the name by which it is found, which is returned."""
    check_side_name(name)
    return keep_beside(path, path.parent, name, note).name


def _named(note: SideFileNote) -> Path | None:
    """By its name, which has the first digits of its digest at the end."""
    ending = f"{note.file[:DIGITS]}{ENDING}"
    return next((path for path in side_files() if path.name.endswith(ending)), None)
