"""The command line from end to end, in this process, on tiny models; and its sentences."""

import subprocess
import sys

import pytest
import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer as Fast
from tokenizers import models, pre_tokenizers

from skrr_engine import progress
from skrr_engine.command.cli import main
from skrr_engine.events import LevelDone, Phase, Step
from skrr_engine.files.files import read_plan
from skrr_engine.opening.open_encoder import open_encoder
from skrr_engine.plans.plan_json import loads
from skrr_engine.plans.presets import load_preset


@pytest.fixture
def work(tiny, tmp_path, monkeypatch):
    """The current folder with encoder, tokenizer, denoiser and prompts."""
    monkeypatch.chdir(tmp_path)
    tiny.save(tiny.t5(layers=4, seed=3), tmp_path / "t5.safetensors", torch.float16)
    tiny.save(tiny.clip(), tmp_path / "clip.safetensors")
    words = {word: n for n, word in enumerate(["<pad>", "</s>", "<unk>", *"abcdefg"])}
    fast = Fast(models.WordLevel(words, unk_token="<unk>"))
    fast.pre_tokenizer = pre_tokenizers.Whitespace()
    fast.save("tokenizer.json")
    save_file({"txt_in.weight": torch.randn(5, 16, generator=torch.Generator().manual_seed(1))}, "flux.safetensors")
    (tmp_path / "prompts.txt").write_text("a b c\nd e f g a\n\na a a a\n")
    return tmp_path


SEARCH = [
    "search", "--encoder", "t5.safetensors", "--tokenizer", "tokenizer.json", "--projection", "flux.safetensors",
    "--prompts", "prompts.txt", "--beam", "2",
]  # fmt: skip


def run(capsys, *args):
    """(exit code, stdout, stderr)."""
    code = main([str(arg) for arg in args])
    out, err = capsys.readouterr()
    return code, out, err


def test_search_apply_inspect(work, capsys):
    code, out, err = run(capsys, *SEARCH, "--sparsity", 0.3, "--out", "plan.json")
    assert code == 0
    plan = loads((work / "plan.json").read_text())
    assert plan.name == "plan"
    assert plan.levels[-1].sparsity >= 0.3
    assert dict(plan.denoiser) == {"projection": "FLUX: txt_in.weight"}
    assert dict(plan.search) == {"mode": "fast", "beam": 2, "null_weight": 1.0, "reuse": True}
    assert (plan.calibration["prompts"], plan.calibration["source"]) == (3, "prompts.txt")
    assert "skipped" in out and "Written: plan.json" in out
    assert "skip: 100%" in err and "re-use: 100%" in err

    apply = ["apply", "--encoder", "t5.safetensors", "--plan", "plan.json", "--sparsity", 0.2, "--out"]
    code, out, _ = run(capsys, *apply, "s.safetensors")
    assert code == 0
    level = plan.level_for(0.2)
    cut = level.cuts["t5xxl"]
    assert f"{len(cut.skip)} of 8 sub-blocks skipped" in out
    assert f"20.00 % asked, level of {100 * level.sparsity:.2f} % taken" in out
    before, after = ((work / f"{name}.safetensors").stat().st_size for name in ("t5", "s"))
    assert f"{after:,} bytes, before {before:,}" in out
    assert read_plan("s.safetensors").levels == (level,)
    assert open_encoder("s.safetensors").assignment.count(None) == len(cut.skip) - len(cut.reuse)

    code, out, _ = run(capsys, "inspect", "s.safetensors")
    assert code == 0
    assert f"{100 * level.sparsity:.2f} %" in out and f"{level.discrepancy['value']:.4g}" in out


def test_the_same_search_from_a_folder_and_from_the_file(work, tiny, capsys):
    model = tiny.t5(layers=4, seed=3)
    model.config.save_pretrained(work / "folder")
    tiny.save(model, work / "folder" / "model.safetensors", torch.float16)
    (work / "tokenizer.json").rename(work / "folder" / "tokenizer.json")
    common = ["--prompts", "prompts.txt", "--sparsity", "0.2", "--no-reuse", "--out"]
    assert main(["search", "--encoder", "folder", *common, "one.json"]) == 0
    file = ["search", "--encoder", "t5.safetensors", "--tokenizer", "folder"]
    assert main([*file, *common, "two.json"]) == 0
    one, two = (loads((work / name).read_text()) for name in ("one.json", "two.json"))
    assert one.levels == two.levels
    assert "No --projection" in capsys.readouterr().err


