"""Side files of corrections as inputs of benchmarks.fuzz: sound ones, made without PyTorch, and damaged ones."""

import functools
import json
import math
import random
import struct

from benchmarks.fuzz.damage import ODD, damage_bytes, damage_text, damage_tree, write
from skrr_engine.plans.architecture import Architecture
from skrr_engine.plans.plan import EncoderInfo, Plan, make_cut, make_level
from skrr_engine.plans.plan_json import dumps

__all__ = ["side_file"]

SOUND = 300
# Of one number: format of `struct`, and one that is not finite.
KINDS = {"F16": "e", "F32": "f", "F64": "d"}


def side_file(rng: random.Random, mutate: bool) -> bytes:
    """A side file: the values of its header or its numbers damaged, or its bytes, or both."""
    if not mutate:
        return rng.randbytes(rng.choice((0, 8, 60)))
    text, numbers = sound(rng.randrange(SOUND))
    tree, kind = json.loads(text), rng.randrange(8)
    if kind == 0:
        tree = damage_tree(rng, tree)
    elif kind == 1:
        metadata = tree["__metadata__"]
        name = rng.choice(list(metadata))
        metadata[name] = rng.choice((damage_text(rng, metadata[name]), json.dumps(rng.choice(ODD))))
    elif kind == 2 and len(tree) > 1:  # a tensor under another name, or of another shape
        name = rng.choice([name for name in tree if name != "__metadata__"])
        entry = tree.pop(name)
        if rng.random() < 0.5:
            entry["shape"] = rng.choice((entry["shape"][::-1], [*entry["shape"], 1], [1, *entry["shape"]]))
            tree[name] = entry
        else:
            parts = name.split("/")
            parts[rng.randrange(len(parts))] = rng.choice(("0", "1", "3", "99", "x", "bias", "matrix", "up", "down"))
            tree["/".join(parts)] = entry
    elif kind == 3 and numbers:
        at = rng.randrange(len(numbers))
        numbers = numbers[:at] + rng.choice((b"\xff\x7f", b"\x00\x7c", b"\xff\xff")) + numbers[at + 2 :]
    elif kind == 4:  # a dtype of the same width that a correction never has
        for name, entry in tree.items():
            if name != "__metadata__" and rng.random() < 0.3:
                entry["dtype"] = {"F16": rng.choice(("I16", "BF16")), "F32": "I32", "F64": "I64"}[entry["dtype"]]
    elif kind == 5:  # a plan or slots that do not fit
        metadata = tree["__metadata__"]
        plan = json.loads(metadata["skrr_corrected_plan"])
        plan["levels"] *= rng.choice((1, 2))
        metadata["skrr_corrected_plan"] = json.dumps(plan)
        weights = json.loads(metadata["skrr_corrected_weights"])
        weights[rng.choice(("zz", "clip_l"))] = rng.choice(("0" * 64, "0"))
        metadata["skrr_corrected_weights"] = json.dumps(weights)
    encoded = write(tree).encode("utf-8", "surrogatepass")
    content = len(encoded).to_bytes(8, "little") + encoded + numbers
    return damage_bytes(rng, content) if kind > 5 else content


@functools.lru_cache(SOUND)
def sound(number: int) -> tuple[str, bytes]:
    """(header, numbers) of sound side file `number`."""
    rng = random.Random(f"side file {number}")
    encoders, cuts = {}, {}
    for slot in rng.sample(("t5xxl", "clip_l", "a/b"), rng.choice((1, 1, 2))):
        sizes = [rng.randint(1, 4) for _ in range(4)]
        shape = Architecture("t5", 2, *sizes, 9, "relu", True, "first", 8)
        skip = rng.sample(range(4), rng.randint(1, 3))
        sources = {place: [n for n in (place % 2, place % 2 + 2) if n not in skip] for place in skip}
        reuse = {place: some[0] for place, some in sources.items() if some and rng.random() < 0.3}
        encoders[slot], cuts[slot] = EncoderInfo(shape), make_cut(skip, reuse)
    plan = Plan("fuzz", encoders, (make_level(encoders, cuts),))
    weights = {slot: rng.randbytes(32).hex() for slot in cuts}
    metadata = {
        "skrr_corrections": "1",
        "skrr_corrected_plan": dumps(plan),
        "skrr_corrected_weights": json.dumps(weights),
    }
    tree, numbers = {"__metadata__": metadata}, b""
    for slot, cut in cuts.items():
        for name, shape in tensors(rng, encoders[slot].architecture, cut):
            dtype, count = rng.choice(list(KINDS)), math.prod(shape)
            data = struct.pack(f"<{count}{KINDS[dtype]}", *(rng.uniform(-9, 9) for _ in range(count)))
            offsets = [len(numbers), len(numbers) + len(data)]
            tree[f"{slot}/{name}"] = {"dtype": dtype, "shape": shape, "data_offsets": offsets}
            numbers += data
    return json.dumps(tree), numbers


def tensors(rng: random.Random, shape: Architecture, cut):
    """(place/name, shape) of corrections at some places."""
    for place in range(shape.sub_blocks):
        if rng.random() < 0.3 or place in cut.reuse_map.values():
            continue
        if place not in cut.skip:
            yield f"{place}/matrix", [shape.width, shape.feed_forward if place % 2 else shape.heads * shape.head_width]
        elif rng.random() < 0.5:
            yield f"{place}/bias", [shape.width]
        else:
            rank = rng.randint(1, shape.width)
            yield f"{place}/down", [rank, shape.width + 1]
            yield f"{place}/up", [shape.width, rank]
