"""Skrr Search with corrections: the fit on ComfyUI's encoders, its side file, and the way to Skrr Apply."""

import itertools

import pytest
import torch

from ..corrected import stack_of, wanted_with
from ..formats import FORMATS, make_clip
from ..steps import TEXT, encode, make_lora, plan_for, with_lora
from ..tiny_models import pixart_clip, pixart_model, sd1_clip

WHO = "fox owl cat boat lamp tree king crow".split()
WHERE = ("beside two blue lanterns", "on a hill in the rain", "under an old bridge", "seen from the far shore",
         "in a field of wheat", "behind a wooden door")  # fmt: skip
PROMPTS = tuple(f"a {what} reading a map {where}" for what, where in itertools.product(WHO, WHERE))


@pytest.fixture
def folders(tmp_path, monkeypatch):
    """The folder of plans, empty, and that of searches."""
    monkeypatch.setattr("folder_paths.get_user_directory", lambda: str(tmp_path))
    monkeypatch.setattr("folder_paths.models_dir", str(tmp_path / "models"))
    return tmp_path / "models" / "skrr"


def make():
    return pixart_clip(layers=2)


@pytest.fixture
def search(pack, folders, monkeypatch):
    """search(clip, **more) -> (plan, report) of Skrr Search with corrections, on a plan that skips sub-block 1. One
    ridge and a low rank: fewer passes."""
    sites, fitting = pack("skrr_engine.corrections.sites"), pack("nodes.comfy_host.search.correcting")
    monkeypatch.setattr(fitting, "KINDS", {"bridge, all": sites.Settings("all", "bridge", rank=4, ridges=(0.1,))})
    model, start = pixart_model(), plan_for(pack, make(), skip=(1,))

    def run(clip, prompts=PROMPTS, **more):
        calibration = pack("nodes.comfy_host.search.calibrating").tokenize(clip, prompts)
        inputs = dict(
            encoder="largest", beam=1, sparsity=0.001, plan=start,
            saved_gb=0.0, null_weight=1.0, reuse=False, name="fox", pinned="",
            clip=clip, model=model, calibration=calibration, corrections=True,
        )  # fmt: skip
        return pack("nodes.search").SkrrSearch.execute(**{**inputs, **more}).args

    return run


@pytest.mark.parametrize("name", FORMATS)
def test_output_matrices_are_what_the_layers_compute_with(pack, tmp_path, name):
    """In every format, in float32."""
    clip = make_clip(name, tmp_path)[0]
    stack = stack_of(pack, clip)
    stack.prepare()
    with torch.inference_mode():
        for index in (2, 3):
            matrix, layer = stack.output_matrix(index), stack.subblocks[index].output
            assert matrix.dtype == torch.float32 and tuple(matrix.shape) == stack.output_shape(index)
            torch.testing.assert_close(layer(torch.eye(matrix.shape[1])), matrix.T, rtol=1e-6, atol=1e-6)


def test_output_matrices_of_a_clip_text_model(pack):
    stack = stack_of(pack, sd1_clip(), "clip_l")
    stack.prepare()
    with torch.inference_mode():
        for index in (2, 3):
            matrix, layer = stack.output_matrix(index), stack.subblocks[index].output
            inputs = torch.eye(matrix.shape[1])
            torch.testing.assert_close(layer(inputs) - layer(0 * inputs), matrix.T, rtol=1e-4, atol=1e-4)


def test_from_the_search_to_the_corrected_clip(pack, search, folders):
    """The plan names its side file, which Skrr Apply finds; what it gives is what the engine computes."""
    clip = make()
    plan, report = search(clip)
    (level,) = plan.levels
    (side,) = (path.name for path in folders.iterdir())
    assert side == f"fox-{level.corrections.file[:12]}.safetensors"
    assert "Fit of the corrections: " in report and f"Side file: {side} in models/skrr." in report
    assert level.discrepancy["value"] < plan.search["corrections_discrepancy_before"]
    plans = pack("nodes.plans")
    text = plans.SkrrSavePlan.execute(plan, "fox", False).args[0]
    again = plans.SkrrLoadPlan.execute("fox.json", "").args[0]
    assert again == plan == plans.SkrrLoadPlan.execute("auto", text).args[0]
    small, said = pack("nodes.apply").SkrrApply.execute(clip, again, 0.001).args
    one = pack("nodes.comfy_host.files.side_files").corrections_for(level)["t5xxl"]
    assert one.matrices and one.added
    wanted, found = wanted_with(pack, make(), one)["sequence"], encode(small, TEXT)
    assert (found - wanted).norm() < 1e-3 * wanted.norm()
    dense, plain = encode(make()), encode(_plain(pack, plan))
    assert (found - dense).norm() < 0.9 * (plain - dense).norm()
    assert "t5xxl: corrected, with what was fitted on these very weights." in said
    assert said.endswith("which no line of text can carry. Share its files instead.")


