"""Prompts: the sets that the pack brings, and files that people bring (.txt, .jsonl, .csv)."""

import csv
import io
import json
from collections.abc import Sequence
from pathlib import Path

from ..disk import reading
from ..errors import SkrrError

__all__ = ["ENDINGS", "FIELDS", "builtin_prompts", "clean_prompts", "prompt_lines", "read_prompts"]

# Looked for in this order, in the objects of a .jsonl and the header of a .csv.
FIELDS = ("prompt", "text", "caption")
SETS = {"calibration": "calibration.txt", "short": "builtin.txt"}
MAX_PROMPT = 20_000
MAX_FILE = 32 * 1024 * 1024
# Characters in which the first row of a .csv is looked for, to tell its separator.
HEADER = 4096
NAMES = f"{', '.join(FIELDS[:-1])} or {FIELDS[-1]}"


def builtin_prompts(name: str = "calibration") -> list[str]:
    """One of the pack's own sets, in its order: "calibration", 600 prompts of 20 to 250 T5 tokens for real encoders,
    shuffled so that any even spread over it mixes subjects and lengths; "short", the 64 of the demo."""
    if name not in SETS:
        raise SkrrError(f"There is no set of prompts {name!r}; there are {', '.join(SETS)}.")
    return read_prompts(Path(__file__).parents[1] / "prompts" / SETS[name])


def clean_prompts(texts: Sequence[str], limit: int | None = None) -> tuple[str, ...]:
    """The distinct non-empty prompts in order, at most `limit` of them, evenly spread over the list so that a
    file sorted by subject or length is not cut off at its head. Raises SkrrError when none is left, or one is too
    long or no text."""
    found = tuple(dict.fromkeys(text.strip() for text in texts if text.strip()))
    if not found:
        given = f"all {len(texts)} given are empty" if len(texts) else "none was given"
        raise SkrrError(f"There are no calibration prompts: {given}. Give at least one prompt.")
    for number, text in enumerate(found, 1):
        if len(text) > MAX_PROMPT:
            raise SkrrError(
                f"Calibration prompt {number} has {len(text)} characters; at most {MAX_PROMPT} make sense. "
                "Put one prompt on a line."
            )
        broken = next((c for c in text if "\ud800" <= c <= "\udfff"), None)
        if broken is not None:
            raise SkrrError(
                f"Calibration prompt {number} holds half a character (U+{ord(broken):04X}, from an escape such as "
                "\\ud83d without its other half). Remove it."
            )
    if limit is not None and len(found) > limit:
        found = tuple(found[n * len(found) // limit] for n in range(limit))
    return found


def prompt_lines(text: str) -> list[str]:
    """The lines of `text`, ended by any of the three systems' line ends; other separators stay in their prompt."""
    lines = text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
    return lines if lines[-1] else lines[:-1]


def read_prompts(path: str | Path) -> list[str]:
    """The prompts in a UTF-8 file, with or without byte-order mark, empty ones included:

    .txt    a prompt a line
    .jsonl  on each line a string, or an object with a field of FIELDS
    .csv    a column of FIELDS named by the first row, separated by , ; or tab; or one column, named or not

    Raises SkrrError saying the line and what was expected, or that the file cannot be read.
    """
    path = Path(path)
    reader = READERS.get(path.suffix.lower())
    if reader is None:
        raise SkrrError(
            f"{path.name} is no prompt file. Choose a .txt with one prompt a line, a .jsonl with a string or an object "
            f"with a field {NAMES} on each line, or a .csv with such a column."
        )
    return reader(path.name, _read(path))


def _read(path: Path) -> str:
    with reading(path):
        size = path.stat().st_size
        if size > MAX_FILE:
            raise SkrrError(f"{path.name} has {size} bytes; a prompt file has at most {MAX_FILE}. Split it.")
        data = path.read_bytes()
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise SkrrError(
            f"{path.name} is not UTF-8 text (byte {error.start}). Save it as UTF-8 and choose it again."
        ) from None
    if "\0" in text:
        # UTF-16 without its mark is valid UTF-8 full of zeros.
        raise SkrrError(f"{path.name} is not UTF-8 text (it holds zero bytes). Save it as UTF-8 and choose it again.")
    return text


def _txt(name: str, text: str) -> list[str]:
    return prompt_lines(text)


def _jsonl(name: str, text: str) -> list[str]:
    found = []
    for number, line in enumerate(prompt_lines(text), 1):
        if not line.strip():
            continue
        try:
            value = json.loads(line)
        # ValueError: besides broken JSON, whole numbers of thousands of digits.
        except (ValueError, RecursionError) as error:
            where = f" at column {error.colno}" if isinstance(error, json.JSONDecodeError) else ""
            raise SkrrError(
                f"{name}: line {number} is not JSON{where}. Each line holds one whole object with a field {NAMES}, or "
                "one string in double quotes."
            ) from None
        if isinstance(value, dict):
            field = next((field for field in FIELDS if field in value), None)
            if field is None:
                there = ", ".join(map(repr, list(value)[:5]))[:100] or "none"
                raise SkrrError(f"{name}: line {number} has no field {NAMES}; its fields: {there}.")
            value, what = value[field], f"the field {field!r} of line {number}"
        else:
            what = f"line {number}"
        if not isinstance(value, str):
            kind = {dict: "an object", list: "a list", bool: "true or false", type(None): "null"}
            raise SkrrError(f"{name}: {what} holds {kind.get(type(value), 'a number')}; a prompt is text in quotes.")
        found.append(value)
    return found


def _csv(name: str, text: str) -> list[str]:
    head = next((line for line in prompt_lines(text[:HEADER]) if line.strip()), "")
    delimiter = next((d for d in ",;\t" if _column(next(csv.reader([head], delimiter=d), [])) is not None), ",")
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    column, width, found = None, 0, []
    try:
        for row in reader:
            if not row:
                continue
            if not width:
                column, width = _column(row), len(row)
                if width > 1 and column is None:
                    raise SkrrError(
                        f"{name}: the first row names no column {NAMES}, and it has {width} cells. Name the column of "
                        "the prompts; in a file of prompts alone, those with commas stand in double quotes."
                    )
                found += row if column is None else []
                continue
            if len(row) != width:
                raise SkrrError(
                    f"{name}: line {reader.line_num} has {len(row)} cells, the first row has {width}. A prompt with "
                    "commas, semicolons or line breaks stands in double quotes."
                )
            found.append(row[column or 0])
    except csv.Error as error:
        raise SkrrError(
            f"{name} is not CSV at line {reader.line_num} ({error}). A quote inside a prompt is written twice, and "
            "the prompt stands in double quotes."
        ) from None
    return found


def _column(row: list[str]) -> int | None:
    """Where the column of the prompts stands, if `row` names it."""
    names = [cell.strip().lower() for cell in row]
    return next((names.index(field) for field in FIELDS if field in names), None)


READERS = {".txt": _txt, ".jsonl": _jsonl, ".csv": _csv}
ENDINGS = tuple(READERS)
