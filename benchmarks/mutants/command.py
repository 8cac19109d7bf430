"""How well the tests guard the code: `python -m benchmarks.mutants [room ...] [--sample N] [--seed S] [--out FILE]`.

Makes small wrong changes ("mutants") of a room, one at a time (changes.py), and runs on each those of the room's own
tests that run the changed lines (reach.py, judging.py). A change that no test notices is a survivor: a line that is not
guarded, or a change that makes no difference; those are listed in equivalent.json with the reason and not counted.
Rooms: plans, measure, search; and clip of the ComfyUI side, with $COMFYUI_PATH set and that ComfyUI's Python. Without
--sample every change is made, which takes hours. Set OMP_NUM_THREADS=1. Status 1 where there are survivors.
"""

import argparse
import importlib
import json
import math
import os
import random
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.mutants.changes import Mutant, mutants_of
from benchmarks.mutants.judging import check, trace
from benchmarks.mutants.reach import concerned

__all__ = ["PACK", "Result", "Room", "judge", "main"]

PACK = Path(__file__).resolve().parents[2]
EQUIVALENT = Path(__file__).with_name("equivalent.json")
# What takes seconds to import and is no part of the pack; ComfyUI's own modules read the command line.
SLOW = ("torch", "safetensors.torch", "hypothesis", "transformers.models.t5.modeling_t5")


@dataclass(frozen=True)
class Room:
    """Code and the tests that are to guard it."""

    name: str
    code: Path
    tests: Path


@dataclass
class Result:
    """What became of the changes of a room; `survivors` and `equivalent` hold them as told by `about`."""

    room: str
    killed: int = 0
    survivors: list[dict] = field(default_factory=list)
    equivalent: list[dict] = field(default_factory=list)

    @property
    def score(self) -> float:
        """The share of the counted changes that the tests noticed."""
        counted = self.killed + len(self.survivors)
        return self.killed / counted if counted else 1.0


def rooms() -> dict[str, Room]:
    """By name; the ComfyUI side only where there is a ComfyUI."""
    found = [Room(n, PACK / "skrr_engine" / n, PACK / "tests" / "unit" / n) for n in ("plans", "measure", "search")]
    if "COMFYUI_PATH" in os.environ:
        found.append(Room("clip", PACK / "nodes" / "comfy_host" / "clip", PACK / "tests" / "comfy" / "clip"))
    return {room.name: room for room in found}


def about(mutant: Mutant) -> dict:
    """A change as equivalent.json names it: without its line, which moves."""
    file = mutant.file.relative_to(PACK).as_posix() if mutant.file.is_relative_to(PACK) else mutant.file.name
    return {"file": file, "where": mutant.where, "before": mutant.before, "after": mutant.after}


def chosen(room: Room, sample: int | None, seed: int) -> list[Mutant]:
    """All changes of a room, or `sample` of them, the same for the same seed and code."""
    every = [mutant for file in sorted(room.code.glob("*.py")) for mutant in mutants_of(file)]
    if sample is None or sample >= len(every):
        return every
    return [every[n] for n in sorted(random.Random(f"{seed}:{room.name}").sample(range(len(every)), sample))]


def judge(
    room: Room,
    mutants: list[Mutant],
    equivalent: list[dict],
    rootdir: Path = PACK,
    grace: float = 20,
    names: Sequence[str] = ("test_*.py",),
    within: float = math.inf,
) -> Iterator[Result]:
    """The result so far, after each change, by the test files with one of `names` and of their tests by as many as take
    `within` seconds; those of one change may take `grace` seconds and four times what they take without any. Raises
    RuntimeError where they fail without any."""
    began = time.monotonic()
    files = sorted({path for name in names for path in room.tests.glob(name)})
    tests = trace(files, list(room.code.glob("*.py")), rootdir, 3600)
    if tests is None:
        raise RuntimeError(f"The tests in {room.tests} fail as they are; mend them first.")
    start = time.monotonic() - began - sum(test.seconds for test in tests)
    known = [{name: entry[name] for name in ("file", "where", "before", "after")} for entry in equivalent]
    result = Result(room.name)
    for mutant in mutants:
        near = concerned(mutant, tests, within)
        limit = grace + 4 * (start + sum(test.seconds for test in near))
        if about(mutant) in known:
            result.equivalent.append(about(mutant))
        elif check(mutant, near, rootdir, limit):
            result.survivors.append({**about(mutant), "line": mutant.line})
        else:
            result.killed += 1
        yield result


