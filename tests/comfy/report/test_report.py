"""SkrrReport: its figures against the same computed by hand, CLIPs that do not go together, and a real server."""

import pytest
import torch

from ..graphs import saved_picture, tiny_graph
from ..oracle import kept_bytes, t5_prefixes
from ..server import Server, find_comfy_roots
from ..steps import REUSE, SKIP, encode, hook, make_lora, plan_for, prune, with_hooks, with_lora
from ..tiny_models import flux_clip, flux_model, pixart_clip, pixart_model, sd1_clip, sd3_clip, sd3_model

PROMPT = "a red fox reading a map beside two blue lanterns"


@pytest.fixture(scope="session")
def compare(pack):
    return pack("nodes.comfy_host.report.comparing").compare


@pytest.fixture(scope="module")
def flux(pack):
    """(dense, pruned, MODEL), for tests that leave them as they are."""
    dense = flux_clip()
    return dense, prune(pack, dense, SKIP, REUSE).clip, flux_model()


@pytest.fixture(scope="module")
def pixart(pack):
    """(dense, pruned), for tests that leave them as they are."""
    dense = pixart_clip()
    return dense, prune(pack, dense).clip


def change_of(comparison, slot="t5xxl"):
    (encoder,) = (encoder for encoder in comparison.encoders if encoder.slot == slot)
    return encoder.change


def searched(pack, clip, slot, skip, reuse, model, prompt):
    """The discrepancy as a search measures it: the engine's walk over the dense encoder, an assignment in it."""
    trees, calibrating = pack("nodes.comfy_host.clip.trees"), pack("nodes.comfy_host.search.calibrating")
    encoder = trees.choose_encoder(clip, slot)
    pack("nodes.comfy_host.weights.memory").rest(clip.patcher)
    projection, _ = pack("nodes.comfy_host.denoiser.projections").find_projection(model, encoder)
    calibration = calibrating.calibration_for(encoder, calibrating.tokenize(clip, [prompt]))
    objective = pack("skrr_engine.measure.objective").Objective(encoder.adapter.stack(encoder), calibration, projection)
    return objective.measure(pack("skrr_engine.measure.execute").assign(encoder.architecture.sub_blocks, skip, reuse))


CASES = {
    "flux t5": (flux_clip, flux_model, "t5xxl", SKIP, REUSE),
    "flux clip_l": (flux_clip, flux_model, "clip_l", (2, 5), {5: 3}),
    "sd3 clip_l": (sd3_clip, sd3_model, "clip_l", (1, 4), {4: 2}),
    "pixart": (pixart_clip, pixart_model, "t5xxl", SKIP, REUSE),
    "no model": (pixart_clip, None, "t5xxl", (1,), {}),
}


@pytest.mark.parametrize("case", CASES)
def test_discrepancy_is_what_a_search_would_have_found(pack, compare, case):
    """Two ways that share nothing but the projection: the pruned CLIP really run, and the search's own walk."""
    make, make_model, slot, skip, reuse = CASES[case]
    dense, model = make(), make_model and make_model()
    wanted = searched(pack, dense, slot, skip, reuse, model, PROMPT)
    pruned = prune(pack, dense, skip, reuse, slot).clip
    found = change_of(compare(dense, pruned, PROMPT, model, runs=0), slot).discrepancy
    for name in ("conditional", "null", "cosine", "null_norm"):
        assert getattr(found, name) == pytest.approx(getattr(wanted, name), rel=1e-5, abs=1e-9), name
    assert found.conditional > 0


@pytest.mark.parametrize("prompt", [PROMPT, "a (red:1.4) fox and (((lanterns)))"])
def test_relative_figures_by_hand_and_emphasis_counts(flux, compare, prompt):
    """From the conditioning that CLIPTextEncode hands on, through the model's own txt_in."""
    dense, pruned, model = flux
    found = change_of(compare(dense, pruned, prompt, model, runs=0))
    txt_in = model.get_model_object("diffusion_model.txt_in")
    weight, bias = txt_in.weight.float(), txt_in.bias.float()

    def features(clip, text):
        return encode(clip, text) @ weight.T + bias

    a, b, empty = features(dense, prompt), features(pruned, prompt), features(dense, "")
    null = features(pruned, "")
    mse = (a - b).square().mean().item()
    assert found.discrepancy.conditional == pytest.approx(mse, rel=1e-4)
    assert found.relative == pytest.approx((mse / a.square().mean().item()) ** 0.5, rel=1e-4)
    assert found.to_empty == pytest.approx((mse / (a - empty).square().mean().item()) ** 0.5, rel=1e-4)
    null_mse = (empty - null).square().mean().item()
    assert found.null_relative == pytest.approx((null_mse / empty.square().mean().item()) ** 0.5, rel=1e-4)
    assert found.discrepancy.null_norm == pytest.approx((null.norm() / empty.norm()).item(), rel=1e-4)


