"""Skrr Apply with nothing but a CLIP: free parts, and above a sparsity of 0 the best plan at hand for that encoder."""

from dataclasses import replace

import pytest

from ..steps import encode, plan_for
from ..tiny_models import flux_clip, pixart_clip


@pytest.fixture
def folder(pack, tmp_path, monkeypatch):
    """keep(plan, name): puts a plan into models/skrr."""
    monkeypatch.setattr("folder_paths.models_dir", str(tmp_path))
    return lambda plan, name: pack("nodes.comfy_host.files.folders").save_plan(plan, name, True)


def made(pack, clip, name, skip=(3, 5), family="pixart", value=None, weights=True, **changes):
    """A plan for `clip`: found on its weights, or on nobody knows which."""
    plan = plan_for(pack, clip, skip)
    sketch = pack("nodes.comfy_host.clip.trees").choose_encoder(clip, "t5xxl").sketch if weights else ()
    encoders = {"t5xxl": replace(plan.encoders["t5xxl"], weights_sketch=sketch)}
    found = {"conditional": value, "null": 0.0, "null_weight": 1.0, "cosine": 0.0, "null_norm": 1.0, "value": value}
    levels = [replace(plan.levels[0], discrepancy=None if value is None else found)]
    denoiser = {"family": family}
    return replace(plan, name=name, encoders=encoders, levels=tuple(levels), denoiser=denoiser, **changes)


def apply(pack, clip, **inputs):
    return pack("nodes.apply").SkrrApply.execute(clip=clip, **inputs).result


def refused(pack, words, call):
    with pytest.raises(pack("skrr_engine.errors").SkrrError, match=words) as caught:
        call()
    assert "\n" not in str(caught.value) and str(caught.value).endswith(".")


def test_at_zero_and_from_older_prompts_nothing_lossy_goes(pack, folder):
    clip = pixart_clip()
    folder(made(pack, clip, "mine"), "mine")
    whole = encode(clip)
    for inputs in ({}, {"source": "auto"}, {"sparsity": 0.4}, {"sparsity": 0.001, "source": "none"}):
        smaller, report = apply(pack, clip, **inputs)
        assert (encode(smaller) == whole).all() and "Plan " not in report


def test_above_zero_the_plan_at_hand_is_taken_and_named(pack, folder):
    clip = pixart_clip()
    folder(made(pack, clip, "mine"), "mine")
    smaller, report = apply(pack, clip, sparsity=0.001, source="auto")
    assert "Plan 'mine'" in report and "2 of 12 sub-blocks skipped (3, 5)" in report
    wired, _ = apply(pack, clip, sparsity=0.001, plan=plan_for(pack, clip, (3, 5)))
    assert (encode(smaller) == encode(wired)).all() and not (encode(smaller) == encode(clip)).all()


def test_of_several_one_of_these_weights_with_the_lowest_discrepancy(pack, folder):
    clip = pixart_clip()
    choose = pack("nodes.comfy_host.files.best_plan").best_plan
    folder(made(pack, clip, "of unknown weights", value=0.01, weights=False), "a")
    assert choose(clip, 0.001).name == "of unknown weights"
    folder(made(pack, clip, "not measured"), "b")
    assert choose(clip, 0.001).name == "not measured"
    folder(made(pack, clip, "worse", value=0.5), "c")
    folder(made(pack, clip, "better", value=0.4), "d")
    assert choose(clip, 0.001).name == "better"
    folder(made(pack, clip, "deeper", skip=(3, 5, 7, 9), value=0.9), "e")
    most = made(pack, clip, "deeper", skip=(3, 5, 7, 9)).levels[0].sparsity
    assert choose(clip, most).name == "deeper"
    refused(pack, "goes to 100.00 %: 'deeper' goes furthest, to", lambda: choose(clip, 1.0))


