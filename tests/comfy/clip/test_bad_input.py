"""Bad input through the nodes' own `execute`: one clear sentence each, and the CLIP that came in stays as it was."""

import json

import pytest
import torch

from ..free_clips import small_clip
from ..tiny_models import flux_clip, pixart_clip, pixart_model, sd3_model


@pytest.fixture(scope="module")
def clip():
    return pixart_clip()


@pytest.fixture
def nodes(pack):
    return pack("nodes").NODE_CLASS_MAPPINGS


@pytest.fixture(autouse=True)
def the_clip_stays_as_it_was(clip):
    """Same modules, same bytes, same output after every test."""
    tree = clip.cond_stage_model
    before = encode(clip), {key: value.clone() for key, value in tree.state_dict().items()}
    modules = [id(module) for module in tree.modules()]
    yield
    assert [id(module) for module in tree.modules()] == modules
    after = tree.state_dict()
    assert after.keys() == before[1].keys()
    assert all(torch.equal(after[key], value) for key, value in before[1].items())
    assert torch.equal(encode(clip), before[0])


def encode(clip):
    return clip.encode_from_tokens(clip.tokenize("a red fox")).clone()


def plan_for(pack, clip, skip=(3, 5), reuse=None, **changes):
    """A plan of one level as a JSON object, its architecture fields changed at will."""
    plan, dumps = pack("skrr_engine.plans.plan"), pack("skrr_engine.plans.plan_json").dumps
    shape = pack("nodes.comfy_host.clip.trees").choose_encoder(clip).architecture
    shape = type(shape)(**{**shape.to_json(), **changes})
    info = plan.EncoderInfo(shape)
    level = plan.make_level({"t5xxl": info}, {"t5xxl": plan.make_cut(skip, reuse or {})})
    return json.loads(dumps(plan.Plan("tampered", {"t5xxl": info}, (level,))))


def load(nodes, data):
    text = data if isinstance(data, str) else json.dumps(data)
    return nodes["SkrrLoadPlan"].execute("auto", text)[0]


def refused(pack, call, words):
    with pytest.raises(pack("skrr_engine.errors").SkrrError, match=words) as caught:
        call()
    sentence = str(caught.value)
    assert "\n" not in sentence and len(sentence) < 600 and sentence.rstrip().endswith((".", ")", "%"))


@pytest.mark.parametrize(
    "changes, words",
    [
        ({"position_bias": "every"}, "position bias every -> first"),
        ({"layers": 24}, "layers 24 -> 6"),
        ({"width": 128}, "width 128 -> 64"),
        ({"vocabulary": 256384}, "vocabulary 256384 -> 32128"),
        ({"gated": False}, "gated False -> True"),
        ({"activation": "relu"}, "activation relu -> gelu_tanh"),
    ],
)
def test_a_plan_for_another_architecture(pack, nodes, clip, changes, words):
    """umT5's plan on T5 too: depth and width agree there, the position bias does not."""
    plan = load(nodes, plan_for(pack, clip, **changes))
    refused(pack, lambda: nodes["SkrrApply"].execute(clip, plan, 0.001), f"is for another encoder.*{words}")


def test_a_plan_for_an_encoder_that_is_not_there(pack, nodes, clip):
    plan = pack("skrr_engine.plans.presets").load_preset("flux1-dev")
    refused(pack, lambda: nodes["SkrrApply"].execute(clip, plan, 0.4), "is for another encoder")
    data = plan_for(pack, clip)
    data["encoders"]["clip_g"] = data["encoders"].pop("t5xxl")
    data["levels"][0]["encoders"]["clip_g"] = data["levels"][0]["encoders"].pop("t5xxl")
    refused(pack, lambda: nodes["SkrrApply"].execute(clip, load(nodes, data), 0.001), "has no encoder 'clip_g'")


@pytest.mark.parametrize(
    "skip, reuse, words",
    [
        ([3, 5], {"3": 5}, "5 is itself skipped"),
        ([3, 12], {}, "Skips sub-block 12, but the encoder has sub-blocks 0 to 11"),
        ([3, -1], {}, "Skips sub-block -1"),
        ([3, 5], {"3": 13}, "Re-uses sub-block 13"),
        ([3, 5], {"3": 4}, r"must be of the same kind"),
    ],
)
def test_a_plan_that_makes_no_sense(pack, nodes, clip, skip, reuse, words):
    data = plan_for(pack, clip)
    data["levels"][0]["encoders"]["t5xxl"] = {"skip": skip, "reuse": reuse}
    refused(pack, lambda: load(nodes, data), words)


