"""A level as a line of text: it survives, stays short, and whatever happens to it on the way is noticed."""

import base64
import hashlib
import string
import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from skrr_engine.errors import PlanError
from skrr_engine.plans.architecture import ACTIVATIONS, FAMILIES, POSITION_BIASES, T5_XXL, Architecture
from skrr_engine.plans.plan import EncoderInfo, Plan, make_cut, make_level
from skrr_engine.plans.plan_json import dumps
from skrr_engine.plans.plan_text import (
    KINDS,
    MAX_TEXT,
    PREFIX,
    SIZES,
    dumps_level,
    is_compact,
    loads_level,
    read_plan_text,
)

T5 = T5_XXL
UMT5 = Architecture("t5", 24, 4096, 10240, 64, 64, 256384, "gelu_tanh", True, "every", 32)
CLIP_L = Architecture("clip", 12, 768, 3072, 12, 64, 49408, "quick_gelu", False, "absolute", 77)
CLIP_G = Architecture("clip", 32, 1280, 5120, 20, 64, 49408, "gelu", False, "absolute", 77, 1280)
QWEN3 = Architecture(
    "llama", 36, 2560, 9728, 32, 128, 151936, "silu", True, "rotary", 0, key_heads=8, head_norms=True, beside=1 << 33
)
SLOTS = {"t5xxl": T5, "umt5xxl": UMT5, "clip_l": CLIP_L, "clip_g": CLIP_G, "qwen3_4b": QWEN3}


def plan_of(**cuts):
    """A plan of one level; slot=(skip, reuse)."""
    info = {slot: EncoderInfo(SLOTS[slot]) for slot in cuts}
    level = make_level(info, {slot: make_cut(*cut) for slot, cut in cuts.items()})
    return Plan("a name", info, (level,))


def line(plan):
    return dumps_level(plan, plan.levels[0])


def record_of(text):
    body = text[len(PREFIX) :]
    return base64.urlsafe_b64decode(body + "=" * (-len(body) % 4))[4:]


def text_of(record):
    """A text whose checksum is right."""
    check = hashlib.sha256(record).digest()[:4]
    return PREFIX + base64.urlsafe_b64encode(check + record).decode().rstrip("=")


@st.composite
def sound_cuts(draw, count):
    """Any skip set in any order, and any re-use that it allows."""
    skip = draw(st.lists(st.integers(0, count - 1), unique=True))
    sources = {place: [i for i in range(place % 2, count, 2) if i not in skip] for place in skip}
    return skip, {p: draw(st.sampled_from(found)) for p, found in sources.items() if found and draw(st.booleans())}


@st.composite
def sound_plans(draw):
    slots = draw(st.lists(st.sampled_from(sorted(SLOTS)), min_size=1, max_size=3, unique=True))
    return plan_of(**{slot: draw(sound_cuts(SLOTS[slot].sub_blocks)) for slot in slots})


@given(sound_plans())
@settings(max_examples=200, deadline=None)
def test_round_trip(plan):
    """The order of removal included: Algorithm 2 depends on it."""
    found = loads_level(line(plan))
    assert found.levels == plan.levels and found.encoders == plan.encoders
    assert line(found) == line(plan)


@pytest.mark.parametrize("slot", SLOTS)
def test_every_kind_of_encoder(slot):
    found = loads_level(line(plan_of(**{slot: ([5, 0, 2], {5: 7})})))
    assert found.encoders[slot].architecture == SLOTS[slot]
    assert found.levels[0].cuts[slot] == make_cut([5, 0, 2], {5: 7})


def test_a_flag_of_a_language_model_that_is_neither_yes_nor_no():
    record = bytearray(base64.urlsafe_b64decode(line(plan_of(qwen3_4b=([5], {})))[6:] + "===")[4:])
    at = 2 + len("qwen3_4b") + 4 + 24 + 2  # behind the number of encoders, the slot, kinds, sizes and key heads
    assert bytes(record[at : at + 3]) == b"\0\1\0"
    record[at] = 2
    with pytest.raises(PlanError, match=r"does not know\. Update the pack"):
        loads_level(text_of(bytes(record)))


