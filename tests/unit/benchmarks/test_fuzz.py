"""Everything that strangers can hand in, damaged thousands of times; and that every `raise` of the readers has
refused something, so that none stands there untested. The long form is `python -m benchmarks.fuzz`."""

from collections import Counter
from dataclasses import replace

import pytest
import torch

from benchmarks.fuzz.cases import TARGETS, make_case
from benchmarks.fuzz.command import MODULES, check_case, raise_lines, raised_at, run
from skrr_engine.corrections import side_file
from skrr_engine.corrections.added import Bias, Bridge
from skrr_engine.corrections.found import Corrections
from skrr_engine.errors import SkrrError
from skrr_engine.files import header
from skrr_engine.plans import architecture, plan, plan_json, plan_text
from skrr_engine.plans.architecture import T5_XXL

# Of this seed the first nine thousand reach every `raise` that damage can reach.
CASES, SEED = 9_000, 16
INFO = {"t5xxl": plan.EncoderInfo(T5_XXL)}
LEVEL = plan.make_level(INFO, {"t5xxl": plan.make_cut([46])})
PLAN = plan.Plan("sound", INFO, (LEVEL,))
CORRECTED = replace(LEVEL, corrections=plan.SideFileNote("0" * 64, {"t5xxl": "0" * 64}))
FOUND = Corrections(T5_XXL, "0" * 64, plan.make_cut([46]), added={46: Bias(torch.zeros(4096))})
# What no damage of a file or text reaches, because a reader before it refuses, or JSON cannot say it.
DIRECT = {
    "a plan text beyond all measure": lambda: plan_json.loads(" " * (plan_json.MAX_TEXT + 1)),
    "a feature of a later version": lambda: plan_json.loads(
        plan_json.dumps(PLAN).replace('"requires": []', '"requires": ["gains"]')
    ),
    "a list in a record": lambda: plan_json.loads(plan_json.dumps(replace(PLAN, search={"a": [1]}))),
    "a number beyond all measure": lambda: plan_json.loads(
        plan_json.dumps(replace(PLAN, search={"a": "X"})).replace('"X"', "1e999")
    ),
    "two sources in one place": lambda: plan.Cut((5,), ((5, 7), (5, 9))).check(48),
    "a cut of another plan's encoder": lambda: plan.make_level(INFO, {"clip_l": plan.make_cut([])}),
    "a plan without levels": lambda: plan.Plan("empty", INFO, ()),
    "a sparsity beyond the plan": lambda: PLAN.level_for(0.9),
    "more heads than a line has room for": lambda: plan_text.dumps_level(
        plan.Plan("odd", {"t5xxl": plan.EncoderInfo(replace(T5_XXL, heads=70_000))}, (LEVEL,)), LEVEL
    ),
    "more plans than a message has": lambda: plan_text.read_plan_text(" skrr1.AAAAAAAA" * 65 + "."),
    "a correction of an encoder that is not cut": lambda: plan.make_level(
        INFO, {"t5xxl": plan.make_cut([46])}, None, plan.SideFileNote("0" * 64, {"clip_l": "0" * 64})
    ),
    "a place that is no index": lambda: plan_json.loads(
        plan_json.dumps(PLAN).replace('"reuse": {}', '"reuse": {"046": 44}')
    ),
    "a line of a level with corrections": lambda: plan_text.dumps_level(PLAN, CORRECTED),
    "a side file of nothing": lambda: side_file.write_side_file("nowhere.safetensors", PLAN, {}),
    "a side file for a level without": lambda: side_file.side_file_for("nowhere.safetensors", LEVEL),
    "a side file of another level": lambda: side_file.write_side_file("nowhere", PLAN, {"clip_l": FOUND}),
    "a file that is not there": lambda: header.read_header("nowhere/model.safetensors"),
}


def raises(action):
    """The lines of the readers that refused."""
    with pytest.raises(SkrrError) as error:
        action()
    return raised_at(error.value)


@pytest.fixture(scope="module")
def fuzzed():
    return run(range(CASES), SEED)