def test_damaged_and_future_plans(pack, nodes, clip):
    whole = json.dumps(plan_for(pack, clip))
    refused(pack, lambda: load(nodes, whole[: len(whole) // 2]), "breaks off or is wrong at line 1")
    refused(pack, lambda: load(nodes, {**json.loads(whole), "requires": ["gains"]}), "features.*gains. Update the pack")
    refused(pack, lambda: load(nodes, {**json.loads(whole), "version": 2}), "version 2.*Update the pack")


def test_prompts_and_targets(pack, nodes, clip):
    calibrate = nodes["SkrrCalibrate"].execute
    refused(pack, lambda: calibrate(clip, "text", " \n", 8), "the text is empty")
    refused(pack, lambda: calibrate(clip, "no such.txt", "", 8), "There is no 'no such.txt'")
    plan = load(nodes, plan_for(pack, clip))
    refused(pack, lambda: nodes["SkrrApply"].execute(clip, plan, 0.9), "its largest level is")
    calibration = calibrate(clip, "text", "a fox", 8)[0]
    wishes = {"encoder": "largest", "beam": 1, "null_weight": 1.0, "reuse": False, "name": "x", "pinned": ""}

    def search(model=None, **target):
        return nodes["SkrrSearch"].execute(
            clip=clip, model=model or pixart_model(), calibration=calibration, **wishes, **target
        )

    refused(pack, lambda: search(sparsity=1.0, saved_gb=0.0), "the rest is embedding and final norm")
    refused(pack, lambda: search(sparsity=0.0, saved_gb=500.0), "all sub-blocks of this encoder together take")
    refused(pack, lambda: search(sparsity=0.01, saved_gb=0.0, model=sd3_model()), "do not belong together")


def test_searching_a_clip_that_was_cut_already(pack, nodes, clip):
    small = nodes["SkrrApply"].execute(clip, load(nodes, plan_for(pack, clip)), 0.001)[0]
    calibration = nodes["SkrrCalibrate"].execute(small, "text", "a fox", 8)[0]
    wishes = {"encoder": "largest", "beam": 1, "sparsity": 0.01, "saved_gb": 0.0, "null_weight": 1.0, "reuse": False}
    wired = {"clip": small, "model": pixart_model(), "calibration": calibration, "name": "x", "pinned": ""}
    search = nodes["SkrrSearch"].execute
    refused(pack, lambda: search(**wired, **wishes), "Search on the CLIP before Skrr Apply")


def test_auto_has_no_preset_for_this(pack, nodes):
    from ..tiny_models import sd1_clip

    refused(pack, lambda: nodes["SkrrLoadPlan"].execute("auto", "", sd1_clip()), "no published plan for this kind")
    refused(pack, lambda: nodes["SkrrLoadPlan"].execute("auto", ""), "none is connected")
    assert nodes["SkrrLoadPlan"].execute("auto", "", flux_clip())[0].name == "flux1-dev"


def test_an_encoder_that_the_pack_does_not_know(pack, monkeypatch):
    """An encoder of another kind is refused with a sentence naming what was found."""
    strange = small_clip("SD 1", monkeypatch)
    strange.patcher.model.clip_l.transformer = torch.nn.Linear(2, 2)
    choose = pack("nodes.comfy_host.clip.trees").choose_encoder
    refused(pack, lambda: choose(strange), r"cuts T5, CLIP and language .*; this CLIP holds clip_l \(a Linear, which")
    refused(pack, lambda: choose(strange, "clip_l"), "cannot cut clip_l")


def test_the_cache_keeps_its_size(pack, tmp_path, monkeypatch):
    """The searches longest untouched go first."""
    import os

    monkeypatch.setattr("folder_paths.get_user_directory", lambda: str(tmp_path))
    folders = pack("nodes.comfy_host.files.folders")
    for age in range(5):
        path = folders.cache_folder() / f"{age}.json"
        path.write_bytes(b"x" * 100)
        os.utime(path, (1e9 - age, 1e9 - age))
    folders.trim_cache(limit=250)
    assert sorted(path.name for path in folders.cache_folder().iterdir()) == ["0.json", "1.json"]


def test_other_weights_and_another_denoiser_are_warnings(pack, nodes, clip):
    """The plan is applied, and the report names both."""
    data = plan_for(pack, clip)
    sketch = pack("nodes.comfy_host.clip.trees").choose_encoder(clip).sketch

    def report(**changes):
        data["encoders"]["t5xxl"]["weights_sketch"] = changes.pop("sketch", [])
        return nodes["SkrrApply"].execute(clip, load(nodes, {**data, **changes}), 0.001)[1]

    assert "not verified on these" in report()
    assert "Warning" not in report(sketch=list(sketch), denoiser={"family": "chroma"})
    assert "verified" not in report(sketch=list(sketch))
    assert "Warning: t5xxl has the plan's shape but other weights" in report(sketch=[1.1 * x for x in sketch])
    warned = report(sketch=list(sketch), denoiser={"family": "flux"})
    assert "Warning: plan 'tampered' was found for flux; this CLIP is of type pixart." in warned
