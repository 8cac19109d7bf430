"""Fuzzing of everything that strangers can hand in: `python -m benchmarks.fuzz --cases 1000000 --seed 0`.

Compact plan text, plan JSON, safetensors files and side files of corrections, nine of ten of them valid ones that were
damaged. Each must end in a sound result, which then survives writing and reading, or in a SkrrError of one line.
Prints one JSON object: the counts, and how often each `raise` of the readers was the one that refused; findings end it
with status 1. `--only 123` makes that case of the seed again and shows it.
"""

import argparse
import ast
import itertools
import json
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.fuzz.cases import make_case
from skrr_engine.corrections import side_file
from skrr_engine.errors import SkrrError
from skrr_engine.files import header
from skrr_engine.files.files import PLAN_KEY, read_plan
from skrr_engine.plans import architecture, plan, plan_json, plan_text

__all__ = ["MODULES", "Run", "check_case", "raise_lines", "raised_at", "run"]

PACK = Path(__file__).resolve().parents[2]
# The readers and validators, every `raise` of which is counted.
MODULES = (architecture, header, plan, plan_json, plan_text, side_file)
# Their sources as they were imported: somebody may edit them while a long run goes on.
TREES = {Path(m.__file__).stem: ast.parse(Path(m.__file__).read_text(encoding="utf-8")) for m in MODULES}
LONGEST_SENTENCE = 600


@dataclass
class Run:
    """Counts of a run, and what it found: (case, target, what is wrong)."""

    cases: int = 0
    mutations: int = 0
    outcomes: Counter = field(default_factory=Counter)
    raised: Counter = field(default_factory=Counter)
    slowest: tuple[float, int] = (0.0, -1)
    findings: list[tuple[int, str, str]] = field(default_factory=list)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", type=int, default=1_000_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", type=int, help="make this one case and show it")
    options = parser.parse_args()
    if options.only is not None:
        print(*map(ascii, make_case(options.seed, options.only)), sep="\n")
        found = run(range(options.only, options.only + 1), options.seed)
    else:
        found = run(range(options.cases), options.seed)
    raised = {f"{module}.py:{line}": found.raised[module, line] for module, line in sorted(raise_lines())}
    print(json.dumps({**vars(found), "outcomes": dict(sorted(found.outcomes.items())), "raised": raised}, indent=1))
    return int(bool(found.findings))


def run(numbers, seed: int) -> Run:
    """Checks the cases of those numbers."""
    found = Run()
    with tempfile.TemporaryDirectory(prefix="skrr-fuzz-") as folder:
        for number in numbers:
            target, mutation, content = make_case(seed, number)
            started = time.perf_counter()
            try:
                outcome = check_case(target, content, Path(folder), found.raised)
            except Exception as error:  # whatever it is, it is what this program looks for
                found.findings.append((number, target, f"{type(error).__name__}: {error}"))
                outcome = "finding"
            found.slowest = max(found.slowest, (time.perf_counter() - started, number))
            found.cases += 1
            found.mutations += mutation
            found.outcomes[f"{target}, {outcome}"] += 1
    return found


def check_case(target: str, content: str | bytes, folder: Path, raised: Counter) -> str:
    """"valid" or "refused"; the lines that raised are added to `raised`. Raises AssertionError, or whatever the
    reader let through, when the case ends in any other way."""
    if target == "header":
        return check_file(content, folder, raised)
    if target == "side file":
        return check_side_file(content, folder, raised)
    if target == "pasted text":
        return check_plan(attempt(lambda: plan_text.read_plan_text(content), raised), raised)
    reader = read_json if target.startswith("plan") else plan_text.loads_level
    return check_plan(attempt(lambda: reader(content), raised), raised)


def read_json(text: str):
    """As one that can honour everything reads it."""
    return plan_json.loads(text, {plan_json.CORRECTIONS})


def attempt(action, raised: Counter):
    """What `action` returns, or None for a SkrrError, which must be a line that any terminal and any log can show."""
    try:
        return action()
    except SkrrError as error:
        raised.update(raised_at(error))
        check_sentence(str(error))
    return None


def check_sentence(text: str) -> None:
    """A message for people, whatever was in the input."""
    assert type(text) is str and text.isprintable(), f"not one printable line: {text[:200]!r}"
    assert text.endswith("."), f"no sentence: {text[:200]!r}"
    assert len(text) <= LONGEST_SENTENCE, f"{len(text)} characters: {text[:200]!r}"