def test_clip_by_its_own_tokenizer(work, capsys):
    letters = [*"abc", *(f"{c}</w>" for c in "abc"), "<|startoftext|>", "<|endoftext|>"]
    (work / "vocab.json").write_text(str({piece: n for n, piece in enumerate(letters)}).replace("'", '"'))
    (work / "merges.txt").write_text("#version: 0.2\n")
    (work / "tokenizer.json").unlink()
    args = ["search", "--encoder", "clip.safetensors", "--tokenizer", ".", "--heads", 2, "--limit", 2]
    code, _, err = run(capsys, *args, "--saved-gb", 3e-6, "--out", "c.json")
    assert code == 0, err
    plan = loads((work / "c.json").read_text())
    assert list(plan.encoders) == ["clip_l"]
    assert 4 * plan.levels[-1].removed_parameters >= 3000


def test_saved_gb_counts_the_bytes_of_the_file(work, capsys):
    """float16 in the file, float32 in the search."""
    assert main([*SEARCH, "--saved-gb", "4e-6", "--no-reuse", "--out", "p.json"]) == 0
    removed = [level.removed_parameters for level in loads((work / "p.json").read_text()).levels]
    assert 2 * removed[-1] >= 4000 > 2 * removed[-2]
    code, _, err = run(capsys, *SEARCH, "--saved-gb", 1, "--out", "q.json")
    assert code == 2
    assert "1.000 GB cannot be saved: all sub-blocks of this encoder together take 0.000 GB" in err


def test_refining_a_plan(work, capsys):
    assert main([*SEARCH, "--sparsity", "0.3", "--no-reuse", "--out", "plain.json"]) == 0
    assert main([*SEARCH, "--sparsity", "0.3", "--refine", "plain.json", "--out", "refined.json"]) == 0
    plain, refined = (loads((work / name).read_text()) for name in ("plain.json", "refined.json"))
    assert refined.name == "refined"
    assert refined.level_for(0.3).cuts["t5xxl"].skip == plain.level_for(0.3).cuts["t5xxl"].skip
    capsys.readouterr()
    code, _, err = run(capsys, *SEARCH, "--refine", "sd3", "--out", "other.json")
    assert code == 2
    assert "The plan to refine is for another encoder: layers 24 -> 4" in err


class StopAfter(progress.Bar):
    """Presses Ctrl-C when level 2 is done."""

    def __call__(self, event):
        super().__call__(event)
        if isinstance(event, LevelDone) and event.skipped == 2:
            raise KeyboardInterrupt


def test_ctrl_c_keeps_what_was_found_and_the_search_goes_on(work, capsys, monkeypatch):
    args = [*SEARCH, "--sparsity", "0.4", "--checkpoint", "search.ckpt", "--out", "plan.json"]
    with monkeypatch.context() as patch:
        patch.setattr("skrr_engine.command.cli_search.Bar", StopAfter)
        code, out, err = run(capsys, *args)
    assert code == 130
    assert "Stopped: 2 levels, up to " in err and "are kept in plan.partial.json." in err
    assert "Traceback" not in err and out == ""
    assert not (work / "plan.json").exists()
    partial = loads((work / "plan.partial.json").read_text())
    assert partial.name == "plan (partial)"
    assert main(args) == 0
    assert main([*args[:-4], "--out", "whole.json"]) == 0
    resumed, whole = (loads((work / name).read_text()) for name in ("plan.json", "whole.json"))
    assert resumed.levels == whole.levels
    found = {level.cuts["t5xxl"].skip for level in partial.levels}
    assert found == {level.cuts["t5xxl"].skip for level in whole.levels if len(level.cuts["t5xxl"].skip) <= 2}


