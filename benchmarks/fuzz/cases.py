"""The inputs of benchmarks.fuzz: valid ones, made at random, and damage done to them.

A case is made from its number alone, so that any case of a long run can be made again.
"""

import base64
import copy
import functools
import hashlib
import json
import random
from dataclasses import replace

from benchmarks.fuzz.damage import CHARACTERS, ODD, damage_bytes, damage_text, damage_tree, write
from benchmarks.fuzz.side_files import side_file
from skrr_engine.plans.architecture import ACTIVATIONS, Architecture
from skrr_engine.plans.plan import EncoderInfo, Plan, SideFileNote, make_cut, make_level
from skrr_engine.plans.plan_json import dumps
from skrr_engine.plans.plan_text import PREFIX, dumps_level

__all__ = ["TARGETS", "make_case"]

PLANS = 1000
SLOTS = ("t5xxl", "umt5xxl", "clip_l", "clip_g", "x", "s" * 64)
FIELDS = ("conditional", "null", "null_weight", "cosine", "null_norm", "value")


def random_plan(rng: random.Random) -> Plan:
    """A sound plan, small, of one to three encoders and one to three levels."""
    encoders = {}
    for slot in rng.sample(SLOTS, rng.choice((1, 1, 2, 3))):
        encoders[slot] = EncoderInfo(random_shape(rng), tuple(rng.random() for _ in range(rng.randrange(3))))
    levels = []
    for _ in range(rng.choice((1, 1, 2, 3))):
        cuts = {slot: random_cut(rng, info.architecture.sub_blocks) for slot, info in encoders.items()}
        found = {name: rng.random() for name in FIELDS} if rng.random() < 0.3 else None
        note = random_note(rng, cuts) if cuts and rng.random() < 0.2 else None
        levels.append(make_level(encoders, cuts, found, note))
    record = {"beam": rng.randint(1, 9), "prompts": rng.choice(("mine", "", None, True, 0.25))}
    return Plan("fuzz", encoders, tuple(levels), ("a note",) * rng.randrange(3), {}, record, dict(record))


def random_shape(rng: random.Random) -> Architecture:
    """A sound shape of any family, sizes of all magnitudes."""
    family = rng.choice(("t5", "clip", "llama"))
    sizes = [rng.randint(1, 60000) for _ in range(4)]
    usual = {
        "family": family, "layers": rng.choice((1, 2, 3, 6, 24, 129)), "width": rng.randint(1, 9999),
        "feed_forward": sizes[0], "heads": sizes[1], "head_width": sizes[2], "vocabulary": rng.randint(1, 99999),
        "activation": rng.choice(ACTIVATIONS),
    }  # fmt: skip
    if family != "llama":
        bias = rng.choice(("first", "every")) if family == "t5" else "absolute"
        more = {"gated": rng.random() < 0.5, "position_bias": bias, "projection": rng.choice((0, 0, 768))}
        return Architecture(**usual, **more, positions=sizes[3])
    keys = rng.choice((1, 2, 8))
    usual["heads"] = keys * rng.randint(1, 64)
    flags = {name: rng.random() < 0.5 for name in ("attention_bias", "head_norms", "post_norms")}
    return Architecture(
        **usual, gated=True, position_bias="rotary", positions=0, key_heads=keys, beside=sizes[3], **flags
    )


@functools.lru_cache(PLANS)
def sound(number: int) -> tuple[str, str]:
    """(JSON, compact text of a level) of sound plan `number`. Cases share plans: making one takes longer than
    damaging and reading it."""
    plan = random_plan(random.Random(number))
    return dumps(plan), dumps_level(plan, replace(plan.levels[-1], corrections=None))


def random_note(rng: random.Random, cuts) -> SideFileNote:
    """The digests of a side file for some of the encoders."""
    slots = rng.sample(list(cuts), rng.randint(1, len(cuts)))
    return SideFileNote(rng.randbytes(32).hex(), {slot: rng.randbytes(32).hex() for slot in slots})


def random_cut(rng: random.Random, count: int):
    """A sound cut of few sub-blocks, re-use included."""
    skip = rng.sample(range(count), rng.randint(0, min(count, 6)))
    reuse = {}
    for place in skip:
        sources = [i for i in range(place % 2, count, 2) if i not in skip]
        if sources and rng.random() < 0.5:
            reuse[place] = rng.choice(sources)
    return make_cut(skip, reuse)


# --- targets --------------------------------------------------------------------------------------------------