def test_a_long_prompt_of_several_rows(pack, compare):
    """CLIP cuts it into rows of 77; the conditioning holds them side by side. Lengths differ from the empty prompt's
    in rows only, so each row is held against it."""
    dense = sd1_clip()
    pruned = prune(pack, dense, (1, 2), slot="clip_l").clip
    text = "a red fox reading a map beside two blue lanterns, " * 20
    a, b, empty = encode(dense, text), encode(pruned, text), encode(dense, "")
    assert a.shape[1] == 231
    found = change_of(compare(dense, pruned, text, runs=0), "clip_l")
    assert found.discrepancy.conditional == pytest.approx((a - b).square().mean().item(), rel=1e-4)
    away = (a - empty.repeat(1, 3, 1)).square().mean().item()
    assert found.to_empty == pytest.approx((found.discrepancy.conditional / away) ** 0.5, rel=1e-4)


def test_without_padding_the_empty_prompts_mean_stands_in(pixart, compare):
    dense, pruned = pixart
    a, b, empty = encode(dense, PROMPT), encode(pruned, PROMPT), encode(dense, "")
    assert empty.shape[1] < a.shape[1]
    found = change_of(compare(dense, pruned, PROMPT, runs=0))
    away = (a - empty.mean(dim=1, keepdim=True)).square().mean().item()
    assert found.to_empty == pytest.approx(((a - b).square().mean().item() / away) ** 0.5, rel=1e-4)


def test_clip_skip_is_honoured(pack, compare):
    dense = sd1_clip()
    dense.clip_layer(-2)
    pruned = prune(pack, dense, (1, 2), slot="clip_l").clip
    wanted = (encode(dense, PROMPT) - encode(pruned, PROMPT)).square().mean().item()
    found = compare(dense, pruned, PROMPT, runs=0)
    assert change_of(found, "clip_l").discrepancy.conditional == pytest.approx(wanted, rel=1e-4)
    pruned.clip_layer(-1)
    assert any("different clip skip" in note for note in compare(dense, pruned, PROMPT, runs=0).notes)


def test_sizes_and_times(flux, compare):
    dense, pruned, _ = flux
    before = sum(t.nbytes for t in dense.cond_stage_model.t5xxl.transformer.state_dict().values())
    after = kept_bytes(dense.cond_stage_model.t5xxl.transformer, "", t5_prefixes(SKIP))
    found = compare(dense, pruned, PROMPT, runs=4)
    sizes = {encoder.slot: encoder for encoder in found.encoders}
    assert sizes["t5xxl"].bytes == (before, after)
    assert sizes["t5xxl"].parameters[1] == sizes["t5xxl"].parameters[0] - (before - after) // 2  # fp16
    assert sizes["clip_l"].bytes[0] == sizes["clip_l"].bytes[1]
    assert sizes["clip_l"].change is None
    assert found.clip_bytes[0] - found.clip_bytes[1] == before - after
    assert [len(seconds) for seconds in found.seconds] == [4, 4]
    assert all(0 < taken < 60 for seconds in found.seconds for taken in seconds)
    assert found.device == "cpu"


def test_every_cut_encoder_is_measured(pack, flux, compare):
    dense, pruned, model = flux
    both = prune(pack, pruned, (1,), slot="clip_l").clip
    found = compare(dense, both, PROMPT, model, runs=0)
    alone = compare(dense, pruned, PROMPT, model, runs=0)
    assert change_of(found, "t5xxl") == change_of(alone, "t5xxl")
    assert change_of(found, "clip_l").discrepancy.conditional > 0


