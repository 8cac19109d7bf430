"""One level as a line of text for a chat message: `skrr1.` and base64url of a checked binary record.

Normative, version 1; numbers are big-endian:

    4 bytes   the first four of SHA-256 over the rest
    1 byte    number of encoders, 1 to 8; then for each
      text    slot (1 byte length, ASCII)
      fields  family, activation, position bias (indices into the lists below), gated: 1 byte each;
              layers 2, heads 2, head width 2, positions 2, width 4, feed forward 4, vocabulary 4, projection 4;
              of family "llama" also key heads 2, attention bias 1, head norms 1, post norms 1, beside 8
      skip    their number (2 bytes), then their indices in the order of removal
      reuse   their number (2 bytes), then place and source of each

Sub-block indices take one byte where the encoder has at most 256 of them, else two. A reader MUST refuse another
version ("update the pack"), a wrong checksum, trailing bytes, and whatever a plan in JSON would be refused for.
"""

import base64
import binascii
import hashlib
import struct
from functools import partial

from ..errors import PlanError
from .architecture import ACTIVATIONS, FAMILIES, LANGUAGE_FIELDS, POSITION_BIASES, Architecture
from .pasted import MAX_PIECES, pieces
from .plan import Cut, EncoderInfo, Level, Plan, make_cut, make_level
from .plan_json import MAX_TEXT as MAX_JSON
from .plan_json import loads

__all__ = ["dumps_level", "is_compact", "loads_level", "read_plan_text"]

PREFIX = "skrr1."
MAX_TEXT = 8000
KINDS = struct.Struct(">BBBB")
SIZES = struct.Struct(">HHHHIIII")
LANGUAGE = struct.Struct(">HBBBQ")
SIZE_FIELDS = ("layers", "heads", "head_width", "positions", "width", "feed_forward", "vocabulary", "projection")


def is_compact(text: str) -> bool:
    """Whether `text` claims to be a compact level, of whatever version."""
    head, dot, _ = "".join(text.lstrip()[:64].split()).partition(".")
    return bool(dot) and head.startswith("skrr") and head[4:].isdigit()


def read_plan_text(text: str, features=frozenset()) -> Plan:
    """The plan in pasted text: JSON, or the compact form of a level; alone, or with words and marks around it.
    `features` are those that the caller can honour (see `loads`).

    Raises PlanError where the text holds none, a damaged one, or two that differ."""
    read = loads_level if is_compact(text) else partial(loads, features=features)
    try:
        return read(text)
    except PlanError:
        pass  # it may stand among words
    found = pieces(text) if len(text) <= MAX_JSON else []
    if len(found) > MAX_PIECES:
        raise PlanError(f"The text holds more than {MAX_PIECES} plans; expected one. Paste the one to use.")
    if not found or ('"skrr-plan"' in text and not any(piece.is_json for piece in found)):
        return read(text)  # says what is wrong; the second: JSON that breaks off, and whatever line its notes may hold
    plans = [_read_piece(piece, features) for piece in found]
    if any(plan != plans[0] for plan in plans):
        raise PlanError(f"The text holds {len(plans)} plans, and they differ. Paste the one to use.")
    return plans[0]


def _read_piece(piece, features) -> Plan:
    """The plan in the first spelling that is sound; the error of the first where none is."""
    if piece.is_json:
        return loads(piece.spellings[0], features)
    for spelling in piece.spellings:
        try:
            return loads_level(spelling)
        except PlanError:
            continue
    return loads_level(piece.spellings[0])


def dumps_level(plan: Plan, level: Level) -> str:
    """The compact text of `level`: skip order and re-use pairs; not its discrepancy, nor the plan's records.

    Raises PlanError for the few plans that this form has no room for (the JSON form has)."""
    if level.corrections:
        raise PlanError("This level needs its corrections, which no line of text can carry. Share its files instead.")
    record = bytearray([len(level.cuts)])
    try:
        for slot, cut in level.cuts.items():
            record += _encoder_record(slot, plan.encoders[slot].architecture, cut)
        text = _text_of(record)
        loads_level(text)
    except (ValueError, struct.error):
        raise PlanError("This level cannot be written as one line of text. Share the plan's JSON file.") from None
    return text


def _encoder_record(slot: str, shape: Architecture, cut: Cut) -> bytes:
    name = slot.encode("ascii")
    kinds = (FAMILIES.index(shape.family), ACTIVATIONS.index(shape.activation))
    record = bytes([len(name)]) + name
    record += KINDS.pack(*kinds, POSITION_BIASES.index(shape.position_bias), shape.gated)
    record += SIZES.pack(*(getattr(shape, field) for field in SIZE_FIELDS))
    if shape.family == "llama":
        record += LANGUAGE.pack(*(getattr(shape, field) for field in LANGUAGE_FIELDS))
    index = _index_format(shape.sub_blocks)
    for numbers, count in ((cut.skip, len(cut.skip)), (sum(cut.reuse, ()), len(cut.reuse))):
        record += struct.pack(">H", count) + b"".join(struct.pack(index, number) for number in numbers)
    return record


