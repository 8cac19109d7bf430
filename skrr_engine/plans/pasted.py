"""Where plans stand in text that people paste: in prose, quotes, bullets and code fences, with Markdown's escapes.

Only finds the pieces. Whether a piece is a plan is for its reader to say, which has a checksum or a form to go by.
"""

import json
import re
from dataclasses import dataclass

__all__ = ["MAX_PIECES", "Piece", "pieces"]

# More places than this that look like a plan are no message about a plan.
MAX_PIECES = 64
# What chat programs and web pages put between letters, and nobody sees: byte-order mark, zero widths, soft hyphen.
UNSEEN = re.compile("[\ufeff\u200b\u200c\u200d\u200e\u200f\u2060\u00ad]")
QUOTED = re.compile(r"^[ \t]*(?:>[ \t]?)+", re.MULTILINE)
# None of these stands behind a backslash in JSON.
ESCAPED = re.compile(r"\\([_\-.\[\]{}*#>+()!|~`:&<])")
COMPACT = re.compile(r"(?<![A-Za-z0-9])skrr[0-9]{1,4}\.[A-Za-z0-9_-]*")
BROKEN_LINE = re.compile(r"\s+([A-Za-z0-9_-]+)(?![^\s`\"'*)>.,])")
MAX_BREAKS, MAX_COMPACT = 64, 8000
FIELDS = "format|version|requires|name|notes|encoders|levels|denoiser|calibration|search"
OBJECT = re.compile(r'\{\s*"(?:' + FIELDS + r')"\s*:')
# Shorter ones are talk about plans: "the line that begins with skrr1."
LEAST_COMPACT = len("skrr1.") + 7


@dataclass(frozen=True)
class Piece:
    """A part of the text that claims to be a plan, in the spellings to try, the likeliest first."""

    is_json: bool
    spellings: tuple[str, ...]


def pieces(text: str) -> list[Piece]:
    """The parts of `text` that look like a plan, at most one more than MAX_PIECES."""
    text = QUOTED.sub("", UNSEEN.sub("", text))
    found, rest = _objects(text)
    if not found:
        plain = ESCAPED.sub(r"\1", text).translate({0x201C: '"', 0x201D: '"'})
        found, rest = _objects(plain)
    return found + _lines(ESCAPED.sub(r"\1", rest), MAX_PIECES + 1 - len(found))


def _objects(text: str) -> tuple[list[Piece], str]:
    """The JSON objects that call themselves a plan, and the text without them."""
    found, rest, at, tries = [], [], 0, 0
    decoder = json.JSONDecoder()
    start = OBJECT.search(text)
    while start and tries <= MAX_PIECES:
        tries += 1
        try:
            value, end = decoder.raw_decode(text, start.start())
        except (ValueError, RecursionError):
            start = OBJECT.search(text, start.end())
            continue
        if value.get("format") == "skrr-plan":
            found.append(Piece(True, (text[start.start() : end],)))
            rest.append(text[at : start.start()])
            at = end
        start = OBJECT.search(text, end)
    return found, "\n.\n".join([*rest, text[at:]])


def _lines(text: str, most: int) -> list[Piece]:
    """The compact lines, each as it stands, without a closing mark of emphasis, and with the lines below it joined."""
    found = []
    for start in COMPACT.finditer(text):
        if len(found) >= most:
            break
        whole, end, spellings = start[0], start.end(), [start[0]]
        for _ in range(MAX_BREAKS):
            more = BROKEN_LINE.match(text, end)
            if more is None or more[1].startswith("skrr") or len(whole) + len(more[1]) > MAX_COMPACT:
                break
            whole, end = whole + more[1], more.end()
            spellings.append(whole)
        spellings += [spelling.rstrip("_-") for spelling in spellings if spelling[-1] in "_-"]
        if len(whole) >= LEAST_COMPACT:
            found.append(Piece(False, tuple(spellings)))
    return found
