"""What benchmarks print, run once for all the tests that read it."""

import json
import sys
from contextlib import redirect_stdout
from io import StringIO

import pytest

from benchmarks.search import command as search


@pytest.fixture(scope="session")
def printed():
    """What a benchmark's `main` prints with these arguments."""

    def run(main, *arguments):
        with pytest.MonkeyPatch.context() as patch, redirect_stdout(StringIO()) as out:
            patch.setattr(sys, "argv", ["benchmark", *arguments])
            main()
        return json.loads(out.getvalue())

    return run


@pytest.fixture(scope="session")
def small(printed):
    """What `python -m benchmarks.search --small` prints. To be read, not changed."""
    return printed(search.main, "--small")
