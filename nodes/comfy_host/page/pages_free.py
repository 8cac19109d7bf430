"""The free parts of a run as numbers and reasons for the page to draw."""

from ..clip.because import Because, Listed
from ..clip.free import FreePart
from ..clip.patching import Patched

__all__ = ["free_page"]

# Six kinds of parts, four encoders.
MAX_PARTS = 32
MAX_WORDS = 200
MAX_LIST = 64


def free_page(patched: Patched) -> dict:
    """What went free, JSON-able. `clip` has the whole CLIP's bytes: before, without the free parts, and after, the
    plan's cuts included; `sparsity` is that of the level that was taken, or None. Each of `parts` has the encoder's
    `slot`, its `kind` and how many of it went (`count`), its `bytes`, and `why`: {text, values}, English with {names}.
    Of a table the kind says where it stays: "table" in RAM, "file_table" in its file.
    """
    before, after = patched.clip_bytes
    return {
        "clip": [before, before - sum(part.size for part in patched.free), after],
        "sparsity": None if patched.level is None else patched.level.sparsity,
        "parts": [_part(part, from_files=patched.shared is None) for part in patched.free[:MAX_PARTS]],
    }


def _part(part: FreePart, from_files: bool) -> dict:
    return {
        "slot": part.slot[:MAX_WORDS],
        "kind": "file_table" if from_files and part.kind == "table" else part.kind,
        "count": len(part.paths),
        "bytes": part.size,
        "why": _why(part.why),
    }


def _why(why: Because) -> dict:
    values = {name: list(v[:MAX_LIST]) if isinstance(v, Listed) else v for name, v in why.values.items()}
    return {"text": why.template[:MAX_WORDS], "values": values}
