"""Whose tensors are whose: the names that transformers and ComfyUI give to the parts of T5, umT5 and CLIP."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from ..errors import SkrrError
from ..plans.architecture import Architecture
from .header import Entry

__all__ = ["EncoderTensors", "find_encoders", "place_of", "tensors_of"]

PATTERNS = {
    "t5": re.compile(r"(?P<prefix>|.*\.)encoder\.block\.(?P<layer>\d{1,3})\.layer\.(?P<part>[01])\.(?P<rest>.+)"),
    "clip": re.compile(
        r"(?P<prefix>|.*\.)text_model\.encoder\.layers\.(?P<layer>\d{1,3})\."
        r"(?P<part>self_attn|layer_norm1|mlp|layer_norm2)\.(?P<rest>.+)"
    ),
}
FEED_FORWARD_PARTS = ("1", "mlp", "layer_norm2")
MAX_ENCODERS = 16
TABLE = "SelfAttention.relative_attention_bias."


@dataclass(frozen=True)
class EncoderTensors:
    """One text encoder among the tensors of a file: what stands before its names, its family, and its tensors
    by the name without the prefix (whatever else shares the prefix included)."""

    prefix: str
    family: str
    tensors: Mapping[str, Entry]


def find_encoders(tensors: Mapping[str, Entry]) -> list[EncoderTensors]:
    """The T5, umT5 and CLIP text encoders of a file, in the order in which they first appear."""
    found = {}
    for name in tensors:
        for family, pattern in PATTERNS.items():
            match = pattern.fullmatch(name)
            if match:
                found.setdefault((match["prefix"], family))
                if len(found) > MAX_ENCODERS:
                    raise SkrrError(f"More than {MAX_ENCODERS} text encoders in one file: this is no model file.")
    return [
        EncoderTensors(
            prefix, family, {n.removeprefix(prefix): entry for n, entry in tensors.items() if n.startswith(prefix)}
        )
        for prefix, family in found
    ]


def place_of(name: str, family: str) -> tuple[int, str] | None:
    """(sub-block, rest of the name) of a tensor named without prefix; None outside the sub-blocks.

    Scales and other companions of a quantised linear carry its name, so they belong where it belongs.
    """
    match = PATTERNS[family].fullmatch(name)
    if match is None or match["prefix"]:
        return None
    part = match["part"]
    inner = part + "." + match["rest"] if family == "clip" else match["rest"]
    return 2 * int(match["layer"]) + (part in FEED_FORWARD_PARTS), inner


def tensors_of(names: Iterable[str], architecture: Architecture, skip: Iterable[int]) -> set[str]:
    """The names (without prefix) among `names` that go when the sub-blocks `skip` are skipped.

    T5's one position table lies in sub-block 0 and serves every attention: it stays. umT5's tables go.
    """
    skip, gone = set(skip), set()
    for name in names:
        place = place_of(name, architecture.family)
        shared = architecture.position_bias == "first" and place is not None and place[1].startswith(TABLE)
        if place is not None and place[0] in skip and not shared:
            gone.add(name)
    return gone