def _text_of(record: bytes) -> str:
    check = hashlib.sha256(record).digest()[:4]
    return PREFIX + base64.urlsafe_b64encode(check + record).decode().rstrip("=")


def loads_level(text: str) -> Plan:
    """A plan of the one level in `text`. Raises PlanError with one sentence when anything is off."""
    text = "".join(text.split())  # chat programs break lines
    if len(text) > MAX_TEXT:
        raise PlanError(f"The plan text has {len(text)} characters; a compact plan has at most {MAX_TEXT}.")
    if not text.startswith(PREFIX):
        raise PlanError(f"The plan text begins with {text[:10]!r}; this pack reads {PREFIX!r}. Update the pack.")
    body = text[len(PREFIX) :]
    try:
        data = base64.b64decode(body + "=" * (-len(body) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        raise PlanError("The plan text holds characters that no plan has. Copy it again, whole.") from None
    # Written again, because base64 has several spellings of the same bytes: any changed character is damage.
    if len(data) < 5 or _text_of(data[4:]) != text:
        raise PlanError("The plan text is damaged or not whole: its checksum is wrong. Copy it again.")
    encoders, cuts = _Reader(data[4:]).level()
    level = make_level(encoders, cuts)
    return Plan(f"shared level of {100 * level.sparsity:.2f} %", encoders, (level,))


def _index_format(count: int) -> str:
    return ">B" if count <= 256 else ">H"


class _Reader:
    """Takes a record apart; whatever is missing, left over or out of range is a PlanError."""

    def __init__(self, data: bytes):
        self.data, self.at = data, 0

    def level(self):
        encoders, cuts = {}, {}
        for _ in range(self._count(8, "encoders", least=1)):
            slot = self._slot()
            if slot in encoders:
                raise PlanError(f"The plan text names encoder {slot!r} twice.")
            encoders[slot] = EncoderInfo(self._architecture())
            index = _index_format(encoders[slot].architecture.sub_blocks)
            skip = self._numbers(index, 1)
            pairs = self._numbers(index, 2)
            places = pairs[::2]
            if len(set(places)) != len(places):
                raise PlanError("The plan text re-uses two sub-blocks in one place.")
            cuts[slot] = make_cut(skip, dict(zip(places, pairs[1::2], strict=True)))
        if self.at != len(self.data):
            raise PlanError(f"The plan text has {len(self.data) - self.at} bytes too many.")
        return encoders, cuts

    def _take(self, format: struct.Struct) -> tuple:
        if self.at + format.size > len(self.data):
            raise PlanError("The plan text ends too early.")
        values = format.unpack_from(self.data, self.at)
        self.at += format.size
        return values

    def _count(self, most: int, what: str, least: int = 0) -> int:
        (count,) = self._take(struct.Struct(">B"))
        if not least <= count <= most:
            raise PlanError(f"The plan text has {count} {what}; expected {least} to {most}.")
        return count

    def _slot(self) -> str:
        length = self._count(64, "characters in a slot's name", least=1)
        (name,) = self._take(struct.Struct(f">{length}s"))
        if not (name.isascii() and name.decode("ascii").isprintable()):
            raise PlanError("The plan text names an encoder with characters that no slot has.")
        return name.decode("ascii")

    def _architecture(self) -> Architecture:
        family, activation, bias, gated = self._take(KINDS)
        if family >= len(FAMILIES) or activation >= len(ACTIVATIONS) or bias >= len(POSITION_BIASES) or gated > 1:
            raise PlanError("The plan text is for a kind of encoder that this pack does not know. Update the pack.")
        sizes = dict(zip(SIZE_FIELDS, self._take(SIZES), strict=True))
        if FAMILIES[family] == "llama":
            sizes |= self._language()
        return Architecture(
            family=FAMILIES[family],
            activation=ACTIVATIONS[activation],
            position_bias=POSITION_BIASES[bias],
            gated=bool(gated),
            **sizes,
        )

    def _language(self) -> dict:
        key_heads, *flags, beside = self._take(LANGUAGE)
        if max(flags) > 1:
            raise PlanError("The plan text is for a kind of encoder that this pack does not know. Update the pack.")
        return dict(zip(LANGUAGE_FIELDS, (key_heads, *map(bool, flags), beside), strict=True))

    def _numbers(self, index: str, each: int) -> tuple[int, ...]:
        (count,) = self._take(struct.Struct(">H"))
        return self._take(struct.Struct(f">{count * each}{index[1]}"))
