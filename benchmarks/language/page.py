"""docs/language.md out of the measured cells: every figure on it is computed here."""

from pathlib import Path

from benchmarks.tables.cells import Cells

__all__ = ["CELLS", "PAGE", "page"]

PACK = Path(__file__).resolve().parents[2]
CELLS, PAGE = PACK / "docs" / "results" / "language.json", PACK / "docs" / "language.md"


def page(cells: Cells) -> str:
    """The whole page, Markdown."""
    return ""
