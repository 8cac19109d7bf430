"""The demo tells the truth about what it made. Random weights: the way is the same, the pictures are noise."""

import re

import pytest
from PIL import Image

from skrr_engine.command.cli import main
from skrr_engine.corrections.side_file import side_file_for
from skrr_engine.demo import command
from skrr_engine.files.files import read_plan
from skrr_engine.opening.open_encoder import open_encoder as real
from skrr_engine.plans.plan_json import CORRECTIONS, loads

from ..random_pipeline import write_random_pipeline


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    return write_random_pipeline(tmp_path_factory.mktemp("weights"), layers=4)


@pytest.fixture
def small(monkeypatch, weights, few_steps):
    """A demo of seconds."""
    sizes = {"PROMPTS": 3, "PER_TASK": 1, "SPARSITIES": (0.02, 0.04, 0.05), "FIT": 60, "SELECTION": 10}
    for name, value in sizes.items():
        monkeypatch.setattr(command, name, value)
    monkeypatch.setattr(command.demo, "__defaults__", (weights,))


def test_the_demo_runs_from_end_to_end_and_again(small, weights, tmp_path, capsys):
    folder = tmp_path / "demo"
    for _ in range(2):
        assert main(["demo", "--out", str(folder)]) == 0
        out = capsys.readouterr().out
    corrected = loads((folder / "demo-corrected.json").read_text(), {CORRECTIONS})
    side = f"demo-corrected-{corrected.levels[0].corrections.file[:12]}.safetensors"
    assert sorted(path.name for path in folder.iterdir()) == [
        side, "demo-corrected.json", "demo-encoder-skrr.safetensors", "demo-pictures.png", "demo-plan.json",
        "demo-report.md",
    ]  # fmt: skip
    assert side_file_for(folder / side, corrected.levels[0])
    report = (folder / "demo-report.md").read_text()
    assert report in out
    rows = [line.split(" | ") for line in report.splitlines() if line.startswith("|")][2:]
    plan = loads((folder / "demo-plan.json").read_text())
    wanted = [plan.level_for(sparsity) for sparsity in (0.02, 0.04, 0.05)]
    assert rows[0][0] == "| dense" and rows[0][2] == "0.0000"
    titles = [f"| {100 * level.sparsity:.1f} % removed" for level in wanted]
    assert [row[0] for row in rows[1:]] == [*titles, f"{titles[-1]}, corrected"]
    assert corrected.levels[0].cuts == wanted[-1].cuts and float(rows[-1][2]) < float(rows[-2][2])
    rows.pop()
    files = (weights / "encoder.safetensors", folder / "demo-encoder-skrr.safetensors")
    dense, pruned = (path.stat().st_size for path in files)
    stated = [int(row[1].replace(",", "")) for row in rows]
    assert 0 < dense - stated[0] < 40_000  # the file's header
    assert stated[0] - stated[-1] == pytest.approx(dense - pruned, abs=20_000)
    assert read_plan(folder / "demo-encoder-skrr.safetensors").levels[0] == wanted[-1]
    assert all(float(row[2]) > 0 for row in rows[1:])
    assert re.search(r"6 captions that the search never saw, each drawn by 5 encoders", out)
    with Image.open(folder / "demo-pictures.png") as sheet:
        assert sheet.width > 5 * 128 and sheet.height > 6 * 128


def test_a_folder_that_cannot_be_made_is_a_sentence(small, tmp_path, capsys):
    (tmp_path / "file").write_text("")
    assert main(["demo", "--out", str(tmp_path / "file" / "demo")]) == 2
    assert capsys.readouterr().err.startswith("skrr: ")


def test_a_pruned_file_that_computes_something_else_is_an_error(small, weights, tmp_path, capsys, monkeypatch):
    """The check really looks: with the dense file opened in its place, it fails."""
    monkeypatch.setattr(command, "open_encoder", lambda path: real(weights / "encoder.safetensors"))
    assert main(["demo", "--out", str(tmp_path)]) == 2
    assert "The pruned file and its plan disagree" in capsys.readouterr().err
