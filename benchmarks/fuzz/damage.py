"""Damage done to valid inputs: characters, bytes, and values and fields of a JSON tree."""

import copy
import json
import random
import re
import string

__all__ = ["CHARACTERS", "ODD", "damage_bytes", "damage_text", "damage_tree", "write"]

# What a text in a tree becomes when it is written: text that json.dumps itself would never write.
RAW, AGAIN = "RAW:", "AGAIN:"
DEEP = tuple(f"{RAW}{'[' * n}{']' * n}" for n in (5, 300, 900, 960, 990, 2000))
ODD = (
    *(None, True, False, 0, -1, 1, 2, 5, 7, 46, 48, 64, 65, 255, 256, 257, 512, 65536, 1 << 24, (1 << 24) + 1, 1 << 48),
    *(1 << 63, 10**30, 10**400, -(10**400), 0.5, 1.0, -0.1, 1e-320, 1e31, float("nan"), float("inf"), "", "a" * 65),
    *("a" * 201, "a" * 2001, "\x00", "\n", "\x7f", "\ud800", "é", "\u2028", "5", "05", "٥", "²", "skrr-plan", "t5"),
    *("clip", "every", "relu", "F32", "F4", "U8", "format", "reuse", "skrr_plan", [], {}, [[]], [1 << 48] * 32),
    *(list(range(70)), [1] * 33, [0] * 5000, {str(n): n for n in range(70)}),
    *(f"{RAW}1e999", f"{RAW}{'9' * 4000}", f"{RAW}{'9' * 5000}", *DEEP),
)
CHARACTERS = string.ascii_letters + string.digits + string.punctuation + " \n\t\x00\x7fé٥\u2028\ud800=-_+/"


def damage_text(rng: random.Random, text: str) -> str:
    """One to four changes of characters."""
    for _ in range(rng.choice((1, 1, 2, 4))):
        at, width = rng.randrange(len(text) + 1), rng.choice((1, 1, 2, 9, 60))
        part = text[at : at + width]
        new = rng.choice(CHARACTERS)
        put = rng.choice(("", new, new * width, part * 2, part.swapcase(), part[::-1]))
        text = rng.choice((text[:at] + put + text[at + width :], text[:at] + put + text[at:]))
    return text[: rng.randrange(len(text) + 1)] if rng.random() < 0.1 else text


def damage_bytes(rng: random.Random, data: bytes) -> bytes:
    """One to four changes of bytes; a count or a length is often among the first."""
    data = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 4))):
        at = rng.randrange(min(len(data), rng.choice((4, 12, 40, 9999))) or 1)
        width = rng.choice((1, 1, 2, 8))
        put = bytes(rng.choice((0, 1, 2, 3, 8, 9, 64, 65, 127, 128, 255, rng.randrange(256))) for _ in range(width))
        kind = rng.randrange(4)
        if kind == 0:
            data[at : at + width] = put
        elif kind == 1:
            data[at:at] = put
        elif kind == 2:
            del data[at : at + width]
        elif data:
            data[at % len(data)] = (data[at % len(data)] + rng.choice((-1, 1))) % 256
    return bytes(data)


def nodes(tree) -> list:
    """(container, key) of every place in a JSON tree."""
    found, todo = [], [tree]
    while todo:
        here = todo.pop()
        for key in here if isinstance(here, dict) else range(len(here)):
            found.append((here, key))
            if isinstance(here[key], (dict, list)):
                todo.append(here[key])
    return found


def damage_tree(rng: random.Random, tree):
    """One to four changes of values, fields and entries, in place."""
    for _ in range(rng.choice((1, 1, 1, 2, 4))):
        places = nodes(tree)
        if not places:
            return tree
        here, key = rng.choice(places)
        value, kind = here[key], rng.randrange(8)
        if kind == 0:
            del here[key]
        elif kind == 1:
            other, name = rng.choice(places)
            here[key] = copy.deepcopy(other[name])
        elif kind == 2 and isinstance(here, dict):
            here[rng.choice((f"{AGAIN}{key}", str(rng.choice(ODD))[:80], *(str(n) for n in range(9))))] = value
        elif kind == 3 and isinstance(here, list):
            here.extend([copy.deepcopy(value)] * rng.choice((1, 2, 70, 600)))
        elif kind == 4 and isinstance(here, list):
            rng.shuffle(here)
        elif isinstance(value, (int, float)) and kind < 7:
            as_float = float(value) if abs(value) < 1e300 else 0.0
            here[key] = rng.choice((value + 1, value - 1, -value, value * 2, as_float, str(value), bool(value)))
        else:
            here[key] = copy.deepcopy(rng.choice(ODD))
    return tree


def write(tree) -> str:
    """The tree as JSON, with what only a hostile writer writes: fields named twice, huge numbers, deep nesting."""
    text = json.dumps(tree)
    if RAW in text:
        text = re.sub(f'"{RAW}([^"]*)"', lambda found: found[1], text)
    return text.replace(AGAIN, "")
