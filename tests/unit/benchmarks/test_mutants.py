"""The benchmark of the tests: which changes it makes, and that it tells guarded code from unguarded."""

import json
import os
import subprocess
import sys

import pytest

from benchmarks.mutants.changes import mutants_of
from benchmarks.mutants.command import EQUIVALENT, PACK, main
from benchmarks.mutants.reach import TracedTest, concerned

CODE = '''
__all__ = ["steps"]


def steps(start: int | None, end: int) -> int:
    """How many steps: 1 each."""
    count = 0
    while start < end:
        start += 1
        count += 1
    if count < 0:
        raise ValueError("never 1")
    return count
'''
TEST = """
from room import steps


def test_steps():
    assert steps(2, 5) == 3
"""
# What judges the little room: in a process of its own, as the command does.
JUDGE = """
import json, sys
from pathlib import Path
from benchmarks.mutants.changes import mutants_of
from benchmarks.mutants.command import Room, judge
from benchmarks.mutants.judging import trace
from benchmarks.mutants.reach import concerned

folder = Path(sys.argv[1])
sys.path.insert(0, str(folder / "code"))
room = Room("room", folder / "code", folder / "tests")
mutants = [m for m in mutants_of(folder / "code" / "room.py") if m.before in json.loads(sys.argv[2])]
change = {"file": "room.py", "where": "steps", "before": "count += 1", "after": "count -= 1"}
known = [{**change, "why": "an example"}]
for result in judge(room, mutants, known, folder, grace=1):
    pass
tests = trace(sorted(room.tests.glob("*.py")), [folder / "code" / "room.py"], folder, 60)
near = {m.before: [test.name.rpartition("::")[2] for test in concerned(m, tests)] for m in mutants}
print(json.dumps(vars(result) | {"near": near}))
"""


@pytest.fixture
def room(tmp_path):
    for folder, name, text in (("code", "room.py", CODE), ("tests", "test_room.py", TEST)):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / name).write_text(text)
    return tmp_path


def test_each_change_is_one_place_and_runs(room):
    file = room / "code" / "room.py"
    found = mutants_of(file)
    assert {(mutant.before, mutant.after) for mutant in found} == {
        ("0", "1"), ("1", "2"), ("start < end", "start <= end"), ("start += 1", "start -= 1"),
        ("count += 1", "count -= 1"), ("while start < end:", "while not start < end:"), ("count < 0", "count <= 0"),
        ("if count < 0:", "if not count < 0:"), ("raise ValueError('never 1')", "pass"),
        ("return count", "return None"),
    }  # fmt: skip
    assert len({(mutant.line, mutant.before) for mutant in found}) == len(found)
    assert all(mutant.where == "steps" and mutant.code() for mutant in found)
    assert file.read_text() == CODE


def judged(room, *before):
    command = [sys.executable, "-c", JUDGE, str(room), json.dumps(before)]
    # Plugins would be imported anew in each fork: that takes longer than the little room's test.
    environment = {**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    ran = subprocess.run(command, cwd=PACK, capture_output=True, text=True, timeout=300, env=environment)
    assert ran.returncode == 0, ran.stderr
    return json.loads(ran.stdout)


def test_survivors_are_told_from_killed_ones_and_an_endless_loop_is_killed(room):
    raised = "raise ValueError('never 1')"
    found = judged(room, "start < end", "start += 1", "count += 1", "return count", "count < 0", raised)
    assert found["killed"] == 3
    assert [one["before"] for one in found["equivalent"]] == ["count += 1"], "said to make no difference: not run"
    assert [(one["before"], one["line"]) for one in found["survivors"]] == [
        ("count < 0", 11), (raised, 12),
    ]  # fmt: skip


OTHERS = """
import pytest
import room


@pytest.fixture
def late():
    return room.steps(3, 1)


def test_of_something_else():
    assert room


def test_late(late):
    assert late == 0


@pytest.fixture(scope="module")
def made():
    return room.steps(0, 2)


def test_made(made):
    assert made == 2
"""


def test_a_change_is_judged_by_the_tests_that_run_its_line(room):
    """What a fixture of a module runs counts for all of that module."""
    alone, made = OTHERS.split('@pytest.fixture(scope="module")')
    (room / "tests" / "test_others.py").write_text(alone)
    shared = "import pytest\nimport room\n\n@pytest.fixture(scope='module')" + made + "def test_beside():\n    pass\n"
    (room / "tests" / "test_shared.py").write_text(shared)
    raised = "raise ValueError('never 1')"
    found = judged(room, "start += 1", "return count", raised)
    near = {change: set(names) for change, names in found["near"].items()}
    assert near["return count"] == {"test_steps", "test_late", "test_made", "test_beside"}
    assert near["start += 1"] == {"test_steps", "test_made", "test_beside"}
    assert near[raised] == set() and found["killed"] == 2


def test_the_nearest_and_quickest_tests_come_first_and_some_may_do(room):
    (change,) = (mutant for mutant in mutants_of(room / "code" / "room.py") if mutant.before == "return count")
    ran = frozenset({(str(change.file), change.line)})
    others = [("far", "test_other.py", 1.0, ran), ("beside", "test_room.py", 0.0, frozenset())]
    near = [("slow", "test_room.py", 8.0, ran), ("after", "test_room.py", 1.0, ran)]
    near += [("quick", "test_room_too.py", 3.0, ran)]
    tests = [TracedTest(*values) for values in near + others]
    order = lambda **within: [test.name for test in concerned(change, tests, **within)]  # noqa: E731
    assert order() == ["quick", "slow", "after", "far"]
    assert order(within=11) == ["quick", "slow"] and order(within=10) == ["quick"] == order(within=0.1)
    assert concerned(change, tests[4:]) == []


def test_tests_that_fail_anyway_judge_nothing(room):
    (room / "tests" / "test_room.py").write_text(TEST.replace("== 3", "== 4"))
    with pytest.raises(AssertionError, match="fail as they are; mend them first"):
        judged(room, "return count")


def test_a_room_that_is_not_there_is_told(capsys):
    with pytest.raises(SystemExit):
        main(["cellar"])
    assert "There is no room 'cellar'; there are plans, measure, search" in capsys.readouterr().err


def test_every_change_said_to_make_no_difference_can_be_made_and_has_its_reason():
    entries = json.loads(EQUIVALENT.read_text(encoding="utf-8"))
    found = {name: mutants_of(PACK / name) for name in {entry["file"] for entry in entries}}
    for entry in entries:
        assert entry.keys() == {"file", "where", "before", "after", "why"} and len(entry["why"]) > 20
        changes = [(m.where, m.before, m.after) for m in found[entry["file"]]]
        assert (entry["where"], entry["before"], entry["after"]) in changes
