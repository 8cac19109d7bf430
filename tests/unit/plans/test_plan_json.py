"""Plans as data: round trips and properties over random plans, and a sentence for everything that can be wrong."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from skrr_engine.errors import PlanError
from skrr_engine.measure.discrepancy import Discrepancy
from skrr_engine.measure.execute import assign
from skrr_engine.plans.architecture import T5_XXL, Architecture
from skrr_engine.plans.plan import EncoderInfo, Plan, SideFileNote, make_cut, make_level
from skrr_engine.plans.plan_json import CORRECTIONS, DISCREPANCY_FIELDS, MAX_TEXT, dumps, loads
from skrr_engine.plans.plan_text import dumps_level


def words(least, most):
    """Text without control characters and lone surrogates, which no plan may hold."""
    return st.text(st.characters(exclude_categories=("Cc", "Cs")), min_size=least, max_size=most)


sizes = st.integers(1, 4096)
numbers = st.floats(0, 1e6, allow_nan=False)
slots = st.lists(st.sampled_from(["t5xxl", "umt5xxl", "clip_l", "clip_g"]), min_size=1, max_size=3, unique=True)
records = st.dictionaries(
    words(1, 10), st.none() | st.booleans() | st.integers() | numbers | words(0, 20),
    max_size=4,
)  # fmt: skip


@st.composite
def architectures(draw):
    """Any encoder shape up to 12 layers."""
    family = draw(st.sampled_from(["t5", "clip", "llama"]))
    bias = draw(st.sampled_from(["first", "every"])) if family == "t5" else "absolute"
    layers = draw(st.integers(1, 12))
    width, inner, heads, head_width, vocabulary, positions = (draw(sizes) for _ in range(6))
    activation, gated = draw(st.sampled_from(["relu", "gelu_tanh"])), family == "t5" and draw(st.booleans())
    if family == "llama":
        flags = [draw(st.booleans()) for _ in range(3)]
        groups = heads * draw(st.integers(1, 3)), heads, *flags, draw(st.integers(0, 1 << 40))
        return Architecture(
            family, layers, width, inner, groups[0], head_width, vocabulary, "silu", True, "rotary", 0, 0, *groups[1:]
        )
    projection = draw(st.integers(0, 64)) if family == "clip" else 0
    return Architecture(
        family, layers, width, inner, heads, head_width, vocabulary, activation, gated, bias, positions, projection
    )


@st.composite
def cuts(draw, count):
    """Any sound cut of an encoder of `count` sub-blocks."""
    skip = draw(st.lists(st.integers(0, count - 1), unique=True))
    kept = [i for i in range(count) if i not in skip]
    sources = {place: [j for j in kept if j % 2 == place % 2] for place in skip}
    reuse = {
        place: draw(st.sampled_from(found)) for place, found in sources.items() if found and draw(st.booleans())
    }
    return make_cut(skip, reuse)


@st.composite
def plans(draw):
    """Any sound plan of one to three encoders."""
    encoders = {
        slot: EncoderInfo(draw(architectures()), tuple(draw(st.lists(numbers, max_size=3)))) for slot in draw(slots)
    }
    levels = []
    for _ in range(draw(st.integers(1, 4))):
        chosen = {slot: draw(cuts(info.architecture.sub_blocks)) for slot, info in encoders.items()}
        measured = draw(st.none() | st.builds(Discrepancy, *[numbers] * 5))
        levels.append(make_level(encoders, chosen, measured and measured.to_json()))
    name, notes = draw(words(1, 200)), tuple(draw(st.lists(st.just("a note"), max_size=2)))
    return Plan(name, encoders, tuple(levels), notes, draw(records), draw(records), draw(records))


@given(plans())
@settings(max_examples=100, deadline=None)
def test_round_trip(plan):
    assert loads(dumps(plan)) == plan
    assert dumps(loads(dumps(plan))) == dumps(plan)


@given(plans())
@settings(max_examples=100, deadline=None)
def test_a_plan_takes_a_level_a_line(plan):
    """So that a diff of two plans reads well."""
    lines = [line for line in dumps(plan).splitlines() if line.startswith('  {"encoders"')]
    assert len(lines) == len(plan.levels)


@given(st.data())
@settings(max_examples=100, deadline=None)
def test_a_sound_cut_has_a_sparsity_and_an_assignment(data):
    shape = data.draw(architectures())
    cut = data.draw(cuts(shape.sub_blocks))
    level = make_level({"t5xxl": EncoderInfo(shape)}, {"t5xxl": cut})
    assert 0 <= level.sparsity < 1
    assert level.sparsity == shape.sparsity(cut.skip)
    places = assign(shape.sub_blocks, cut.skip, cut.reuse_map)
    assert len(places) == shape.sub_blocks
    assert {i for i, source in enumerate(places) if source is None} == set(cut.skip) - set(cut.reuse_map)
    assert all(source is None or source not in cut.skip for source in places)


def test_discrepancy_fields_are_those_of_discrepancy():
    """plan_json writes them out to stay free of PyTorch."""
    assert DISCREPANCY_FIELDS == Discrepancy(0.0, 0.0, 1.0, 0.0, 1.0).to_json().keys()


def sound():
    """A plan as JSON data: two levels of a T5-XXL, the second with re-use."""
    encoders = {"t5xxl": EncoderInfo(T5_XXL)}
    found = Discrepancy(0.1, 0.2, 1.0, 0.01, 1.5).to_json()
    levels = [
        make_level(encoders, {"t5xxl": make_cut([46])}),
        make_level(encoders, {"t5xxl": make_cut([5, 46], {5: 7})}, found),
    ]
    return json.loads(dumps(Plan("sound", encoders, tuple(levels), search={"beam": 3})))


def put(*path_and_value):
    """A change: the value at the path."""
    *path, last, value = path_and_value

    def change(data):
        for step in path:
            data = data[step]
        data[last] = value

    return change


def remove(*path):
    """A change: the field at the path is gone."""

    def change(data):
        for step in path[:-1]:
            data = data[step]
        del data[path[-1]]

    return change


CUT = ("levels", 1, "encoders", "t5xxl")
SHAPE = ("encoders", "t5xxl", "architecture")
WRONG = {
    "other format": (put("format", "gguf"), '"format" is "gguf"'),
    "no format": (remove("format"), '"format" is null'),
    "newer version": (put("version", 2), "has version 2; this pack reads version 1. Update the pack"),
    "boolean version": (put("version", True), "has version true"),
    "unknown feature": (put("requires", ["gains"]), "features this pack does not have: gains. Update the pack"),
    "unprintable feature": (put("requires", ["a\u2028b"]), r"this pack does not have: a\?b. Update the pack"),
    "unhashable feature": (put("requires", [["gains"]]), 'Field requires is \\["gains"\\]; expected text'),
    "object as feature": (put("requires", [{}]), "Field requires is {}; expected text"),
    "requires is text": (put("requires", "gains"), "Field requires is .* expected a list"),
    "too many features": (put("requires", ["a"] * 65), "expected a list of 0 to 64"),
    "no name": (remove("name"), "plan lacks field 'name'"),
    "empty name": (put("name", ""), "Field name is .* expected text of 1 to 200"),
    "long name": (put("name", "n" * 201), "Field name is .* expected text of 1 to 200"),
    "unknown field": (put("path", "/etc/passwd"), 'plan has an unknown field "path". Update the pack'),
    "notes not text": (put("notes", [1]), "Field notes is 1; expected text"),
    "record of lists": (put("search", {"beam": [3]}), "Field search.beam is .* expected text, a number"),
    "record too large": (put("search", {str(n): n for n in range(65)}), "Field search has 65 entries"),
    "no encoders": (put("encoders", {}), "Field encoders has 0 entries; expected 1 to 8"),
    "encoders a list": (put("encoders", []), "Field encoders is .* expected an object"),
    "no architecture": (remove(*SHAPE), "encoders.t5xxl lacks field 'architecture'"),
    "missing size": (remove(*SHAPE, "width"), "encoders.t5xxl.architecture lacks field 'width'"),
    "size is text": (put(*SHAPE, "width", "4096"), 'architecture.width is "4096"; expected a whole number'),
    "size is a boolean": (put(*SHAPE, "layers", True), "architecture.layers is true; expected a whole number"),
    "size too large": (put(*SHAPE, "layers", 257), "layers is 257; expected 1 to 256"),
    "size too small": (put(*SHAPE, "heads", 0), "heads is 0; expected 1"),
    "projection too large": (put(*SHAPE, "projection", -1), "projection is -1; expected 0"),
    "gated is a number": (put(*SHAPE, "gated", 1), "architecture.gated is 1; expected true or false"),
    "unknown family": (put(*SHAPE, "family", "bert"), "family 'bert' is unknown"),
    "unknown bias": (put(*SHAPE, "position_bias", "alibi"), "Position bias 'alibi' is unknown"),
    "a language model's bias": (put(*SHAPE, "position_bias", "rotary"), "that of a language model"),
    "a language model's field": (put(*SHAPE, "key_heads", 2), "key_heads"),
    "sketch of text": (put("encoders", "t5xxl", "weights_sketch", ["a"]), "weights_sketch holds .* finite number"),
    "no levels": (put("levels", []), "Field levels is .* expected a list of 1 to 512"),
    "other slot": (put("levels", 0, "encoders", {"clip_l": {}}), r'levels\[0\].encoders names "clip_l"'),
    "level lacks sparsity": (remove("levels", 0, "sparsity"), r"levels\[0\] lacks field 'sparsity'"),
    "skip not a list": (put(*CUT, "skip", {"5": 1}), "skip is .* expected a list"),
    "skip too long": (put(*CUT, "skip", list(range(49))), "expected a list of 0 to 48"),
    "index out of range": (put(*CUT, "skip", [5, 48]), "Skips sub-block 48, but the encoder has sub-blocks 0 to 47"),
    "index negative": (put(*CUT, "skip", [5, -1]), "Skips sub-block -1"),
    "index huge": (put(*CUT, "skip", [5, 10**400]), "Skips sub-block 1000"),
    "index not whole": (put(*CUT, "skip", [5, 4.5]), "skip holds 4.5; expected a sub-block index"),
    "index a boolean": (put(*CUT, "skip", [5, True]), "skip holds true; expected a sub-block index"),
    "duplicate skip": (put(*CUT, "skip", [5, 5]), "Skips a sub-block twice"),
    "re-use of a skipped one": (put(*CUT, "reuse", {"46": 46}), "Re-uses 46 in place 46, but 46 is itself skipped"),
    "re-use in a kept place": (put(*CUT, "reuse", {"9": 7}), "Re-uses 7 in place 9, but 9 is not skipped"),
    "re-use of other kind": (put(*CUT, "reuse", {"5": 4}), r"Re-uses 4 \(attention\) in place 5 \(feed-forward\)"),
    "re-use out of range": (put(*CUT, "reuse", {"5": 49}), "Re-uses sub-block 49"),
    "place not a number": (put(*CUT, "reuse", {"five": 7}), 'reuse has place "five"'),
    "place written oddly": (put(*CUT, "reuse", {"05": 7}), 'reuse has place "05"'),
    "place in other digits": (put(*CUT, "reuse", {"٥": 7}), "reuse has place"),
    "source not a number": (put(*CUT, "reuse", {"5": "7"}), 'reuse holds "7"; expected a sub-block index'),
    "wrong parameter count": (put("levels", 1, "removed_params", 1), r"levels\[1\].removed_params is 1, but"),
    "wrong sparsity": (put("levels", 1, "sparsity", 0.5), r"levels\[1\].sparsity is 0.5, but its sub-blocks make 0.04"),
    "huge sparsity": (put("levels", 1, "sparsity", 10**400), "sparsity holds 1000.* finite number"),
    "discrepancy a number": (put("levels", 1, "discrepancy", 3), "discrepancy is 3; expected an object"),
    "discrepancy incomplete": (remove("levels", 1, "discrepancy", "null"), "discrepancy lacks field 'null'"),
    "discrepancy negative": (put("levels", 1, "discrepancy", "null", -1), "null holds -1; expected a finite number"),
    "discrepancy not finite": (put("levels", 1, "discrepancy", "null", 1e31), "null holds 1e.31; expected a finite"),
    "discrepancy huge": (put("levels", 1, "discrepancy", "value", 10**400), "value holds 1000.* finite number"),
}


@pytest.mark.parametrize("change, sentence", WRONG.values(), ids=WRONG.keys())
def test_a_wrong_plan_is_refused_in_a_sentence(change, sentence):
    data = sound()
    loads(json.dumps(data))
    change(data)
    with pytest.raises(PlanError, match=sentence):
        loads(json.dumps(data))


NO_PLAN = {
    "empty": ("", "not a whole plan: its JSON breaks off or is wrong at line 1"),
    "truncated": (json.dumps(sound())[:-20], "JSON breaks off"),
    "list": ("[]", r"Field plan is \[\]; expected an object"),
    "text": ('"plan"', 'Field plan is "plan"; expected an object'),
    "null": ("null", "Field plan is null"),
    "NaN": (json.dumps(sound()).replace("0.1,", "NaN,"), "holds the number NaN; numbers must be finite"),
    "Infinity": (json.dumps(sound()).replace("0.1,", "-Infinity,"), "holds the number -Infinity"),
    "duplicate field": (json.dumps(sound())[:-1] + ', "name": "b"}', "names a field twice"),
    "huge text": (" " * (MAX_TEXT + 1), "has 2000001 characters; a plan has at most 2000000"),
    "deep nesting": ("[" * 100_000, "RecursionError while reading"),
    "endless integer": ("1" * 5000, "ValueError while reading"),
}


@pytest.mark.parametrize("text, sentence", NO_PLAN.values(), ids=NO_PLAN.keys())
def test_text_that_is_no_plan(text, sentence):
    with pytest.raises(PlanError, match=sentence):
        loads(text)


def test_messages_stay_short():
    """A hostile value does not fill the screen."""
    data = sound()
    data["name"] = "n" * 100_000
    with pytest.raises(PlanError) as error:
        loads(json.dumps(data))
    assert len(str(error.value)) < 200


def test_a_rounded_sparsity_is_fine():
    data = sound()
    data["levels"][1]["sparsity"] = round(data["levels"][1]["sparsity"], 4)
    assert loads(json.dumps(data)).levels[1].sparsity == T5_XXL.sparsity([5, 46])


def test_a_plan_without_levels_is_refused():
    with pytest.raises(PlanError, match="has no levels"):
        Plan("empty", {}, ())


def test_a_level_cuts_only_encoders_of_the_plan():
    with pytest.raises(PlanError, match="cuts encoder 'clip_l', but the plan is for t5xxl"):
        make_level({"t5xxl": EncoderInfo(T5_XXL)}, {"clip_l": make_cut([])})


def test_a_value_that_is_nested_too_deeply_to_show_is_a_sentence(monkeypatch):
    """JSON just below the limit of the reader can be beyond that of the writer."""
    value = []
    for _ in range(100_000):
        value = [value]
    monkeypatch.setattr("skrr_engine.plans.plan_json.json.loads", lambda *args, **options: value)
    with pytest.raises(PlanError, match="a deeply nested value"):
        loads("[]")


NOTE = SideFileNote("0" * 64, {"t5xxl": "1" * 64})


def corrected(note=NOTE):
    info = {"t5xxl": EncoderInfo(T5_XXL)}
    levels = make_level(info, {"t5xxl": make_cut([46])}), make_level(info, {"t5xxl": make_cut([46, 5])}, None, note)
    return Plan("corrected", info, levels)


def test_a_plan_with_corrections_is_read_only_by_who_can_honour_them():
    text = dumps(corrected())
    assert loads(text, {CORRECTIONS}) == corrected()
    assert [level.corrections for level in loads(text, {CORRECTIONS}).levels] == [None, NOTE]
    with pytest.raises(PlanError, match=r"needs features this pack does not have: corrections\. Update"):
        loads(text)
    plain = dumps(corrected(None))
    assert CORRECTIONS not in plain and loads(plain) == loads(plain, {CORRECTIONS}) == corrected(None)


@pytest.mark.parametrize(
    "change, sentence",
    [
        (put("requires", []), r"Field requires is \[\]; expected \"corrections\" where a level has corrections"),
        (remove("levels", 1, "corrections"), r'Field requires is \["corrections"\]; expected'),
        (remove("levels", 1, "corrections", "file"), "lacks field 'file'"),
        (put("levels", 1, "corrections", "path", "x"), 'unknown field "path"'),
        (put("levels", 1, "corrections", "file", "0" * 63), r"levels\[1\].corrections.file is .*; expected a SHA-256"),
        (put("levels", 1, "corrections", "file", "A" * 64), "expected a SHA-256, 64 characters of 0 to 9 and a to f"),
        (put("levels", 1, "corrections", "weights", {}), "weights has 0 entries; expected 1 to 8"),
        (put("levels", 1, "corrections", "weights", {"t5xxl": 1}), "weights is 1; expected a SHA-256"),
        (put("levels", 1, "corrections", "weights", {"x": "0" * 64}), "corrects encoder 'x', but cuts t5xxl"),
        (put("levels", 1, "corrections", None), "corrections is null; expected an object"),
    ],
)
def test_corrections_that_are_wrong_are_sentences(change, sentence):
    data = json.loads(dumps(corrected()))
    change(data)
    with pytest.raises(PlanError, match=sentence):
        loads(json.dumps(data), {CORRECTIONS})


def test_a_level_with_corrections_has_no_line_of_text():
    with pytest.raises(PlanError, match="needs its corrections, which no line of text can carry"):
        dumps_level(corrected(), corrected().levels[1])


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_what_json_has_no_word_for_is_not_written(value):
    """Neither in a level nor beside them: better no file than one that nobody can open."""
    info = {"t5xxl": EncoderInfo(T5_XXL)}
    with pytest.raises(ValueError, match="not JSON compliant"):
        dumps(Plan("odd", info, (make_level(info, {"t5xxl": make_cut([46])}),), search={"seconds": value}))
    with pytest.raises(ValueError, match="not JSON compliant"):
        dumps(Plan("odd", info, (make_level(info, {"t5xxl": make_cut([46])}, {"value": value}),)))