def test_ctrl_c_before_the_first_level_says_so(work, capsys, monkeypatch):
    def stop(self, event):
        raise KeyboardInterrupt

    monkeypatch.setattr("skrr_engine.command.cli_search.Bar.__call__", stop)
    code, _, err = run(capsys, *SEARCH, "--out", "plan.json")
    assert code == 130
    assert err.strip() == "Stopped by Ctrl-C."
    assert list(work.glob("plan*")) == []


APPLY = ["apply", "--encoder", "t5.safetensors", "--plan", "sd3", "--sparsity", "0.4", "--out", "out.safetensors"]
ERRORS = {
    "no encoder": ([*SEARCH, "--encoder", "no.safetensors"], "no.safetensors cannot be read: No such file"),
    "no folder": ([*SEARCH, "--encoder", "no"], "no cannot be read: No such file or directory. Check the path"),
    "no prompts": (
        [*SEARCH, "--prompts", "no.txt"],
        "no.txt cannot be read: No such file or directory. Check the path and who may read it.",
    ),
    "empty prompts": ([*SEARCH, "--prompts", "empty.txt"], "There are no calibration prompts"),
    "no tokenizer": (["search", "--encoder", "t5.safetensors"], "There is no T5 tokenizer at t5.safetensors"),
    "other projection": ([*SEARCH, "--projection", "t5.safetensors"], "is not a denoiser that this pack knows"),
    "wrong weight": ([*SEARCH, "--weight", "x"], "flux.safetensors has no tensor 'x'"),
    "width": ([*SEARCH, "--projection", "wide.safetensors"], "The encoder is 16 wide, but txt_in.weight in wide"),
    "weight of nothing": (
        ["search", "--encoder", "t5.safetensors", "--tokenizer", ".", "--weight", "x"], "say its file with --projection"
    ),
    "sparsity": ([*SEARCH, "--sparsity", "40"], "A sparsity of 4000.00 % cannot be reached"),
    "beam": ([*SEARCH, "--beam", "0"], "The beam size is 0; expected 1 or more"),
    "null weight": ([*SEARCH, "--null-weight", "-1"], "The null weight is -1.0"),
    "clip heads": (["search", "--encoder", "clip.safetensors"], "Give the number of heads (--heads)"),
    "refine nothing": ([*SEARCH, "--refine", "nothing"], "'nothing' is neither a file nor a preset"),
    "apply to another": (APPLY, "Plan 'sd3' is for a T5 text encoder, 24 layers"),
    "apply too much": ([*APPLY, "--sparsity", "0.9"], "A sparsity of 90.00 % cannot be reached with plan 'sd3'"),
    "apply to nothing": ([*APPLY, "--encoder", "no"], "no cannot be read"),
    "inspect nothing": (["inspect", "nothing"], "'nothing' is neither a file nor a preset; the presets are flux1-dev"),
    "inspect a dense file": (["inspect", "t5.safetensors"], "t5.safetensors has no plan inside"),
    "inspect text": (["inspect", "prompts.txt"], "This is not a whole plan"),
}  # fmt: skip


@pytest.mark.parametrize("args, sentence", ERRORS.values(), ids=ERRORS.keys())
def test_errors_are_one_sentence(work, capsys, args, sentence):
    (work / "empty.txt").write_text("\n")
    save_file({"txt_in.weight": torch.zeros(5, 17)}, "wide.safetensors")
    before = sorted(p.name for p in work.iterdir())
    code, out, err = run(capsys, *args, *(["--out", "plan.json"] if args[0] == "search" else []))
    assert code == 2
    assert out == ""
    assert err.startswith("skrr: ") and err.count("\n") == 1
    assert sentence in err
    assert sorted(p.name for p in work.iterdir()) == before


@pytest.mark.parametrize("args", [[*SEARCH, "--out", "old"], [*APPLY[:-1], "old"]])
def test_nothing_is_overwritten_unless_told(work, capsys, args):
    (work / "old").write_text("precious")
    code, _, err = run(capsys, *args)
    assert code == 2
    assert (work / "old").read_text() == "precious"
    if args[0] == "search":
        assert "old exists already. Choose another name, or say --overwrite" in err
        assert main([*args, "--sparsity", "0.1", "--overwrite"]) == 0
        assert loads((work / "old").read_text()).name == "old"