def compact_text(rng: random.Random, mutate: bool) -> str:
    """A level's line of text, its characters damaged."""
    if not mutate:
        return PREFIX * (rng.random() < 0.8) + "".join(rng.choices(CHARACTERS, k=rng.choice((0, 3, 80, 9000))))
    return damage_text(rng, sound(rng.randrange(PLANS))[1])


def compact_record(rng: random.Random, mutate: bool) -> str:
    """A level's record damaged under a checksum that is right again: what the decoder behind it makes of it."""
    if mutate:
        body = sound(rng.randrange(PLANS))[1][len(PREFIX) :]
        record = base64.urlsafe_b64decode(body + "=" * (-len(body) % 4))[4:]
        if rng.random() < 0.05:
            record = bytes([2 * record[0]]) + 2 * record[1:]  # every encoder twice
        else:
            record = damage_bytes(rng, record)
    else:
        record = rng.randbytes(rng.choice((0, 1, 30, 200)))
    check = hashlib.sha256(record).digest()[:4]
    return PREFIX + base64.urlsafe_b64encode(check + record).decode().rstrip("=")


def plan_text(rng: random.Random, mutate: bool) -> str:
    """A plan's JSON, its characters damaged."""
    if not mutate:
        return "".join(rng.choices('{}[]",:0123456789eE.-+ntf\\u \n', k=rng.choice((0, 5, 100))))
    return damage_text(rng, sound(rng.randrange(PLANS))[0])


def plan_tree(rng: random.Random, mutate: bool) -> str:
    """A plan's JSON, its values and fields damaged."""
    if not mutate:
        return write(copy.deepcopy(rng.choice(ODD)))
    return write(damage_tree(rng, json.loads(sound(rng.randrange(PLANS))[0])))


AROUND = ("\n", "> ", "- ", "```\n", '"', "`", "**", "_", "\\", "\ufeff", "\u200b", "skrr1.", "{", '{"format": ', " a ")


def pasted_text(rng: random.Random, mutate: bool) -> str:
    """A message with a plan or two in it, whole or damaged."""
    parts = rng.choices(AROUND, k=rng.choice((0, 2, 9)))
    for _ in range(rng.choice((1, 1, 1, 2)) if mutate else 0):
        text = rng.choice(sound(rng.randrange(PLANS)))
        parts.insert(rng.randrange(len(parts) + 1), damage_text(rng, text) if rng.random() < 0.3 else text)
    return "".join(parts)


def header_file(rng: random.Random, mutate: bool) -> bytes:
    """A safetensors file: its header's values damaged, or its bytes, or both."""
    if not mutate:
        return rng.randbytes(rng.choice((0, 7, 8, 60)))
    tree, at = {}, 0
    for n in range(rng.randint(0, 5)):
        dtype, bits = rng.choice((("F32", 32), ("F16", 16), ("U8", 8), ("F8_E4M3", 8), ("F4", 4), ("NEW", 16)))
        shape = [rng.randint(0, 4) for _ in range(rng.randrange(3))] + [2] * (bits == 4)
        size = bits
        for side in shape:
            size *= side
        tree[f"layer.{n}.weight"] = {"dtype": dtype, "shape": shape, "data_offsets": [at, at + size // 8]}
        at += size // 8
    tree["__metadata__"] = {"format": "pt"}
    if rng.random() < 0.5:
        plan = sound(rng.randrange(PLANS))[0]
        tree["__metadata__"]["skrr_plan"] = damage_text(rng, plan) if rng.random() < 0.3 else plan
    kind = rng.randrange(4)
    text = write(damage_tree(rng, tree) if kind < 3 else tree).encode("utf-8", "surrogatepass")
    content = len(text).to_bytes(8, "little") + text + bytes(at)
    return damage_bytes(rng, content) if kind > 1 else content


TARGETS = {
    "compact text": compact_text,
    "compact record": compact_record,
    "plan text": plan_text,
    "plan tree": plan_tree,
    "header": header_file,
    "pasted text": pasted_text,
    "side file": side_file,
}


def make_case(seed: int, number: int) -> tuple[str, bool, str | bytes]:
    """(target, whether it is a mutation of a valid input, the input) of case `number`; nine of ten are mutations."""
    rng = random.Random(f"{seed}:{number}")
    target, mutate = list(TARGETS)[number % len(TARGETS)], rng.random() < 0.9
    return target, mutate, TARGETS[target](rng, mutate)
