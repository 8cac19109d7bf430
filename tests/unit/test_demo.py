"""The demo tells the truth about what it made."""

import re

import pytest

from skrr_engine import demo
from skrr_engine.cli import main
from skrr_engine.files import read_plan
from skrr_engine.hosts import open_encoder as real


@pytest.fixture
def small(monkeypatch):
    """A demo of seconds."""
    for name, value in (("LAYERS", 4), ("WIDTH", 16), ("PROMPTS", 2), ("PROMPT_BYTES", 12)):
        monkeypatch.setattr(demo, name, value)


def test_the_demo_runs_from_end_to_end_and_again(small, tmp_path, capsys):
    for _ in range(2):
        assert main(["demo", "--out", str(tmp_path / "demo")]) == 0
        out = capsys.readouterr().out
        assert "gives the same outputs as the plan, bit for bit" in out
        assert "mechanics, not picture quality" in out
        found = {name.strip(): float(value) for name, value in re.findall(r"^   (\S.*?) +(\d+\.\d{4})$", out, re.M)}
        skrr, random_sets = found["Skrr"], found["5 random sets of that size, mean"]
        assert found["dense"] == 0 < skrr < random_sets
    names = sorted(path.name for path in (tmp_path / "demo").iterdir())
    assert names == [
        "demo-denoiser.safetensors", "demo-encoder-skrr.safetensors", "demo-encoder.safetensors", "demo-plan.json",
    ]  # fmt: skip
    before, after = (tmp_path / "demo" / f"demo-encoder{end}.safetensors" for end in ("", "-skrr"))
    assert f"{before.stat().st_size:,} -> {after.stat().st_size:,} bytes" in out
    assert read_plan(after).levels[0].sparsity >= 0.4


def test_a_folder_that_cannot_be_made_is_a_sentence(small, tmp_path, capsys):
    (tmp_path / "file").write_text("")
    assert main(["demo", "--out", str(tmp_path / "file" / "demo")]) == 2
    assert capsys.readouterr().err.startswith("skrr: ")


def test_a_pruned_file_that_computes_something_else_is_an_error(small, tmp_path, capsys, monkeypatch):
    """The check really looks: with the dense file opened in its place, it fails."""
    monkeypatch.setattr(demo, "open_encoder", lambda path: real(tmp_path / "demo-encoder.safetensors"))
    assert main(["demo", "--out", str(tmp_path)]) == 2
    out, err = capsys.readouterr()
    assert "gives OTHER outputs" in out
    assert "The pruned file and its plan disagree" in err