def test_an_encoder_of_more_than_256_sub_blocks():
    deep = Architecture("t5", 256, 64, 128, 4, 16, 1000, "relu", False, "first", 32)
    info = {"t5xxl": EncoderInfo(deep)}
    level = make_level(info, {"t5xxl": make_cut([511, 300, 2], {300: 510})})
    assert loads_level(line(Plan("deep", info, (level,)))).levels == (level,)


# --- short enough for a chat message -------------------------------------------------------------------------


def longest(slot):
    """46 of 48 skipped, one kept of each kind, re-used in every place: no cut of 48 sub-blocks takes more."""
    skip = list(range(2, 48))
    return plan_of(**{slot: (skip, {i: i % 2 for i in skip})})


@pytest.mark.parametrize("slot", ["t5xxl", "umt5xxl"])
def test_any_level_of_48_sub_blocks_takes_less_than_300_characters(slot):
    text = line(longest(slot))
    assert len(text) < 300
    assert loads_level(text).levels == longest(slot).levels


@given(sound_cuts(48))
@settings(max_examples=200, deadline=None)
def test_no_level_is_longer_than_the_longest(cut):
    assert len(line(plan_of(umt5xxl=cut))) <= len(line(longest("umt5xxl"))) < 300


# --- on the way ----------------------------------------------------------------------------------------------

TEXT = line(plan_of(t5xxl=([5, 46, 6], {5: 7})))
ALPHABET = string.ascii_letters + string.digits + "-_+/=.,*é"


@pytest.mark.parametrize("at", range(len(TEXT)))
def test_damage_of_any_single_character_is_noticed(at):
    """Changed into any other, left out, doubled with another: each is refused."""
    damaged = {TEXT[:at] + new + TEXT[at + 1 :] for new in [*ALPHABET, ""]}
    damaged |= {TEXT[:at] + new + TEXT[at:] for new in ALPHABET}
    for text in damaged - {TEXT}:
        with pytest.raises(PlanError):
            loads_level(text)


def test_damage_of_any_single_character_is_noticed_at_every_length():
    """Base64 has three ways to end, two of them with bits that mean nothing."""
    for slot in ("t5xxl", "clip_l", "umt5xxl"):
        text = line(plan_of(**{slot: ([5], {})}))
        for new in set(ALPHABET) - {text[-1]}:
            with pytest.raises(PlanError):
                loads_level(text[:-1] + new)


@pytest.mark.parametrize("cut", [1, 2, 20, len(TEXT) - 7])
def test_a_text_that_is_not_whole_is_refused(cut):
    with pytest.raises(PlanError, match="Copy it again"):
        loads_level(TEXT[:-cut])


def test_white_space_and_line_breaks_do_not_matter():
    wrapped = "\n ".join(TEXT[i : i + 40] for i in range(0, len(TEXT), 40))
    for text in (f"  {TEXT}\n", wrapped, wrapped.replace("\n", "\r\n\t"), " ".join(TEXT), "\u00a0" + TEXT):
        assert loads_level(text) == read_plan_text(text) == loads_level(TEXT)


def test_a_newer_version_asks_for_an_update():
    for text in ("skrr2." + TEXT[6:], "skrr17.abc"):
        with pytest.raises(PlanError, match=r"begins with .* reads 'skrr1\.'\. Update the pack"):
            read_plan_text(text)


def test_pasted_text_is_told_from_json():
    plan = plan_of(t5xxl=([46], {}))
    assert read_plan_text(dumps(plan)).levels == read_plan_text(line(plan)).levels == plan.levels
    assert is_compact(TEXT) and is_compact(" skrr9.x") and not is_compact('{"skrr1.": 1}') and not is_compact("")


def test_a_text_too_long_is_refused():
    with pytest.raises(PlanError, match=f"has {MAX_TEXT + 1} characters"):
        loads_level(PREFIX + "A" * (MAX_TEXT + 1 - len(PREFIX)))


