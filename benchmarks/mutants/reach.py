"""Which tests run which lines of a room: a change can be noticed only by tests that run the changed lines.

Traced by Python itself, once, on the code as it is. What runs while modules are imported or fixtures of the whole
session are made counts for every test, what runs in a fixture of a module for every test of that module. What a test
finds in a cache that another test filled is not seen: the score is then lower than it could be.
"""

import json
import math
import sys
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import accumulate, islice
from pathlib import Path

import pytest

from benchmarks.mutants.changes import Mutant

__all__ = ["Only", "TracedTest", "Tracer", "concerned"]


@dataclass(frozen=True)
class TracedTest:
    """A test by pytest's name for it, the file it stands in, what it takes and the lines that it runs."""

    name: str
    file: str
    seconds: float
    lines: frozenset[tuple[str, int]]


def concerned(mutant: Mutant, tests: Iterable[TracedTest], within: float = math.inf) -> list[TracedTest]:
    """Those that run a line of the change, file by file and each file in its own order: first files named after the
    changed one, then those that are done soonest; as many as take `within` seconds together, and one at least."""
    file = str(mutant.file.resolve())
    changed = {(file, line) for line in range(mutant.line, mutant.end + 1)}
    near = [test for test in tests if changed & test.lines]
    takes = Counter()
    for test in near:
        takes[test.file] += test.seconds
    near.sort(key=lambda test: (mutant.file.stem not in Path(test.file).stem, takes[test.file], test.file))
    ends = accumulate(test.seconds for test in near)
    return near[:1] + [test for test, end in zip(near[1:], islice(ends, 1, None), strict=True) if end <= within]


class Only:
    """Has pytest run the tests of these names alone, in their order."""

    def __init__(self, names: list[str]):
        self._places = {name: place for place, name in enumerate(names)}

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(self, items):
        """Called by pytest once everything is collected."""
        items[:] = sorted((i for i in items if i.nodeid in self._places), key=lambda item: self._places[item.nodeid])


class Tracer:
    """Writes down, while pytest runs, which lines of `files` each test runs."""

    def __init__(self, files: Iterable[Path]):
        self._files = {str(file.resolve()) for file in files}
        self._always: set = set()
        self._modules: dict[str, set] = defaultdict(set)
        self._tests: list[tuple[str, str, float, set]] = []
        self._now = self._always

    def start(self) -> None:
        """From here on, in every thread."""
        threading.settrace(self._called)
        sys.settrace(self._called)

    def _called(self, frame, event, argument):
        if frame.f_code.co_filename not in self._files:
            return None
        return self._ran(frame, event, argument)

    def _ran(self, frame, event, argument):
        self._now.add((frame.f_code.co_filename, frame.f_lineno))
        return self._ran

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item):
        """Called by pytest around each test."""
        self._now, began = set(), time.monotonic()
        self._tests.append((item.nodeid, str(item.path), began, self._now))
        result = yield
        name, file, _, lines = self._tests.pop()
        self._tests.append((name, file, time.monotonic() - began, lines))
        self._now = self._always
        return result

    @pytest.hookimpl(wrapper=True)
    def pytest_fixture_setup(self, fixturedef, request):
        """Called by pytest around the making of each fixture."""
        before = self._now
        if fixturedef.scope == "session":
            self._now = self._always
        elif fixturedef.scope != "function":
            self._now = self._modules[str(request.path)]
        try:
            return (yield)
        finally:
            self._now = before

    def write(self, file: Path) -> None:
        """What was seen, for `read`."""
        sys.settrace(None)
        threading.settrace(None)
        found = [
            (name, path, seconds, sorted(lines | self._always | self._modules[path]))
            for name, path, seconds, lines in self._tests
        ]
        file.write_text(json.dumps(found), encoding="utf-8")

    @staticmethod
    def read(file: Path) -> list[TracedTest]:
        """The tests that a tracer wrote down."""
        found = json.loads(file.read_text(encoding="utf-8"))
        return [TracedTest(name, path, s, frozenset(map(tuple, lines))) for name, path, s, lines in found]