def test_every_case_ends_in_a_sound_result_or_a_sentence(fuzzed):
    assert fuzzed.findings == []
    assert fuzzed.cases == CASES


def test_the_cases_are_what_they_should_be(fuzzed):
    """Mostly damaged valid inputs; some still valid, most refused, for every kind of input."""
    assert fuzzed.mutations > CASES / 2
    for target in TARGETS:
        assert fuzzed.outcomes[f"{target}, valid"] > 0.003 * CASES
        assert fuzzed.outcomes[f"{target}, refused"] > 0.05 * CASES


def test_every_raise_of_the_readers_has_refused_something(fuzzed, tmp_path):
    reached = Counter(fuzzed.raised)
    for action in DIRECT.values():
        reached.update(raises(action))
    note = side_file.write_side_file(tmp_path / "one.safetensors", PLAN, {"t5xxl": FOUND})
    other = replace(LEVEL, corrections=replace(note, file="0" * 64))
    reached.update(raises(lambda: side_file.side_file_for(tmp_path / "one.safetensors", other)))
    bridge = Bridge(torch.zeros(2, 4097), torch.zeros(4096, 3))
    ranks = {"t5xxl": replace(FOUND, added={46: bridge})}
    reached.update(raises(lambda: side_file.write_side_file(tmp_path / "two.safetensors", PLAN, ranks)))
    (tmp_path / "list.safetensors").write_bytes((2).to_bytes(8, "little") + b"[]")
    reached.update(raises(lambda: header.read_header(tmp_path / "list.safetensors")))
    assert raise_lines() - reached.keys() == set()


def test_fuzzing_alone_reaches_all_but_the_direct_cases(fuzzed):
    assert len(raise_lines() - fuzzed.raised.keys()) <= len(DIRECT) + 4


@pytest.mark.parametrize("action", DIRECT.values(), ids=DIRECT.keys())
def test_what_damage_does_not_reach_is_refused_too(action):
    assert raises(action)


def test_a_case_is_made_from_its_number_alone():
    """So that a finding of a long run can be looked at."""
    assert [make_case(3, n) for n in (7, 8, 9)] == [make_case(3, n) for n in (7, 8, 9)]
    assert make_case(3, 7) != make_case(4, 7)


# --- that the fuzzing itself would see ------------------------------------------------------------------------


def test_an_error_that_is_no_sentence_is_a_finding(monkeypatch):
    def broken(text, features=()):
        raise KeyError("x")

    monkeypatch.setattr(plan_json, "loads", broken)
    found = run(range(2, 4), 0)
    assert [finding[1] for finding in found.findings] == ["plan text", "plan tree"]


@pytest.mark.parametrize("message", ["two\nlines.", "half a surrogate \ud800.", "no stop", "too long " * 99 + "."])
def test_a_message_that_cannot_be_shown_is_a_finding(monkeypatch, tmp_path, message):
    def broken(text, features=()):
        raise SkrrError(message)

    monkeypatch.setattr(plan_json, "loads", broken)
    with pytest.raises(AssertionError):
        check_case("plan text", "{}", tmp_path, Counter())


def test_a_result_that_does_not_survive_is_a_finding(monkeypatch, tmp_path):
    usual = plan_json.dumps
    monkeypatch.setattr(plan_json, "dumps", lambda found: usual(replace(found, name="other")))
    with pytest.raises(AssertionError, match="does not survive JSON"):
        check_case("plan text", usual(PLAN), tmp_path, Counter())


def test_a_file_written_while_reading_is_a_finding(monkeypatch, tmp_path):
    usual = header.read_header
    monkeypatch.setattr(header, "read_header", lambda path: (tmp_path / "left.part").touch() or usual(path))
    with pytest.raises(AssertionError, match="wrote a file"):
        check_case("header", b"", tmp_path, Counter())


def test_the_modules_watched_are_all_readers():
    assert set(MODULES) == {architecture, plan_text, header, plan, plan_json, side_file}
