"""Plan JSON, version 1: the one door for plans from files, workflows and strangers.

Normative. A plan is one JSON object of at most MAX_TEXT characters; every field below is required unless
marked "optional", no other field is allowed, and numbers are finite:

    format    "skrr-plan"            version   1                  requires  list of feature names: "corrections"
    name      text, 1 to 200         notes     optional list of text
    encoders  {slot: {"architecture": {…}, "weights_sketch": optional list of numbers}}, 1 to 8 slots
    levels    1 to 512 of {"encoders": {slot: {"skip": [i, …], "reuse": {"place": source}}},
              "removed_params": int, "sparsity": number, "discrepancy": {…} or null,
              "corrections": optional {"file": SHA-256 of the side file, "weights": {slot: digest}}}
    denoiser, calibration, search    optional flat objects of text, numbers, booleans, null

A reader MUST refuse an unknown version or required feature and ask for an update, MUST refuse a size that
does not follow from the architecture, and MUST NOT take any text in a plan as a path or code. A plan with a level that
has corrections requires "corrections"; such a level MUST NOT be applied without them, so `loads` takes it only for a
caller that says it can.
"""

import json
import math
from types import MappingProxyType

from ..errors import PlanError
from .architecture import LANGUAGE_FIELDS, Architecture
from .plan import Cut, EncoderInfo, Plan, SideFileNote, make_cut, make_level

__all__ = ["CORRECTIONS", "MAX_TEXT", "dumps", "loads"]

FORMAT, VERSION = "skrr-plan", 1
# The one feature that a plan may require so far.
CORRECTIONS = "corrections"
MAX_TEXT = 2_000_000
MAX_NAME, MAX_NOTE, MAX_SLOTS, MAX_LEVELS, MAX_ITEMS = 200, 2000, 8, 512, 64
# A rounded sparsity in a hand-written plan is fine; a different one is not.
SPARSITY_TOLERANCE = 1e-4
MAX_NUMBER = 1e30
# The fields of `Discrepancy.to_json()`, written out so that reading a plan does not load PyTorch.
DISCREPANCY_FIELDS = frozenset({"conditional", "null", "null_weight", "cosine", "null_norm", "value"})


def dumps(plan: Plan) -> str:
    """The plan as JSON text, one level a line, so that a diff of two plans reads well."""
    head = {
        "format": FORMAT,
        "version": VERSION,
        "requires": [CORRECTIONS] if any(level.corrections for level in plan.levels) else [],
        "name": plan.name,
        "notes": list(plan.notes),
        "encoders": {
            slot: {"architecture": info.architecture.to_json(), "weights_sketch": list(info.weights_sketch)}
            for slot, info in plan.encoders.items()
        },
        "denoiser": dict(plan.denoiser),
        "calibration": dict(plan.calibration),
        "search": dict(plan.search),
    }
    # NaN and infinity have no JSON: better no file than one that nobody can open.
    levels = ",\n  ".join(json.dumps(_level_to_json(level), allow_nan=False) for level in plan.levels)
    return json.dumps(head, indent=1, allow_nan=False)[:-2] + f',\n "levels": [\n  {levels}\n ]\n}}\n'


def _level_to_json(level) -> dict:
    cuts = {
        slot: {"skip": list(cut.skip), "reuse": {str(place): source for place, source in cut.reuse}}
        for slot, cut in level.cuts.items()
    }
    discrepancy = None if level.discrepancy is None else dict(level.discrepancy)
    note = level.corrections
    side = {} if note is None else {CORRECTIONS: {"file": note.file, "weights": dict(note.weights)}}
    return {
        "encoders": cuts,
        "removed_params": level.removed_parameters,
        "sparsity": level.sparsity,
        "discrepancy": discrepancy,
        **side,
    }


