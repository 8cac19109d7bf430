"""A generated page is written, or held against the one that is there and left alone."""

from benchmarks.generated import settle


def test_a_page_is_written_or_checked(tmp_path, capsys):
    page, cells = tmp_path / "page.md", tmp_path / "cells.json"
    assert settle(page, "a", cells, check=True) == 1 and not page.exists()
    assert settle(page, "a", cells, check=False) == 0 and page.read_text() == "a"
    assert settle(page, "a", cells, check=True) == 0
    assert settle(page, "b", cells, check=True) == 1 and page.read_text() == "a"
    said = [f"page.md is {how}what cells.json generates." for how in ("not ", "", "not ")]
    assert capsys.readouterr().out.splitlines() == said