# --- behind the checksum -------------------------------------------------------------------------------------

RECORD = record_of(TEXT)
AT_KINDS = 1 + 1 + len("t5xxl")
AT_SIZES = AT_KINDS + KINDS.size
AT_SKIP = AT_SIZES + SIZES.size


def put(at, *values):
    return RECORD[:at] + bytes(values) + RECORD[at + len(values) :]


BEHIND = {
    "trailing bytes": (RECORD + b"\0\0", "has 2 bytes too many"),
    "an early end": (RECORD[:-1], "ends too early"),
    "nothing": (b"", "checksum is wrong"),
    "no encoders": (b"\0", "has 0 encoders; expected 1 to 8"),
    "nine encoders": (put(0, 9), "has 9 encoders; expected 1 to 8"),
    "a slot twice": (b"\2" + RECORD[1:] * 2, "names encoder 't5xxl' twice"),
    "a slot without name": (put(1, 0), "has 0 characters in a slot's name"),
    "a slot's name too long": (put(1, 65), "has 65 characters in a slot's name"),
    "a slot not in ASCII": (put(2, 200), "characters that no slot has"),
    "a slot of control characters": (put(2, 10), "characters that no slot has"),
    "an unknown family": (put(AT_KINDS, len(FAMILIES)), "encoder that this pack does not know. Update the pack"),
    "an unknown activation": (put(AT_KINDS + 1, len(ACTIVATIONS)), "does not know. Update the pack"),
    "an unknown position bias": (put(AT_KINDS + 2, len(POSITION_BIASES)), "does not know. Update the pack"),
    "gated neither yes nor no": (put(AT_KINDS + 3, 2), "does not know. Update the pack"),
    "no layers": (put(AT_SIZES, 0, 0), "layers is 0; expected 1 to 256"),
    "too many layers": (put(AT_SIZES, 9, 0), "layers is 2304; expected 1 to 256"),
    "more skips than bytes": (put(AT_SKIP, 255, 255), "ends too early"),
    "a skip out of range": (put(AT_SKIP + 2, 48), "Skips sub-block 48"),
    "a skip twice": (put(AT_SKIP + 2, 6), "Skips a sub-block twice"),
    "a place of two": (RECORD[:-4] + bytes([0, 2, 5, 7, 5, 9]), "re-uses two sub-blocks in one place"),
    "a source that is skipped": (RECORD[:-1] + bytes([46]), "is itself skipped|both even or both odd"),
    "a source of the other kind": (RECORD[:-1] + bytes([8]), "both even or both odd"),
}  # fmt: skip


def test_the_record_is_what_its_description_says():
    """The offsets above, and the format that other programs may read."""
    assert RECORD[:AT_KINDS] == b"\1\5t5xxl"
    assert RECORD[AT_SKIP:] == struct.pack(">HBBBHBB", 3, 5, 46, 6, 1, 5, 7)
    assert text_of(RECORD) == TEXT


@pytest.mark.parametrize("record, sentence", BEHIND.values(), ids=BEHIND.keys())
def test_a_right_checksum_over_a_wrong_record(record, sentence):
    with pytest.raises(PlanError, match=sentence):
        loads_level(text_of(record))


@pytest.mark.parametrize("change", [{"heads": 70_000}, {"positions": 70_000}], ids=str)
def test_what_a_line_has_no_room_for_is_a_sentence(change):
    info = {"t5xxl": EncoderInfo(Architecture(**{**T5.to_json(), **change}))}
    plan = Plan("odd", info, (make_level(info, {"t5xxl": make_cut([46])}),))
    with pytest.raises(PlanError, match=r"cannot be written as one line of text\. Share the plan's JSON file"):
        line(plan)


def test_a_slot_in_other_letters_is_a_sentence():
    info = {"é": EncoderInfo(T5)}
    with pytest.raises(PlanError, match="cannot be written as one line"):
        line(Plan("odd", info, (make_level(info, {"é": make_cut([46])}),)))
