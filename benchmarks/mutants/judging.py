"""Runs tests on changed code: each time in a fork of this process, which has imported what is slow to import.

No file is written: in the fork, Python's own loader of source files is given the changed code for that one file,
whatever the name it is imported by.
"""

import os
import signal
import sys
import time
from collections.abc import Sequence
from importlib.machinery import SourceFileLoader
from pathlib import Path

import pytest

from benchmarks.mutants.changes import Mutant

__all__ = ["check", "order"]

# pytest's exit status where it collected no tests: then nothing was checked.
NO_TESTS = 5
STOPPED = -1


def check(mutant: Mutant | None, tests: Sequence[Path], rootdir: Path, seconds: float) -> bool:
    """Whether the tests pass, with the change or (None) without any. Out of time counts as failed: a change may loop
    for ever."""
    status = _forked(mutant, tests, rootdir, seconds)
    if status == NO_TESTS:
        raise RuntimeError(f"There are no tests in {', '.join(map(str, tests))}; a room's tests have its name.")
    return status == 0


def order(file: Path, folder: Path, names: Sequence[str] = ("test_*.py",)) -> list[Path]:
    """The test files of a room with one of `names`, those that speak of the changed file first, and of those the
    shortest."""
    files = {path for name in names for path in folder.glob(name)}
    # Tests of ComfyUI's side ask for modules by name: pack("nodes.comfy_host.clip.trees").
    spoken = (f"{file.stem} import", f".{file.stem}")

    def place(test: Path) -> tuple:
        text = test.read_text(encoding="utf-8")
        return not any(words in text for words in spoken), len(text), test.name

    return sorted(files, key=place)


def _forked(mutant: Mutant | None, tests: Sequence[Path], rootdir: Path, seconds: float) -> int:
    sys.stdout.flush()
    sys.stderr.flush()
    child = os.fork()
    if child == 0:
        _run(mutant, tests, rootdir)
    ends = time.monotonic() + seconds
    while time.monotonic() < ends:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.02)
    os.killpg(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return STOPPED


def _run(mutant: Mutant | None, tests: Sequence[Path], rootdir: Path) -> None:
    """The fork's whole life. It never returns, not even by an error, or there would be two of this program."""
    status = 3
    try:
        os.setsid()
        nowhere = os.open(os.devnull, os.O_RDWR)
        for stream in (0, 1, 2):
            os.dup2(nowhere, stream)
        if mutant is not None:
            _load_changed(mutant)
        # Plugins that were imported before the fork: pytest would warn that it cannot rewrite them.
        quiet = ["-W", "ignore::pytest.PytestAssertRewriteWarning"]
        options = ["-x", "-q", "-p", "no:cacheprovider", *quiet, f"--rootdir={rootdir}"]
        status = int(pytest.main([*options, *map(str, tests)]))
    finally:
        os._exit(status)


def _load_changed(mutant: Mutant) -> None:
    code, usual = mutant.code(), SourceFileLoader.get_code
    target = mutant.file.resolve()

    def get_code(self, name):
        return code if Path(self.path).resolve() == target else usual(self, name)

    SourceFileLoader.get_code = get_code
