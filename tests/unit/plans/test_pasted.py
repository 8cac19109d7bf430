"""Plans as people paste them: the message around them, its quotes, bullets, fences and escapes."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from skrr_engine.errors import PlanError
from skrr_engine.files.files import open_plan
from skrr_engine.plans.pasted import MAX_PIECES
from skrr_engine.plans.plan_json import dumps
from skrr_engine.plans.plan_text import dumps_level, loads_level, read_plan_text
from skrr_engine.plans.presets import load_preset

PRESET = load_preset("pixart-sigma")
LINE = dumps_level(PRESET, PRESET.levels[-1])
OTHER = dumps_level(PRESET, PRESET.levels[0])
JSON = dumps(PRESET)


def escaped(text):
    return "".join("\\" + c if c in "_-.[]{}" else c for c in text)


LINES = {
    "the report's last line": f"To share this level: {LINE}",
    "the whole report": f"Plan 'x': 42.00 % asked.\nDiscrepancy: not measured.\nTo share this level: {LINE}\n",
    "a byte-order mark": f"\ufeff{LINE}",
    "zero widths": "\u200b".join((LINE[:9], LINE[9:50], LINE[50:])),
    "a code fence": f"```text\n{LINE}\n```",
    "code": f"Try `{LINE}`, it is good.",
    "quotes": f'He said "{LINE}".',
    "typographic quotes": f"\u201c{LINE}\u201d",
    "a full stop": f"The plan is {LINE}.",
    "a bullet": f"- a fox\n- {LINE}\n- another",
    "a quoted message": f"> look:\n> {LINE[:60]}\n> {LINE[60:]}\n\nthank you",
    "bold": f"**{LINE}**",
    "italics": f"_{LINE}_",
    "Markdown's escapes": f"Here: {escaped(LINE)}",
    "a broken line in prose": f"Here: {LINE[:40]}\r\n{LINE[40:90]}\r\n  {LINE[90:]}\r\nand that is all",
    "the same twice": f"{LINE}\n\n{LINE}",
    "talk about plans": f"The line that begins with skrr1. is {LINE}",
}


@pytest.mark.parametrize("kind", LINES)
def test_a_line_in_a_message(kind):
    assert read_plan_text(LINES[kind]) == loads_level(LINE)


OBJECTS = {
    "a byte-order mark": f"\ufeff{JSON}",
    "a code fence": f"Here it is {{really}}:\n```json\n{JSON}\n```\nThanks!",
    "a quoted message": "> look:\n" + "".join(f"> {line}\n" for line in JSON.splitlines()),
    "Markdown's escapes": f"Here: {escaped(JSON)}",
    "typographic quotes": JSON.replace('"', "\u201c"),
    "the same twice": f"{JSON}\n{JSON}",
}


@pytest.mark.parametrize("kind", OBJECTS)
def test_json_in_a_message(kind):
    assert read_plan_text(OBJECTS[kind]) == PRESET


def test_what_is_in_a_plans_notes_is_no_plan():
    noted = PRESET.with_levels(PRESET.levels, notes=(f"Compare with {LINE}", "a \u200d joiner"))
    assert read_plan_text(dumps(noted)) == noted == read_plan_text(f"Here: {dumps(noted)}")
    with pytest.raises(PlanError, match="breaks off"):
        read_plan_text(dumps(noted)[:-9])
    with pytest.raises(PlanError, match="version 2"):
        read_plan_text(f"Here: {json.dumps({**json.loads(dumps(noted)), 'version': 2})}")


@pytest.mark.parametrize("text", [f"{LINE}\n{OTHER}", f"one {LINE}, two {OTHER}", f"{JSON}\n{LINE}"])
def test_two_plans_that_differ(text):
    with pytest.raises(PlanError, match="2 plans, and they differ"):
        read_plan_text(text)


@pytest.mark.parametrize(
    "text, words",
    [
        (f"Here: {LINE[:-1]}", "damaged or not whole|characters that no plan has"),
        (f"Here: {LINE[:50]}{'a' if LINE[50] != 'a' else 'b'}{LINE[51:]}", "damaged or not whole"),
        (f"Good: {LINE} bad: {OTHER[:-2]}.", "damaged or not whole|characters that no plan has"),
        (f"Here: skrr2.{LINE[6:]}", "Update the pack"),
        (" ".join([OTHER] * (MAX_PIECES + 1)), f"more than {MAX_PIECES} plans"),
        ("a red fox", "not a whole plan"),
        ("", "not a whole plan"),
    ],
)
def test_what_is_refused(text, words):
    with pytest.raises(PlanError, match=words):
        read_plan_text(text)


@pytest.mark.parametrize(
    "text",
    ["skrr1." * 300_000, "skrr1." + "A" * 1_900_000, "skrr1.AAAAAAAAAA " * 110_000, "a\n" * 900_000, "> " * 900_000,
     '{"format": ' * 180_000, '{"format": "skrr-plan", "levels": [' * 50_000, " " * 1_900_000,
     "skrr1.A\n" + "A " * 900_000],
)  # fmt: skip
def test_hostile_text_takes_little_time(text):
    import time

    started = time.process_time()
    with pytest.raises(PlanError):
        read_plan_text(text)
    assert time.process_time() - started < 8


@given(st.text(max_size=60), st.text(max_size=60))
@settings(max_examples=100, deadline=None)
def test_any_words_around_it(before, after):
    assert read_plan_text(f"{before}\n{LINE}\n{after}") == loads_level(LINE)


@pytest.mark.parametrize("name", ["plan.json", "PLAN.JSON", "plan.txt"])
def test_a_file_that_holds_the_line(tmp_path, name):
    (tmp_path / name).write_text(f"\ufeffTo share this level: {LINE}\n", encoding="utf-8")
    assert open_plan(str(tmp_path / name)) == loads_level(LINE)