def loads(text: str, features=frozenset()) -> Plan:
    """The plan in `text`. `features` are those that the caller can honour. Raises PlanError with one sentence that
    names the field when anything is off."""
    if len(text) > MAX_TEXT:
        raise PlanError(f"The plan text has {len(text)} characters; a plan has at most {MAX_TEXT}.")
    try:
        data = json.loads(text, object_pairs_hook=_no_duplicates, parse_constant=_no_constant)
    except json.JSONDecodeError as error:
        raise PlanError(
            f"This is not a whole plan: its JSON breaks off or is wrong at line {error.lineno}, "
            f"column {error.colno} ({error.msg}). Copy or save the plan again."
        ) from None
    except (RecursionError, ValueError) as error:
        if isinstance(error, PlanError):
            raise
        raise PlanError(f"This is not a plan: {type(error).__name__} while reading its JSON.") from None
    _object(data, "plan")
    if data.get("format") != FORMAT:
        raise PlanError(f'Not a Skrr plan: field "format" is {_short(data.get("format"))}, expected "{FORMAT}".')
    if data.get("version") != VERSION or isinstance(data.get("version"), bool):
        raise PlanError(
            f"The plan has version {_short(data.get('version'))}; this pack reads version {VERSION}. Update the pack."
        )
    required = _list(data.get("requires"), "requires", 0, MAX_ITEMS)
    required = [_text(item, "requires", MAX_NAME) for item in required]
    missing = [name for name in required if name not in features]
    if missing:
        names = "".join(c if c.isprintable() else "?" for c in ", ".join(missing))
        raise PlanError(f"The plan needs features this pack does not have: {names}. Update the pack.")
    must = {"format", "version", "requires", "name", "encoders", "levels"}
    _fields(data, "plan", must, {"notes", "denoiser", "calibration", "search"})
    encoders = {
        _text(slot, "encoders", 64): _encoder(value, f"encoders.{slot}")
        for slot, value in _sized(_object(data["encoders"], "encoders"), "encoders", 1, MAX_SLOTS).items()
    }
    levels = _list(data["levels"], "levels", 1, MAX_LEVELS)
    levels = tuple(_level(value, f"levels[{n}]", encoders) for n, value in enumerate(levels))
    if any(level.corrections for level in levels) != (CORRECTIONS in required):
        raise PlanError(
            f"Field requires is {_short(required)}; expected \"{CORRECTIONS}\" where a level has corrections, and only "
            "there."
        )
    return Plan(
        name=_text(data["name"], "name", MAX_NAME),
        encoders=MappingProxyType(encoders),
        levels=levels,
        notes=tuple(_text(note, "notes", MAX_NOTE) for note in _list(data.get("notes", []), "notes", 0, MAX_ITEMS)),
        denoiser=_record(data.get("denoiser", {}), "denoiser"),
        calibration=_record(data.get("calibration", {}), "calibration"),
        search=_record(data.get("search", {}), "search"),
    )


def _encoder(value, where: str) -> EncoderInfo:
    _fields(_object(value, where), where, {"architecture"}, {"weights_sketch"})
    shape = _object(value["architecture"], f"{where}.architecture")
    known = Architecture.__dataclass_fields__
    more = set(LANGUAGE_FIELDS) if shape.get("family") == "llama" else set()
    needed = set(known) - {"projection", *LANGUAGE_FIELDS}
    _fields(shape, f"{where}.architecture", needed | more, {"projection"})
    for name, item in shape.items():
        if known[name].type is str:
            _text(item, f"{where}.architecture.{name}", 64)
        elif not isinstance(item, known[name].type) or (known[name].type is int and isinstance(item, bool)):
            expected = "true or false" if known[name].type is bool else "a whole number"
            raise PlanError(f"Field {where}.architecture.{name} is {_short(item)}; expected {expected}.")
    sketch = _list(value.get("weights_sketch", []), f"{where}.weights_sketch", 0, 4096)
    numbers = tuple(_number(x, f"{where}.weights_sketch", -MAX_NUMBER) for x in sketch)
    try:
        return EncoderInfo(Architecture(**shape), numbers)
    except PlanError as error:
        raise PlanError(f"{where}: {_brief(error)}") from None


def _level(value, where: str, encoders):
    _fields(_object(value, where), where, {"encoders", "removed_params", "sparsity", "discrepancy"}, {CORRECTIONS})
    cuts = {}
    for slot, cut in _object(value["encoders"], f"{where}.encoders").items():
        if slot not in encoders:
            raise PlanError(f"{where}.encoders names {_short(slot)}, which is not among the plan's encoders.")
        cuts[slot] = _cut(cut, f"{where}.encoders.{slot}", encoders[slot].architecture.sub_blocks)
    note = _side_file(value[CORRECTIONS], f"{where}.{CORRECTIONS}") if CORRECTIONS in value else None
    try:
        level = make_level(encoders, cuts, _discrepancy(value["discrepancy"], f"{where}.discrepancy"), note)
    except PlanError as error:
        raise PlanError(f"{where}: {_brief(error)}") from None
    removed = value["removed_params"]
    if isinstance(removed, bool) or not isinstance(removed, int) or removed != level.removed_parameters:
        raise PlanError(
            f"{where}.removed_params is {_short(removed)}, but its sub-blocks hold {level.removed_parameters}."
        )
    if abs(_number(value["sparsity"], f"{where}.sparsity", 0.0) - level.sparsity) > SPARSITY_TOLERANCE:
        raise PlanError(f"{where}.sparsity is {value['sparsity']}, but its sub-blocks make {level.sparsity:.6f}.")
    return level


