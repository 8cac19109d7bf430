"""A disk that fails: of all calls of an operation that touch files below a folder, one raises an OSError."""

import builtins
import contextlib
import io
import os
from pathlib import Path

import pytest

PATH_CALLS = ("stat", "lstat", "mkdir", "replace", "scandir", "listdir", "unlink")
HANDLE_CALLS = ("fstat", "fsync")
FILE_CALLS = ("read", "readinto", "readline", "seek", "tell", "write", "flush")


class Disk:
    """Counts the calls that touch files below `folder`: `called` names them, the one numbered `fails` raises."""

    def __init__(self, folder, fails=None, error=None):
        self.folder, self.fails, self.called, self.handles = os.path.realpath(folder), fails, [], set()
        self.error = OSError(5, "Input/output error") if error is None else error

    def _call(self, name, call, *args, **options):
        self.called.append(name)
        if len(self.called) - 1 == self.fails:
            raise self.error
        return call(*args, **options)

    def _below(self, path):
        if not isinstance(path, (str, os.PathLike)):
            return False
        return os.path.abspath(os.fspath(path)).startswith(self.folder)

    def _of_path(self, name):
        usual = getattr(os, name)
        return lambda path=".", *args, **options: (
            self._call(name, usual, path, *args, **options) if self._below(path) else usual(path, *args, **options)
        )

    def _of_handle(self, name):
        usual = getattr(os, name)
        return lambda handle: self._call(name, usual, handle) if handle in self.handles else usual(handle)

    def _open(self, path, *args, **options):
        if not self._below(path):
            return OPEN(path, *args, **options)
        file = self._call("open", OPEN, path, *args, **options)
        self.handles.add(file.fileno())
        return File(self, file)

    @contextlib.contextmanager
    def mounted(self):
        """Within, the calls go through this disk."""
        with pytest.MonkeyPatch.context() as patch:
            for name in PATH_CALLS:
                patch.setattr(os, name, self._of_path(name))
            for name in HANDLE_CALLS:
                patch.setattr(os, name, self._of_handle(name))
            patch.setattr(builtins, "open", self._open)
            patch.setattr(io, "open", self._open)
            yield self


OPEN = builtins.open


class File:
    """An open file of such a disk."""

    def __init__(self, disk, file):
        self.disk, self.file = disk, file

    def __getattr__(self, name):
        found = getattr(self.file, name)
        if name not in FILE_CALLS:
            return found
        return lambda *args: self.disk._call(name, found, *args)

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self.file.close()


def fail_everywhere(folder, operation, allowed):
    """Runs `operation` once for each of its calls into `folder`, that call failing: it ends well or in `allowed`, an
    exception. Returns (name of the call, exception or None) for each; `operation` gets the number of the run."""
    with Disk(folder).mounted() as counted:
        operation("whole")
    ends = []
    for number in range(len(counted.called)):
        with Disk(folder, number).mounted() as disk:
            try:
                operation(number)
                ends.append((disk.called[number], None))
            except allowed as error:
                assert "Input/output error" in str(error) and str(error).endswith("."), str(error)
                ends.append((disk.called[number], error))
        assert not left_over(folder), f"call {number}, {disk.called[number]}: {left_over(folder)}"
    return ends


def left_over(folder):
    """Half-written files below `folder`."""
    return [path.name for path in Path(folder).rglob("*") if path.name.endswith(".part")]