def test_what_is_for_something_else_is_not_chosen(pack, folder, caplog):
    clip = pixart_clip()
    other = made(pack, clip, "other weights", value=0.1)
    sketch = tuple(2 * norm for norm in other.encoders["t5xxl"].weights_sketch)
    encoders = {"t5xxl": replace(other.encoders["t5xxl"], weights_sketch=sketch)}
    folder(replace(other, encoders=encoders), "weights")
    folder(made(pack, clip, "other model", family="flux"), "family")
    path = folder(made(pack, clip, "broken"), "broken")
    path.write_text("{")
    corrected = made(pack, clip, "corrected", value=0.01)
    note = pack("skrr_engine.plans.plan").SideFileNote("0" * 64, {"t5xxl": "1" * 64})
    level = replace(corrected.levels[0], corrections=note)
    folder(replace(corrected, levels=(level,)), "corrected")
    words = "no plan at hand for this CLIP .*none in models/skrr fits. Set sparsity to 0"
    refused(pack, words, lambda: apply(pack, clip, sparsity=0.001, source="auto"))
    assert "broken.json in models/skrr is left out" in caplog.text
    folder(replace(corrected, name="whole", levels=(level, *made(pack, clip, "", skip=(3,)).levels)), "corrected")
    assert pack("nodes.comfy_host.files.best_plan").best_plan(clip, 0.001).levels[-1].corrections is None


def test_one_chosen_by_name_is_taken_whatever_else_there_is(pack, folder):
    clip = pixart_clip()
    folder(made(pack, clip, "mine"), "mine")
    folder(made(pack, clip, "for flux", skip=(2,), family="flux"), "other")
    _, report = apply(pack, clip, sparsity=0.001, source="other.json")
    assert "Plan 'for flux'" in report and "was found for flux" in report
    refused(pack, "is for another encoder", lambda: apply(pack, clip, sparsity=0.4, source="flux1-dev"))
    refused(pack, "There is no plan 'gone.json'", lambda: apply(pack, clip, sparsity=0.4, source="gone.json"))


def test_a_new_file_makes_the_node_run_again_only_where_it_chooses(pack, folder):
    clip, node = flux_clip(), pack("nodes.apply").SkrrApply
    asked = ({"source": "auto"}, {"source": "mine.json"}, {"source": "none"}, {"source": "sd3"}, {})
    asked += ({"source": "auto", "plan": None},)
    before = [node.fingerprint_inputs(clip=None, sparsity=0.4, **inputs) for inputs in asked]
    folder(made(pack, clip, "mine"), "mine")
    after = [node.fingerprint_inputs(clip=None, sparsity=0.4, **inputs) for inputs in asked]
    assert [a != b for a, b in zip(before, after, strict=True)] == [True, True, False, False, False, False]


def test_the_server_tells_the_page_how_the_plan_was_chosen(pack, folder, monkeypatch):
    state = pack("nodes.comfy_host.page.pages_state")
    monkeypatch.setattr(state, "place", lambda: state.Place("w", "7", "p"))
    monkeypatch.setattr(state, "tell", lambda event, data: None)
    clip = pixart_clip()
    folder(made(pack, clip, "mine"), "mine")
    for inputs, chosen in (({"source": "auto"}, "auto"), ({"source": "mine.json"}, "mine.json")):
        apply(pack, clip, sparsity=0.001, **inputs)
        page = state.NODES.get(("w", "7")).page()
        assert (page["chosen"], page["plan"]["name"]) == (chosen, "mine")
    apply(pack, clip, sparsity=0.001, plan=plan_for(pack, clip, (3, 5)), source="auto")
    assert state.NODES.get(("w", "7")).page()["chosen"] == ""


def test_before_the_run_the_page_knows_a_published_plan_unless_one_was_found_here(pack, folder):
    pages, presets = pack("nodes.comfy_host.page.pages"), pack("nodes.plans").AUTO_PRESETS
    assert pages._best("flux", presets)["name"] == "flux1-dev" and pages._best("wan", presets) == {}
    preset = pack("skrr_engine.plans.presets").load_preset("flux1-dev")
    folder(replace(preset, name="mine"), "mine")
    assert pages._best("flux", presets) == {} and pages._best("sd3", presets)["name"] == "sd3"
