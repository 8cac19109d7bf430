"""Tokenizers for the command line, and prompts -> calibration rows as the image models build them."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..disk import is_file, is_folder, reading
from ..errors import SkrrError
from ..measure.calibration import Calibration, Row, make_calibration
from ..plans.architecture import Architecture

__all__ = ["Tokenizer", "calibrate", "open_tokenizer"]

T5_PAD, T5_END = 0, 1
MAX_MIN_LENGTH = 4096


@dataclass(frozen=True)
class Tokenizer:
    """`encode(text)` gives token ids without special ones. `start` is None where a family has none (T5)."""

    name: str
    encode: Callable[[str], list[int]]
    start: int | None
    end: int
    pad: int


def open_tokenizer(path: str | Path, family: str) -> Tokenizer:
    """The tokenizer in a folder or file, for an encoder of `family`: tokenizer.json or spiece.model for T5,
    tokenizer.json or vocab.json with merges.txt for CLIP. Raises SkrrError saying what was looked for."""
    path = Path(path)
    whole = is_folder(path)
    folder = path if whole else path.parent
    if family == "clip":
        wanted = ("tokenizer.json", "vocab.json")
        if path.name in wanted or (whole and any(is_file(folder / name) for name in wanted)):
            return _clip(folder)
    elif is_file(path) and path.suffix in (".json", ".model"):
        return _t5(path)
    else:
        wanted = ("tokenizer.json", "spiece.model")
        for name in wanted:
            if whole and is_file(folder / name):
                return _t5(folder / name)
    raise SkrrError(
        f"There is no {family.upper()} tokenizer at {path}: looked for {' and '.join(wanted)}. Name its folder or "
        "file with --tokenizer (in a diffusers model it lies beside the encoder, in tokenizer, tokenizer_2 or _3)."
    )


def _t5(path: Path) -> Tokenizer:
    """The libraries are used directly: transformers' own T5 tokenizer needs protobuf for a spiece.model."""
    if path.suffix == ".json":
        from tokenizers import Tokenizer as Fast

        fast = Fast.from_str(_read_json(path))
        fast.no_padding()
        fast.no_truncation()
        return Tokenizer(path.name, lambda text: fast.encode(text, add_special_tokens=False).ids, None, T5_END, T5_PAD)
    from sentencepiece import SentencePieceProcessor

    pieces = SentencePieceProcessor()
    with reading(path):
        data = path.read_bytes()
    try:
        pieces.LoadFromSerializedProto(data)
    except RuntimeError:
        raise SkrrError(f"{path.name} is no sentencepiece model. Choose the encoder's own spiece.model.") from None
    return Tokenizer(path.name, pieces.EncodeAsIds, None, T5_END, T5_PAD)


def _read_json(path: Path) -> str:
    """The text of a tokenizer.json. The library raises a bare Exception on others, so the form is checked here."""
    with reading(path):
        data = path.read_bytes()
    try:
        text = data.decode("utf-8")
        whole = isinstance(json.loads(text)["model"], dict)
    except (ValueError, LookupError, TypeError, RecursionError):
        whole = False
    if not whole:
        raise SkrrError(f"{path.name} is not a tokenizer file. Choose the encoder's own tokenizer.json.")
    return text


def _clip(folder: Path) -> Tokenizer:
    from transformers import CLIPTokenizerFast

    if is_file(folder / "tokenizer.json"):
        _read_json(folder / "tokenizer.json")
    elif not is_file(folder / "merges.txt"):
        raise SkrrError(f"{folder} has vocab.json, but no merges.txt beside it. Put the two files together.")
    with reading(folder):
        fast = CLIPTokenizerFast.from_pretrained(folder, local_files_only=True)

    def encode(text: str) -> list[int]:
        return fast(text, add_special_tokens=False, verbose=False)["input_ids"]

    return Tokenizer(folder.name, encode, fast.bos_token_id, fast.eos_token_id, fast.pad_token_id)


def calibrate(
    prompts: Sequence[str], tokenizer: Tokenizer, shape: Architecture, min_length: int = 0
) -> Calibration:
    """The rows of `prompts` and of the null prompt "", for an encoder of that shape.

    T5: tokens, </s>, then padding up to `min_length`, every position weighed alike, since the denoisers of SD3 and
    FLUX read the padding too (ComfyUI: 77 and 256; no padding for PixArt and Chroma). CLIP: start, as many
    tokens as fit, end, padding to all its positions.
    """
    if not 0 <= min_length <= MAX_MIN_LENGTH:
        raise SkrrError(f"The minimum length is {min_length}; expected 0 to {MAX_MIN_LENGTH} tokens.")
    if min_length and shape.family == "clip":
        raise SkrrError("CLIP always fills its positions; leave --min-length out.")
    row = _clip_row if shape.family == "clip" else _t5_row
    rows = [row(tokenizer, text, number, shape, min_length) for number, text in enumerate(prompts)]
    null = row(tokenizer, "", 0, shape, min_length)
    highest = max(max(r.tokens) for r in (*rows, null))
    if highest >= shape.vocabulary:
        raise SkrrError(
            f"The tokenizer {tokenizer.name} makes token {highest}, the encoder knows 0 to {shape.vocabulary - 1}. "
            "Name the tokenizer that belongs to this encoder with --tokenizer."
        )
    return make_calibration(prompts, rows, [null])


def _t5_row(tokenizer: Tokenizer, text: str, prompt: int, shape: Architecture, min_length: int) -> Row:
    tokens = [*tokenizer.encode(text), tokenizer.end]
    tokens += [tokenizer.pad] * (min_length - len(tokens))
    return Row(tuple(tokens), prompt, {"sequence": (1 / len(tokens),) * len(tokens)})


def _clip_row(tokenizer: Tokenizer, text: str, prompt: int, shape: Architecture, min_length: int) -> Row:
    length = shape.positions
    tokens = [tokenizer.start, *tokenizer.encode(text)[: length - 2], tokenizer.end]
    tokens += [tokenizer.pad] * (length - len(tokens))
    return Row(tuple(tokens), prompt, {"sequence": (1 / length,) * length, "pooled": (1.0,)})