def test_a_pruned_file_is_not_searched(work, capsys):
    assert main([*SEARCH, "--sparsity", "0.2", "--out", "p.json"]) == 0
    assert main(["apply", "--encoder", "t5.safetensors", "--plan", "p.json", "--sparsity", "0.2", "--out", "s"]) == 0
    capsys.readouterr()
    code, _, err = run(capsys, *SEARCH, "--encoder", "s", "--out", "q.json")
    assert code == 2
    assert "s is pruned already. Search on the dense encoder" in err


@pytest.mark.parametrize(
    "args, sentence",
    [
        ([], "required: COMMAND"),
        (["search"], "required: --encoder, --out"),
        ([*SEARCH, "--out", "p", "--bias", "b"], "--bias must follow the --weight it belongs to"),
        ([*SEARCH, "--out", "p", "--weight", "a", "--bias", "b", "--bias", "c"], "--bias must follow the --weight"),
        ([*SEARCH, "--out", "p", "--limit", "0"], "0 is not 1 or more"),
    ],
)
def test_wrong_options_show_the_usage(capsys, args, sentence):
    with pytest.raises(SystemExit) as error:
        main(args)
    assert error.value.code == 2
    assert sentence in capsys.readouterr().err


def test_weights_and_biases_pair_up_in_order(work, capsys):
    one, two, bias = torch.ones(4, 16), torch.ones(3, 4), torch.ones(3)
    save_file({"a": one, "b": two, "c": bias}, "x.safetensors")
    args = [*SEARCH, "--projection", "x.safetensors", "--weight", "a", "--weight", "b", "--bias", "c"]
    assert main([*args, "--sparsity", "0.1", "--out", "p.json"]) == 0
    assert loads((work / "p.json").read_text()).denoiser["projection"] == "named layers: a, b"


def test_presets_says_for_what_there_are_none(capsys):
    code, out, _ = run(capsys, "presets")
    assert code == 0
    assert "pixart-sigma: 3 levels, up to 41.92 %\n  24.31, 33.82, 41.92" in out
    assert "There are none for umT5, CLIP or language-model encoders" in out


def test_inspecting_a_preset_shows_the_ladder(capsys):
    code, out, _ = run(capsys, "inspect", "pixart-sigma")
    assert code == 0
    lines = [line.split() for line in out.splitlines()]
    assert ["21", "9", "41.92", "%", "5.531", "2.766", "not", "measured"] in lines
    assert "Re-use at 24.31 %: t5xxl 2 <- 4, 5 <- 7, 11 <- 13, 17 <- 19, 18 <- 16, 23 <- 21" in out
    assert "Note: Skrr (arXiv 2502.08690)" in out


def test_a_plan_cannot_reach_the_terminal(work, capsys):
    plan = load_preset("sd3").with_levels(load_preset("sd3").levels[:1], notes=("\x1b[2Jgone",))
    from skrr_engine.plans.plan_json import dumps

    (work / "evil.json").write_text(dumps(plan))
    code, out, err = run(capsys, "inspect", "evil.json")
    assert code == 2 and out == "" and "\x1b" not in err
    assert "Field notes is" in err and "expected text without control characters" in err


def test_the_bar_survives_a_low_estimate_and_ends_at_100(capsys):
    with progress.Bar() as bar:
        for event in (Step(1.0), LevelDone(1, 0.1, 0.5), Phase("skip", 2), *[Step(1.0)] * 5, LevelDone(1, 0.1, 0.5)):
            bar(event)
        bar(Phase("re-use", 10))
        bar(Step(0.5))
    err = capsys.readouterr().err
    assert "skip: 100%" in err and "5/5 measurements" in err
    assert "re-use: 100%" in err


def test_plans_and_files_do_not_load_pytorch():
    """`presets`, `inspect` and `apply` start at once."""
    code = (
        "import sys; from skrr_engine.command.cli import main; main(['inspect', 'sd3']); "
        "import skrr_engine.command.cli_plans; assert not {'torch', 'transformers', 'numpy'} & sys.modules.keys()"
    )
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
