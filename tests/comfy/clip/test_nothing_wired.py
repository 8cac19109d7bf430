"""A link that hands on nothing, as a checkpoint without a text encoder does, or something else: one sentence a node."""

import pytest

from ..tiny_models import flux_clip


@pytest.fixture
def nodes(pack):
    return pack("nodes").NODE_CLASS_MAPPINGS


def refused(pack, call, words):
    with pytest.raises(pack("skrr_engine.errors").SkrrError, match=words) as caught:
        call()
    assert "\n" not in str(caught.value) and str(caught.value).endswith(".")


@pytest.mark.parametrize("given, words", [(None, "handed no CLIP.*CLIP loader"), ("text", "a str instead of a CLIP")])
def test_no_clip(pack, nodes, given, words):
    plan = pack("skrr_engine.plans.presets").load_preset("flux1-dev")
    for sparsity in (0, 0.4):
        refused(pack, lambda s=sparsity: nodes["SkrrApply"].execute(given, plan, s), f"Skrr Apply was.*{words}")
    refused(pack, lambda: nodes["SkrrCalibrate"].execute(given, "built-in", "", 4), f"Skrr Calibrate was.*{words}")
    refused(pack, lambda: nodes["SkrrCalibrate"].execute(given, "built-in", "", 4, object()), words)
    refused(pack, lambda: nodes["SkrrSaveEncoder"].execute(given, "largest", "x", False, False), words)
    clip = flux_clip()
    refused(pack, lambda: nodes["SkrrReport"].execute(given, clip, "a fox", 0), f"dense of Skrr Report was.*{words}")
    refused(pack, lambda: nodes["SkrrReport"].execute(clip, given, "a fox", 0), f"pruned of Skrr Report was.*{words}")


def test_no_clip_where_it_is_optional(pack, nodes):
    """There None may also mean that nothing is connected; the sentence names both."""
    wishes = {"encoder": "largest", "beam": 1, "sparsity": 0.1, "saved_gb": 0.0, "null_weight": 1.0, "reuse": False}
    search = lambda **wired: nodes["SkrrSearch"].execute(**wishes, name="x", pinned="", **wired)  # noqa: E731
    refused(pack, lambda: search(clip=None, calibration=object()), "has no CLIP:.*checkpoint without a text encoder")
    refused(pack, lambda: search(clip=object()), "has no calibration:")
    refused(pack, lambda: search(clip="text", calibration=object()), "a str instead of a CLIP")
    refused(pack, lambda: nodes["SkrrLoadPlan"].execute("auto", "", None), "none to give.*checkpoint without a text")
    refused(pack, lambda: nodes["SkrrLoadPlan"].execute("auto", "", "text"), "a str instead of a CLIP")


@pytest.mark.parametrize("given, words", [(None, "handed nothing instead"), ("text", "handed a str instead")])
def test_no_plan(pack, nodes, given, words):
    words = f"{words} of a plan. Connect Skrr Load Plan"
    for sparsity in (0, 0.4):
        refused(pack, lambda s=sparsity: nodes["SkrrApply"].execute(flux_clip(), given, s), words)
    refused(pack, lambda: nodes["SkrrSavePlan"].execute(given, "my plan", False), words)
    if given is not None:
        load = nodes["SkrrCLIPLoader"].execute
        refused(pack, lambda: load("a.safetensors", "none", "none", "none", "flux", 0.4, "cpu", given), words)
