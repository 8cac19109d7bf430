"""The page of free parts says what was measured, and the shares that the pack promises are there."""

import json
from pathlib import Path

import pytest

from benchmarks.free.page import __file__ as page_file
from benchmarks.free.page import page_of, shares

DOCS = Path(page_file).resolve().parents[2] / "docs"
FOUND = json.loads((DOCS / "results" / "free.json").read_text(encoding="utf-8"))
NEWEST = FOUND["0.33.0"]


def test_the_page_is_made_of_the_measured_figures():
    assert (DOCS / "models.md").read_text(encoding="utf-8") == page_of(FOUND)


@pytest.mark.parametrize(
    "name, without, with_table",
    [
        ("FLUX.2 klein 9B", 28, 35),
        ("FLUX.2 klein 4B", 22, 30),
        ("FLUX.2 dev", 24, 27),
        ("Wan", 0, 18),
        ("Qwen-Image", 8, 14),
    ],
)
def test_shares(name, without, with_table):
    found = shares(NEWEST[name])
    assert without <= found[0] < without + 2 and with_table <= found[1] < with_table + 3


def test_no_part_is_larger_than_the_whole_and_none_is_counted_twice():
    for release in FOUND.values():
        for name, row in release.items():
            assert 0 <= shares(row)[0] <= shares(row)[1] < 100, name


def cells(text):
    """The rows of a page's tables, by their first cell."""
    rows = ([cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line[:2] == "| ")
    return {row[0]: row for row in rows}


def test_the_readme_has_the_figures_of_the_page():
    """Encoder, GB, free, with the table."""
    readme = (DOCS.parent / "README.md").read_text(encoding="utf-8")
    said = cells(readme.partition("## What goes free")[2].partition("\n## ")[0])
    page = cells((DOCS / "models.md").read_text(encoding="utf-8"))
    del said["image model"]
    assert len(said) == 11
    for name, (_, encoder, size, _, free, with_table) in said.items():
        found = page[name]
        assert (encoder, size, free, with_table) == (found[1], found[4], found[9], found[10]), name