def check_plan(found, raised: Counter) -> str:
    """What was read can be written and read again, as JSON and, level by level, as compact text."""
    if found is None:
        return "refused"
    assert read_json(plan_json.dumps(found)) == found, "does not survive JSON"
    for level in found.levels:
        text = attempt(lambda level=level: plan_text.dumps_level(found, level), raised)
        if text is not None:  # JSON can say more than a line can
            again = plan_text.loads_level(text)
            assert again.levels[0].cuts == dict(level.cuts), "its level does not survive compact text"
            assert all(again.encoders[slot].architecture == found.encoders[slot].architecture for slot in level.cuts)
    return "valid"


def check_file(content: bytes, folder: Path, raised: Counter) -> str:
    """The header, then the plan inside. Reading leaves no trace in the folder."""
    path = folder / "model.safetensors"
    path.write_bytes(content)
    found = attempt(lambda: header.read_header(path), raised)
    inside = check_plan(attempt(lambda: read_plan(path), raised), raised)
    assert [entry.name for entry in folder.iterdir()] == [path.name], "reading wrote a file"
    assert path.read_bytes() == content, "reading changed the file"
    if found is None:
        assert inside == "refused", "a plan out of a file whose header is not sound"
        return "refused"
    entries = sorted(found.tensors.values(), key=lambda entry: (entry.start, entry.end))
    left = len(content) - 8 - int.from_bytes(content[:8], "little")
    assert sum(entry.bytes for entry in entries) == found.file_bytes - found.data_at == left
    assert all(one.end == other.start for one, other in itertools.pairwise(entries))
    assert PLAN_KEY in found.metadata or inside == "refused"
    return "valid"


def check_side_file(content: bytes, folder: Path, raised: Counter) -> str:
    """What was read can be written and read again, and its numbers are all finite."""
    path, again = folder / "model.safetensors", folder / "again.safetensors"
    path.write_bytes(content)
    found = attempt(lambda: side_file.read_side_file(path), raised)
    assert path.read_bytes() == content, "reading changed the file"
    if found is None:
        return "refused"
    note = side_file.write_side_file(again, found.plan, found.corrections)
    other = side_file.read_side_file(again)
    assert (other.plan, other.note) == (found.plan, note), "does not survive writing"
    for slot, one in found.corrections.items():
        two = other.corrections[slot].tensors
        assert one.tensors.keys() == two.keys() and all(part.equal(two[key]) for key, part in one.tensors.items())
        assert all(part.isfinite().all() for part in two.values()), "numbers that are not finite"
    again.unlink()
    return "valid"


# --- which `raise` refused ------------------------------------------------------------------------------------


def raise_lines() -> set[tuple[str, int]]:
    """(module, line) of every `raise` of the readers."""
    return {(name, node.lineno) for name, tree in TREES.items() for node in ast.walk(tree) if is_raise(node)}


def is_raise(node) -> bool:
    return isinstance(node, ast.Raise)


def bare_raises() -> list[tuple[str, range, int]]:
    """(module, lines of the `try`, line) of every bare `raise`: it hands an error on and leaves no line of its own."""
    found = []
    for name, tree in TREES.items():
        for attempt_ in (node for node in ast.walk(tree) if isinstance(node, ast.Try)):
            lines = range(attempt_.body[0].lineno, attempt_.body[-1].end_lineno + 1)
            handlers = [part for handler in attempt_.handlers for part in ast.walk(handler)]
            found += [(name, lines, part.lineno) for part in handlers if is_raise(part) and part.exc is None]
    return found


BARE = bare_raises()
NAMES = {module.__file__: Path(module.__file__).stem for module in MODULES}


def raised_at(error: BaseException) -> set[tuple[str, int]]:
    """(module, line) where `error` and the errors that it replaced were raised, in the readers."""
    found, last = set(), error
    while error is not None:
        steps, trace = [], error.__traceback__
        while trace is not None:
            steps.append((NAMES.get(trace.tb_frame.f_code.co_filename), trace.tb_lineno))
            trace = trace.tb_next
        found.add(steps[-1])
        if error is last:
            found |= {(name, line) for name, lines, line in BARE if any(s[0] == name and s[1] in lines for s in steps)}
        error = error.__context__
    return {step for step in found if step[0]}