def test_the_inputs_are_left_as_they_were(pack, compare):
    """Outputs, options, patches and the tensors themselves; on the MODEL too, which is not loaded."""
    dense, model = flux_clip(), flux_model()
    dense.clip_layer(-1)
    pruned = prune(pack, dense).clip
    state = {key: value.clone() for key, value in dense.patcher.model.state_dict().items()}
    kept = {key: value.clone() for key, value in pruned.patcher.model.state_dict().items()}
    wanted = [encode(clip).clone() for clip in (dense, pruned)]
    uuids = [clip.patcher.patches_uuid for clip in (dense, pruned)]
    compare(dense, pruned, PROMPT, model, runs=1)
    assert dense.patcher.model.t5xxl.execution_device is None
    assert [clip.patcher.patches_uuid for clip in (dense, pruned)] == uuids
    assert all(torch.equal(encode(clip), value) for clip, value in zip((dense, pruned), wanted, strict=True))
    assert all(torch.equal(value, dense.patcher.model.state_dict()[key]) for key, value in state.items())
    assert all(torch.equal(value, pruned.patcher.model.state_dict()[key]) for key, value in kept.items())
    import comfy.model_management as mm

    assert not any(loaded.model is model for loaded in mm.current_loaded_models)


# --- CLIPs that do not go together -------------------------------------------------------------------------


def test_wrong_order_is_said_and_compared_the_other_way_round(pixart, compare):
    dense, pruned = pixart
    right, wrong = compare(dense, pruned, PROMPT, runs=0), compare(pruned, dense, PROMPT, runs=0)
    assert change_of(wrong) == change_of(right) and wrong.clip_bytes == right.clip_bytes
    assert "wrong order" in wrong.notes[0] and not right.notes


def test_the_same_clip_twice_is_unchanged(pack, pixart, compare):
    dense, _ = pixart
    found = compare(dense, dense, PROMPT, runs=0)
    assert change_of(found).discrepancy.value == 0 == change_of(found).relative
    assert "nothing was removed" in found.notes[0]
    assert pack("nodes.comfy_host.report.verdict").verdict(found)[0] == "unchanged"


def test_two_dense_clips_can_be_compared(pixart, compare):
    """fp8 beside fp16, say."""
    found = compare(pixart[0], pixart_clip(dtype=torch.float8_e4m3fn), PROMPT, runs=0)
    assert 0 < change_of(found).relative < 0.5
    assert "Neither CLIP was cut" in found.notes[0]


def test_a_cut_against_a_larger_cut(pack, compare):
    dense = pixart_clip()
    small = prune(pack, dense, (3,)).clip
    found = compare(small, prune(pack, small, (5,)).clip, PROMPT, runs=0)
    assert [encoder.skipped for encoder in found.encoders] == [(1, 2)]
    assert "difference between the two cuts" in found.notes[0]


@pytest.mark.parametrize("other", [flux_clip, sd1_clip, lambda: pixart_clip(layers=5)])
def test_different_kinds_are_refused(pack, pixart, compare, other):
    error = pack("skrr_engine.errors").SkrrError
    with pytest.raises(error, match="different kinds: pixart with t5xxl"):
        compare(pixart[0], other(), PROMPT)


def test_a_model_of_another_family_is_refused(pack, pixart, flux, compare):
    with pytest.raises(pack("skrr_engine.errors").SkrrError, match="do not belong together"):
        compare(*pixart, PROMPT, flux[2], runs=0)


def test_hooks_and_embeddings_are_refused(pack, compare, monkeypatch):
    dense = sd1_clip()
    hooked = with_hooks(dense, hook(make_lora(dense, (1,))))
    error = pack("skrr_engine.errors").SkrrError
    with pytest.raises(error, match="carries hooks"):
        compare(dense, hooked, PROMPT)
    rows = [[(torch.zeros(64), 1.0), (49407, 1.0)]]
    monkeypatch.setattr(dense, "tokenize", lambda text: {"l": rows})
    with pytest.raises(error, match="textual-inversion"):
        compare(dense, prune(pack, dense, (1,), slot="clip_l").clip, PROMPT)


