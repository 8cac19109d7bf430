"""`search --corrections` and `--mode corrected` from end to end, on tiny models; and their sentences."""

import itertools

import pytest
import torch

from skrr_engine.corrections.side_file import read_side_file, side_file_for
from skrr_engine.errors import PlanError
from skrr_engine.opening.open_encoder import open_encoder
from skrr_engine.plans.plan_json import CORRECTIONS, loads

from .test_cli import run, work  # noqa: F401


@pytest.fixture
def here(work):  # noqa: F811
    """With prompts enough for a fit: all three-letter texts of a few letters."""
    (work / "prompts.txt").write_text("\n".join(map(" ".join, itertools.product("abcdefg", "bd", "aceg"))))
    return work


SEARCH = [
    "search", "--encoder", "t5.safetensors", "--tokenizer", "tokenizer.json", "--projection", "flux.safetensors",
    "--prompts", "prompts.txt", "--beam", "1", "--limit", "8", "--no-reuse", "--sparsity", "0.2",
]  # fmt: skip


def corrected(folder, name):
    """(plan, its side file), that the side file is the only one and named by its digest."""
    plan = loads((folder / f"{name}.json").read_text(), {CORRECTIONS})
    (level,) = plan.levels
    (side,) = folder.glob(f"{name}-*.safetensors")
    assert side.name == f"{name}-{level.corrections.file[:12]}.safetensors" and not [*folder.glob(".*")]
    return plan, side


@pytest.mark.parametrize("mode", ["fast", "paper", "corrected"])
def test_from_the_search_to_the_side_file(here, capsys, mode):
    more = [] if mode == "corrected" else ["--corrections"]
    code, out, err = run(capsys, *SEARCH, "--mode", mode, *more, "--out", "fox.json")
    assert code == 0, err
    plan, side = corrected(here, "fox")
    level = plan.levels[0]
    assert level.sparsity >= 0.2 and plan.name == "fox"
    assert plan.search["mode"] == {"paper": "exact"}.get(mode, mode) and plan.calibration["prompts"] == 8
    assert (plan.search["corrections_fit_prompts"], plan.search["corrections_selection_prompts"]) == (45, 11)
    assert level.discrepancy["value"] < plan.search["corrections_discrepancy_before"]
    assert "Fit of the corrections: " in err and f"Side file: {side.name}; put it and the plan into" in out
    assert "Written: fox.json." in out and "apply" not in out
    stack = open_encoder("t5.safetensors").stack
    one = side_file_for(side, level)["t5xxl"]
    assert one.applied(stack).assignment != tuple(range(8))
    assert {matrix.dtype for matrix in one.matrices.values()} <= {torch.float16}  # as the file
    with pytest.raises(PlanError, match="corrections"):
        loads((here / "fox.json").read_text())


def test_stopped_and_asked_again(here, capsys, monkeypatch):
    """With a checkpoint a fit that was stopped goes on to the same plan, and leaves nothing behind."""
    from skrr_engine.command import cli_search
    from skrr_engine.events import Step

    whole = [*SEARCH, "--mode", "corrected", "--out"]
    assert run(capsys, *whole, "whole.json")[0] == 0
    usual, seen = cli_search.Bar.__call__, []

    def stop(bar, event):
        usual(bar, event)
        seen.append(bar.bar is not None and bar.bar.desc == "fit" and isinstance(event, Step))
        if sum(seen) == 7:
            raise KeyboardInterrupt

    monkeypatch.setattr(cli_search.Bar, "__call__", stop)
    code, _, err = run(capsys, *whole, "fox.json", "--checkpoint", "c.json")
    assert code == 130 and "Stopped" in err
    assert not (here / "fox.json").exists() and (here / "c.json").exists() and [*here.glob("c.json.fit/*/*")]
    monkeypatch.undo()
    monkeypatch.chdir(here)
    assert run(capsys, *whole, "fox.json", "--checkpoint", "c.json")[0] == 0
    plan, side = corrected(here, "fox")
    wanted, other = corrected(here, "whole")
    assert plan.levels[0].cuts == wanted.levels[0].cuts
    found, expected = (read_side_file(path).corrections["t5xxl"].tensors for path in (side, other))
    assert found.keys() == expected.keys() and all(torch.equal(found[key], expected[key]) for key in found)
    assert not [*here.glob("c.json.fit/*/*")]


def test_a_plan_is_corrected_by_refining_it(here, capsys):
    assert run(capsys, *SEARCH, "--out", "plain.json")[0] == 0
    plain = loads((here / "plain.json").read_text())
    assert run(capsys, *SEARCH, "--refine", "plain.json", "--corrections", "--out", "fox.json")[0] == 0
    plan, _ = corrected(here, "fox")
    assert plan.levels[0].cuts["t5xxl"].skip == plain.level_for(0.2).cuts["t5xxl"].skip


def test_sentences(here, capsys):
    def error(*more):
        code, _, err = run(capsys, *SEARCH, *more, "--out", "fox.json")
        assert code == 2 and not (here / "fox.json").exists()
        return err

    assert "leave --minutes out" in error("--mode", "corrected", "--minutes", 1)
    assert "leave --refine out" in error("--mode", "corrected", "--refine", "sd3")
    (here / "prompts.txt").write_text("\n".join("abcdefg"))
    assert "Corrections need 40 different prompts or more (better several hundred), and these are 7" in error(
        "--corrections"
    )