def _side_file(value, where: str) -> SideFileNote:
    _fields(_object(value, where), where, {"file", "weights"})
    weights = _sized(_object(value["weights"], f"{where}.weights"), f"{where}.weights", 1, MAX_SLOTS)
    digests = {
        _text(slot, f"{where}.weights", 64): _digest(digest, f"{where}.weights") for slot, digest in weights.items()
    }
    return SideFileNote(_digest(value["file"], f"{where}.file"), MappingProxyType(digests))


def _digest(value, where: str) -> str:
    if not isinstance(value, str) or len(value) != 64 or set(value) - set("0123456789abcdef"):
        raise PlanError(f"Field {where} is {_short(value)}; expected a SHA-256, 64 characters of 0 to 9 and a to f.")
    return value


def _cut(value, where: str, count: int) -> Cut:
    _fields(_object(value, where), where, {"skip", "reuse"})
    skip = [_index(i, f"{where}.skip") for i in _list(value["skip"], f"{where}.skip", 0, count)]
    reuse = {}
    for place, source in _sized(_object(value["reuse"], f"{where}.reuse"), f"{where}.reuse", 0, count).items():
        if not (place.isascii() and place.isdigit() and len(place) <= 4 and str(int(place)) == place):
            raise PlanError(f"{where}.reuse has place {_short(place)}; expected a sub-block index such as \"5\".")
        reuse[int(place)] = _index(source, f"{where}.reuse")
    return make_cut(skip, reuse)


def _discrepancy(value, where: str):
    if value is None:
        return None
    _fields(_object(value, where), where, set(DISCREPANCY_FIELDS))
    return MappingProxyType({name: _number(item, f"{where}.{name}", 0.0) for name, item in value.items()})


def _record(value, where: str):
    items = _sized(_object(value, where), where, 0, MAX_ITEMS)
    for name, item in items.items():
        _text(name, where, 64)
        if isinstance(item, str):
            _text(item, f"{where}.{name}", MAX_NOTE, least=0)
        elif item is not None and not isinstance(item, (bool, int, float)):
            raise PlanError(f"Field {where}.{name} is {_short(item)}; expected text, a number, a boolean or null.")
        elif isinstance(item, float) and not math.isfinite(item):
            raise PlanError(f"Field {where}.{name} holds {_short(item)}; numbers must be finite.")
    return MappingProxyType(dict(items))


def _no_duplicates(pairs):
    result = dict(pairs)
    if len(result) != len(pairs):
        raise PlanError("The plan names a field twice in one object; each field may stand once.")
    return result


def _no_constant(name):
    raise PlanError(f"The plan holds the number {name}; numbers must be finite.")


def _short(value) -> str:
    """A value for an error message: its JSON, cut to 60 characters."""
    try:
        text = json.dumps(value, default=str)
    except RecursionError:  # nesting that could just be read; writing takes more of the stack
        return "a deeply nested value"
    return text if len(text) <= 60 else text[:57] + "..."


def _brief(error: PlanError) -> str:
    """A message into which a number of thousands of digits may have got, without its middle."""
    text = str(error)
    return text if len(text) <= 300 else f"{text[:150]}...{text[-100:]}"


def _object(value, where: str) -> dict:
    if not isinstance(value, dict):
        raise PlanError(f"Field {where} is {_short(value)}; expected an object.")
    return value


def _sized(value: dict, where: str, least: int, most: int) -> dict:
    if not least <= len(value) <= most:
        raise PlanError(f"Field {where} has {len(value)} entries; expected {least} to {most}.")
    return value


def _fields(value: dict, where: str, required: set, optional=frozenset()) -> None:
    for name in sorted(required - value.keys()):
        raise PlanError(f"{where} lacks field {name!r}.")
    for name in sorted(value.keys() - required - optional):
        raise PlanError(f"{where} has an unknown field {_short(name)}. Update the pack, or remove the field.")


def _list(value, where: str, least: int, most: int) -> list:
    if not isinstance(value, list) or not least <= len(value) <= most:
        raise PlanError(f"Field {where} is {_short(value)}; expected a list of {least} to {most} entries.")
    return value


def _text(value, where: str, most: int, least: int = 1) -> str:
    if not isinstance(value, str) or not least <= len(value) <= most:
        raise PlanError(f"Field {where} is {_short(value)}; expected text of {least} to {most} characters.")
    if any(ord(c) < 32 or ord(c) == 127 or 0xD800 <= ord(c) < 0xE000 for c in value):
        raise PlanError(f"Field {where} is {_short(value)}; expected text without control characters.")
    return value


def _index(value, where: str) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise PlanError(f"Field {where} holds {_short(value)}; expected a sub-block index (a whole number).")
    return value


def _number(value, where: str, least: float) -> float:
    number = not isinstance(value, bool) and isinstance(value, (int, float)) and abs(value) <= MAX_NUMBER
    if not number or value < least:
        raise PlanError(f"Field {where} holds {_short(value)}; expected a finite number from {least:g} up.")
    return float(value)