def test_lora_on_one_and_on_both(pack, compare):
    dense = sd1_clip()
    lora = make_lora(dense, range(8))
    pruned = prune(pack, dense, (1, 2), slot="clip_l").clip
    plain = change_of(compare(dense, pruned, PROMPT, runs=0), "clip_l")
    one = compare(dense, with_lora(pruned, lora), PROMPT, runs=0)
    assert "carry different LoRA" in one.notes[0]
    assert change_of(one, "clip_l") != plain
    # Cut behind the LoRA: patches of removed sub-blocks are gone, which is no difference to report.
    behind = with_lora(dense, lora)
    both = compare(behind, prune(pack, behind, (1, 2), slot="clip_l").clip, PROMPT, runs=0)
    assert both.notes == ("Both CLIPs carry the same LoRA or merges.",)


@pytest.mark.parametrize("prompt", ["", "  \n "])
def test_an_empty_prompt(pack, flux, compare, prompt):
    found = compare(*flux[:2], prompt, runs=0)
    if not prompt:
        assert change_of(found).discrepancy.conditional == pytest.approx(change_of(found).discrepancy.null)
    assert change_of(found).to_empty is None
    text = pack("nodes.comfy_host.report.verdict").report_text(found, None, "No pictures were connected.")
    assert "The prompt is empty" in text and "way to the empty" not in text


def test_cancel_ends_the_timing(pixart, compare):
    import comfy.model_management as mm

    try:
        mm.interrupt_current_processing(True)
        with pytest.raises(mm.InterruptProcessingException):
            compare(*pixart, PROMPT, runs=50)
    finally:
        mm.interrupt_current_processing(False)


# --- through the server ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def server():
    with Server(find_comfy_roots()[0]) as running:
        yield running


def test_report_through_the_server(server, pack):
    """Dense and pruned pictures side by side; the report is shown, its plot can be saved, and both stay."""

    def node(kind, **inputs):
        return {"class_type": kind, "inputs": inputs}

    from ..tiny_models import load_family

    _, clip, _ = load_family("flux")
    plan = pack("skrr_engine.plans.plan_json").dumps(plan_for(pack, clip, SKIP, REUSE))
    sparsity = plan_for(pack, clip, SKIP, REUSE).levels[0].sparsity
    graph = tiny_graph("flux", text=PROMPT)
    graph["plan"] = node("SkrrLoadPlan", source="auto", text=plan)
    graph["apply"] = node("SkrrApply", clip=["models", 1], plan=["plan", 0], sparsity=round(sparsity - 1e-4, 4))
    graph["text 2"] = node("CLIPTextEncode", clip=["apply", 0], text=PROMPT)
    sampler = {**graph["sampler"]["inputs"], "positive": ["text 2", 0]}
    graph["sampler 2"] = node("KSampler", **sampler)
    graph["decode 2"] = node("VAEDecode", samples=["sampler 2", 0], vae=["models", 2])
    graph["report"] = node(
        "SkrrReport", dense=["models", 1], pruned=["apply", 0], prompt=PROMPT, timed_runs=2, model=["models", 0],
        dense_picture=["decode", 0], pruned_picture=["decode 2", 0],
    )  # fmt: skip
    graph["save"] = node("SaveImage", images=["report", 1], filename_prefix="plot")
    graph["words"] = node("PreviewAny", source=["report", 0])
    result = server.run(graph)
    plot = saved_picture(server, result)
    assert plot.shape[1] == 1000 and plot.shape[0] > 600 and plot.std() > 20
    (text,) = result.outputs["report"]["text"]
    assert result.outputs["words"]["text"] == [text]
    assert text.startswith("Verdict: ") and "Compared behind Flux's own txt_in" in text
    assert "3 of 12 sub-blocks skipped" in text and "Pictures: PSNR" in text and "median of 2 runs" in text
    assert result.outputs["report"]["images"][0]["type"] == "temp"
    again = server.run(graph)
    assert "report" in again.cached and again.outputs["report"] == result.outputs["report"]


def test_a_report_alone_runs(server):
    """An output node: nothing has to be behind it."""
    graph = {
        "models": {"class_type": "SkrrTestModels", "inputs": {"family": "pixart", "seed": 0}},
        "report": {
            "class_type": "SkrrReport",
            "inputs": {"dense": ["models", 1], "pruned": ["models", 1], "prompt": "", "timed_runs": 0},
        },
    }
    result = server.run(graph)
    assert result.status == "success", result.error
    assert "nothing was removed" in result.outputs["report"]["text"][0]
