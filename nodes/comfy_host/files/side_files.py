"""Corrections beside the plans that name them: side files in the folders of `models/skrr`, found by their digest."""

import os
from collections.abc import Mapping
from pathlib import Path

from ....skrr_engine.corrections.found import Corrections
from ....skrr_engine.corrections.side_file import read_side_file, side_file_for
from ....skrr_engine.disk import writing
from ....skrr_engine.errors import SkrrError
from ....skrr_engine.plans.plan import Level, SideFileNote
from .folders import plain_name, plans_folder, side_files

__all__ = ["check_side_name", "corrections_for", "has_side_file", "keep_side_file", "new_side_file"]

ENDING = ".safetensors"
# Digits of the digest in a side file's name: enough to tell them apart; the whole digest is checked when it is read.
DIGITS = 12


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
    _side_name(name, "0" * DIGITS)


def new_side_file(name: str) -> Path:
    """Where the side file of plan `name` is written before its digest is known."""
    check_side_name(name)
    return plans_folder() / f".{name}.fitted{ENDING}"


def keep_side_file(path: Path, name: str, note: SideFileNote) -> str:
    """Gives a new side file the name by which it is found, which is returned."""
    kept = path.with_name(_side_name(name, note.file[:DIGITS]))
    with writing(kept):
        os.replace(path, kept)
    return kept.name


def _side_name(name: str, digits: str) -> str:
    return plain_name(f"{name}-{digits}", ENDING)


def _named(note: SideFileNote) -> Path | None:
    """By its name, which has the first digits of its digest at the end."""
    ending = f"{note.file[:DIGITS]}{ENDING}"
    return next((path for path in side_files() if path.name.endswith(ending)), None)