def _plain(pack, plan):
    """The same cut without corrections."""
    plans, level = pack("skrr_engine.plans.plan"), plan.levels[0]
    bare = plan.with_levels([plans.make_level(plan.encoders, level.cuts)])
    return pack("nodes.comfy_host.clip.patching").apply_level(make(), bare, bare.levels[0]).clip


def test_cancelled_in_the_fit_and_asked_again(pack, search, folders, monkeypatch):
    """What was fitted is kept, and that of no other fit; then the same plan as without a cancel, and after that no fit
    at all, and nothing kept."""
    fitting, kept = pack("nodes.comfy_host.search.correcting"), pack("nodes.comfy_host.files.folders").cache_folder()
    (kept / "fit-of another").mkdir(parents=True)
    whole, _ = search(make())
    assert [path.name for path in kept.iterdir() if path.is_dir()] == []
    for path in [*folders.iterdir(), *kept.glob("corrected-*")]:
        path.unlink()
    correct, calls = fitting.correct_level, []

    class Cancel(Exception):
        """As ComfyUI's interrupt, which has another class on every release."""

    def cancelled(plan, level, slot, fit, *rest):
        steps = []

        def report(event):
            steps.append(type(event).__name__ == "Step")
            if sum(steps) == 3:
                raise Cancel

        fit.report = report
        return correct(plan, level, slot, fit, *rest)

    def counted(*args):
        calls.append(args)
        return correct(*args)

    monkeypatch.setattr(fitting, "correct_level", cancelled)
    with pytest.raises(Cancel):
        search(make())
    assert not folders.exists() or not [path for path in folders.iterdir() if path.suffix == ".safetensors"]
    done = {int(path.stem) for path in kept.glob("fit-*/bridge-all/*.safetensors")}
    monkeypatch.setattr(fitting, "correct_level", counted)
    solver, solved = pack("skrr_engine.corrections.fit")._Fit, []
    usual = solver._fitted
    monkeypatch.setattr(solver, "_fitted", lambda fit, at, kind: solved.append(at) or usual(fit, at, kind))
    first, _ = search(make())
    assert done and solved and not done & {*solved}
    assert first.levels == whole.levels and [path.name for path in kept.iterdir() if path.is_dir()] == []
    again, _ = search(make(), name="other")
    assert len(calls) == 1 and again.levels == first.levels and again.name == "other"
    for path in folders.iterdir():
        path.unlink()
    assert search(make())[0].levels == first.levels and len(calls) == 2


def test_a_plan_that_cannot_go_without_never_comes_out_plain(pack, search, monkeypatch):
    plan, _ = search(make())
    sites, fitting = pack("skrr_engine.corrections.sites"), pack("nodes.comfy_host.search.correcting")
    useless = sites.Settings("none", "bias", ridges=(1e9,))
    monkeypatch.setattr(fitting, "KINDS", {"bridge, all": useless})
    with pytest.raises(pack("skrr_engine.errors").SkrrError, match=r"cannot be applied without\. Give Skrr Calibrate"):
        search(make(), plan=plan)
    assert "the plan is plain" in search(make())[1]


def test_what_no_corrections_can_come_of_is_refused_before_the_search(pack, search, monkeypatch):
    error = pack("skrr_engine.errors").SkrrError
    monkeypatch.setattr(pack("nodes.comfy_host.search.searching"), "find_projection", None)  # never got to
    with pytest.raises(error, match=r"need 40 different calibration prompts or more .* these are 39"):
        search(make(), PROMPTS[:39] + PROMPTS[:5])
    styled = with_lora(make(), make_lora(make(), range(4)))
    with pytest.raises(error, match=r"carries a LoRA or merge, .* Put it behind Skrr Apply"):
        search(styled)
    with pytest.raises(error, match="no plain file name"):
        search(make(), name="n" * 90)


def test_side_files_that_will_not_do(pack, search, folders):
    """Missing, another one, damaged, and a plan that a search would leave plain: one sentence each."""
    error, apply = pack("skrr_engine.errors").SkrrError, pack("nodes.apply").SkrrApply.execute
    clip = make()
    plan, _ = search(clip)
    (side,) = folders.iterdir()
    whole = side.read_bytes()
    with pytest.raises(error, match=r"other weights than"):
        apply(pixart_clip(layers=2, seed=4), plan, 0.001)
    with pytest.raises(error, match=r"needs its corrections, which a search would leave behind"):
        search(clip, plan=plan, corrections=False)
    side.write_bytes(whole[:-1])
    with pytest.raises(error, match=side.name):
        apply(clip, plan, 0.001)
    side.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    with pytest.raises(error, match="is not the side file that the plan names"):
        apply(clip, plan, 0.001)
    side.rename(side.with_name("elsewhere.safetensors"))
    with pytest.raises(error, match=r"needs its corrections, and their side file .* is not in models/skrr"):
        apply(clip, plan, 0.001)
