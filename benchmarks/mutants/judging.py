"""Runs tests on changed code: each time in a fork of this process, which has imported what is slow to import.

No file is written: in the fork, Python's own loader of source files is given the changed code for that one file,
whatever the name it is imported by.
"""

import os
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from importlib.machinery import SourceFileLoader
from pathlib import Path

import pytest

from benchmarks.mutants.changes import Mutant
from benchmarks.mutants.reach import Only, TracedTest, Tracer

__all__ = ["check", "trace"]

# pytest's exit status where it collected no tests: then nothing was checked.
NO_TESTS = 5
STOPPED = -1


def trace(tests: Sequence[Path], code: Sequence[Path], rootdir: Path, seconds: float) -> list[TracedTest] | None:
    """The tests in the files `tests` and which lines of `code` each of them runs; None where one fails."""
    with tempfile.TemporaryDirectory() as folder:
        found = Path(folder, "found.json")

        def run() -> int:
            tracer = Tracer(code)
            tracer.start()
            status = _pytest(tests, rootdir, tracer)
            tracer.write(found)
            return status

        status = _forked(run, seconds)
        if status == NO_TESTS:
            raise RuntimeError(f"There are no tests in {', '.join(map(str, tests))}; a room's tests have its name.")
        return Tracer.read(found) if status == 0 else None


def check(mutant: Mutant, tests: Sequence[TracedTest], rootdir: Path, seconds: float) -> bool:
    """Whether the tests pass with the change, and it is one that nobody notices. Out of time counts as failed: a change
    may loop for ever."""
    if not tests:
        return True

    def run() -> int:
        _load_changed(mutant)
        files = dict.fromkeys(Path(test.file) for test in tests)
        return _pytest(list(files), rootdir, Only([test.name for test in tests]))

    return _forked(run, seconds) == 0


def _forked(act: Callable[[], int], seconds: float) -> int:
    """The status that `act` ends with in a fork of this process."""
    sys.stdout.flush()
    sys.stderr.flush()
    child = os.fork()
    if child == 0:
        _live(act)
    ends = time.monotonic() + seconds
    while time.monotonic() < ends:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.02)
    os.killpg(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return STOPPED


def _live(act: Callable[[], int]) -> None:
    """The fork's whole life. It never returns, not even by an error, or there would be two of this program."""
    status = 3
    try:
        os.setsid()
        nowhere = os.open(os.devnull, os.O_RDWR)
        for stream in (0, 1, 2):
            os.dup2(nowhere, stream)
        status = act()
    finally:
        os._exit(status)


def _pytest(files: Sequence[Path], rootdir: Path, plugin) -> int:
    # Plugins that were imported before the fork: pytest would warn that it cannot rewrite them.
    quiet = ["-W", "ignore::pytest.PytestAssertRewriteWarning"]
    options = ["-x", "-q", "-p", "no:cacheprovider", *quiet, f"--rootdir={rootdir}"]
    return int(pytest.main([*options, *map(str, files)], plugins=[plugin]))


def _load_changed(mutant: Mutant) -> None:
    code, usual = mutant.code(), SourceFileLoader.get_code
    target = mutant.file.resolve()

    def get_code(self, name):
        return code if Path(self.path).resolve() == target else usual(self, name)

    SourceFileLoader.get_code = get_code