def main(argv=None) -> int:
    """Judges the rooms and prints them; 1 where there are survivors, else 0."""
    found = rooms()
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.mutants", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("rooms", nargs="*", metavar="room", help=f"{', '.join(found)} (all of them)")
    parser.add_argument("--sample", type=int, metavar="N", help="of each room (all changes)")
    parser.add_argument("--seed", type=int, default=0, metavar="S", help="of the sample (0)")
    parser.add_argument(
        "--tests", nargs="+", default=["test_*.py"], metavar="NAME",
        help="test files of the rooms, with * and ? (all); with fewer the score is at least what is told",
    )  # fmt: skip
    parser.add_argument(
        "--within", type=float, default=math.inf, metavar="SECONDS",
        help="the tests of a change may take together, the nearest and quickest first (all); the score is then at "
        "least what is told",
    )  # fmt: skip
    parser.add_argument("--out", type=Path, metavar="FILE", help="the results as JSON, written after each change")
    options = parser.parse_args(argv)
    unknown = [name for name in options.rooms if name not in found]
    if unknown:
        parser.error(f"There is no room {unknown[0]!r}; there are {', '.join(found)}.")
    for module in SLOW:
        importlib.import_module(module)
    equivalent, results = json.loads(EQUIVALENT.read_text(encoding="utf-8")), []
    for room in [found[name] for name in options.rooms or found]:
        mutants = chosen(room, options.sample, options.seed)
        print(f"{room.name}: {len(mutants)} changes", flush=True)
        told, result = 0, Result(room.name)
        if room.name == "clip":
            _import_comfy()
        for result in judge(room, mutants, equivalent, names=options.tests, within=options.within):
            for one in result.survivors[told:]:
                print(f"  survives: {one['file']}:{one['line']} {one['before']}  ->  {one['after']}", flush=True)
            told = len(result.survivors)
            if options.out is not None:
                options.out.write_text(json.dumps([vars(r) | {"score": r.score} for r in (*results, result)], indent=1))
        results.append(result)
        print(
            f"{room.name}: {result.killed} killed, {len(result.survivors)} survive, {len(result.equivalent)} make no "
            f"difference; score {100 * result.score:.1f} %",
            flush=True,
        )
    for entry in _stale(equivalent, found):
        print(f"equivalent.json names a change that can no longer be made: {entry['file']}: {entry['before']}")
    return int(any(result.survivors for result in results))


def _import_comfy() -> None:
    """What tests/comfy/conftest.py would import in every fork, in its order."""
    arguments, sys.argv = sys.argv, ["main.py", "--cpu"]
    sys.path.insert(0, str(Path(os.environ["COMFYUI_PATH"]).expanduser()))
    importlib.import_module("comfy.options").enable_args_parsing()
    for module in ("comfy.cli_args", "utils.extra_config", "comfy.sd"):
        importlib.import_module(module)
    sys.argv = arguments


def _stale(equivalent: list[dict], found: dict[str, Room]) -> list[dict]:
    """Entries for files of known rooms whose change cannot be made any more."""
    folders = {room.code for room in found.values()}
    files = {entry["file"] for entry in equivalent if (PACK / entry["file"]).parent in folders}
    made = [about(mutant) for name in files if (PACK / name).exists() for mutant in mutants_of(PACK / name)]
    return [e for e in equivalent if e["file"] in files and {k: v for k, v in e.items() if k != "why"} not in made]
