"""Calibrate and search on ComfyUI's own objects: the walk equals encode, features equal MODEL's own modules,
plans equal the reference, and what cannot work is refused with a sentence."""

import pytest
import torch

from ..tiny_models import (
    flux_clip,
    flux_model,
    pixart_clip,
    pixart_model,
    sd1_clip,
    sd1_model,
    sd3_clip,
    sd3_model,
)

PROMPTS = ("a red fox", "two blue lanterns above a wooden boat, seen from the shore", "fog")


@pytest.fixture(scope="session")
def host(pack):
    """The pack's modules by their last name."""
    rooms = {
        "trees": "clip", "patching": "clip", "memory": "weights", "calibrating": "search", "searching": "search",
        "projections": "denoiser", "folders": "files",
    }  # fmt: skip

    class Host:
        def __getattr__(self, name):
            return pack(f"nodes.comfy_host.{rooms[name]}.{name}")

    return Host()


def objective_of(pack, host, clip, model, slot="largest", prompts=PROMPTS, **options):
    encoder = host.trees.choose_encoder(clip, slot)
    host.memory.rest(clip.patcher)
    calibration = host.calibrating.calibration_for(encoder, host.calibrating.tokenize(clip, prompts))
    projection, _ = host.projections.find_projection(model, encoder)
    return pack("skrr_engine.measure.objective").Objective(
        encoder.adapter.stack(encoder), calibration, projection, **options
    )


ENCODERS = [
    (flux_clip, "t5xxl", None),
    (flux_clip, "clip_l", None),
    (pixart_clip, "t5xxl", None),
    (sd1_clip, "clip_l", None),
    (sd1_clip, "clip_l", -2),
    (sd3_clip, "clip_l", None),
    (sd3_clip, "clip_g", None),
]


@pytest.mark.parametrize("make, slot, clip_skip", ENCODERS)
def test_the_walk_equals_encode(pack, host, make, slot, clip_skip):
    """Dense, sub-block by sub-block, bit for bit what the workflow's encode hands to the denoiser."""
    clip = make()
    if clip_skip is not None:
        clip.clip_layer(clip_skip)
    objective = objective_of(pack, host, clip, None, slot, prompts=PROMPTS[:1])
    execute = pack("skrr_engine.measure.execute")
    (batch,) = objective.calibration.batches
    objective.stack.prepare()
    ours = execute.encode(objective.stack, objective.dense_assignment, batch)
    tree = clip.cond_stage_model
    tree.reset_clip_options()
    if clip_skip is not None:
        tree.set_clip_options({"layer": clip_skip})
    key = slot.removeprefix("clip_") if slot != "t5xxl" else slot
    sequence, pooled = getattr(tree, slot).encode_token_weights(clip.tokenize(PROMPTS[0])[key])[:2]
    assert set(ours) == set(host.trees.choose_encoder(clip, slot).outputs)
    if "sequence" in ours:
        assert torch.equal(ours["sequence"], sequence)
    if "pooled" in ours:
        assert torch.equal(ours["pooled"], pooled)


def features_of(objective, batch):
    from_dense, _ = objective.dense(batch)
    return from_dense


@pytest.mark.parametrize(
    "make_clip, make_model, slot",
    [
        (flux_clip, flux_model, "t5xxl"),
        (flux_clip, flux_model, "clip_l"),
        (pixart_clip, pixart_model, "t5xxl"),
        (sd3_clip, sd3_model, "t5xxl"),
        (sd3_clip, sd3_model, "clip_l"),
        (sd3_clip, sd3_model, "clip_g"),
    ],
)
def test_features_equal_the_models_own_projection(pack, host, make_clip, make_model, slot):
    """Dense features against MODEL's modules in float32 on what the whole CLIP's encode hands out."""
    clip, model = make_clip(), make_model()
    objective = objective_of(pack, host, clip, model, slot, prompts=PROMPTS[:1])
    (batch,) = objective.calibration.batches
    found = features_of(objective, batch)
    cond, pooled = clip.encode_from_tokens(clip.tokenize(PROMPTS[0]), return_pooled=True)
    diffusion = model.model.diffusion_model.float()
    if "vector_in" in found:
        wanted = {"vector_in": diffusion.vector_in(pooled)}
    elif "txt_in" in found:
        wanted = {"txt_in": diffusion.txt_in(cond)}
    elif "y_proj" in found:
        wanted = {"y_proj": diffusion.y_embedder.y_proj(cond)}
    else:
        wanted = {"context_embedder": diffusion.context_embedder(cond)}
        if slot != "t5xxl":
            wanted["y_embedder"] = diffusion.y_embedder(pooled)
    if slot == "t5xxl" and "context_embedder" in found:
        wanted["context_embedder"] = wanted["context_embedder"][:, 77:]
    assert set(found) == set(wanted)
    for name, value in found.items():
        if slot in ("clip_l", "clip_g") and name == "context_embedder":
            continue  # the other CLIP's columns are zero here: held by the next test
        torch.testing.assert_close(value, wanted[name], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("slot", ["clip_l", "clip_g"])
def test_sd3_clip_differences_equal_those_of_the_joined_embedding(pack, host, slot):
    """Pruning one CLIP of SD3 moves the joint embedding's projection exactly as our columns alone do."""
    clip, model = sd3_clip(t5=False), sd3_model()
    objective = objective_of(pack, host, clip, model, slot, prompts=PROMPTS[:1])
    execute, plan = pack("skrr_engine.measure.execute"), pack("skrr_engine.plans.plan")
    (batch,) = objective.calibration.batches
    dense = features_of(objective, batch)
    outputs = execute.encode(objective.stack, execute.assign(8, [0]), batch)
    pruned = objective.features(outputs, batch)
    info = plan.EncoderInfo(objective.stack.architecture)
    level = plan.make_level({slot: info}, {slot: plan.make_cut([0])})
    small = host.patching.apply_level(clip, plan.Plan("p", {slot: info}, (level,)), level).clip
    diffusion = model.model.diffusion_model.float()
    for name, index in (("context_embedder", 0), ("y_embedder", 1)):
        before, after = (
            getattr(diffusion, name)(c.encode_from_tokens(c.tokenize(PROMPTS[0]), return_pooled=True)[index])
            for c in (clip, small)
        )
        torch.testing.assert_close(pruned[name] - dense[name], after - before, rtol=1e-3, atol=1e-4)


def test_lora_on_model_reaches_the_projection(pack, host):
    """A patch on txt_in changes the features as adding it to the weight does; MODEL itself is not loaded."""
    import comfy.model_management as mm

    clip, model = flux_clip(), flux_model()
    weight = model.model.diffusion_model.txt_in.weight
    diff = 0.1 * torch.randn(weight.shape, generator=torch.Generator().manual_seed(1))
    patched = model.clone()
    patched.add_patches({"diffusion_model.txt_in.weight": ("diff", (diff,))}, 0.5)
    first = objective_of(pack, host, clip, model, "t5xxl")
    second = objective_of(pack, host, clip, patched, "t5xxl")
    assert first.projection.identity != second.projection.identity
    (batch,) = first.calibration.null
    plain = clip.encode_from_tokens(clip.tokenize(""))
    torch.testing.assert_close(
        features_of(second, second.calibration.null[0])["txt_in"],
        features_of(first, batch)["txt_in"] + plain @ (0.5 * diff).T,
        rtol=1e-4,
        atol=1e-4,
    )
    assert all(loaded.model.model is not model.model for loaded in mm.current_loaded_models)


def test_search_equals_the_reference_and_prunes_what_it_promises(pack, host):
    """The plan's discrepancy is the one measured through ComfyUI's own encode of the pruned CLIP."""
    clip, model = pixart_clip(layers=3), pixart_model()
    settings = pack("skrr_engine.jobs.search").Settings("t5xxl", sparsity=0.02, beam=2)
    encoder = host.trees.choose_encoder(clip)
    tokenized = host.calibrating.tokenize(clip, PROMPTS)
    plan, _ = host.searching.run_search(encoder, model, tokenized, settings)
    reference = pack("skrr_engine.search.reference")
    objective = objective_of(pack, host, clip, model)
    for level, (order, _) in zip(plan.levels, reference.algorithm_1(objective, 2, len(plan.levels)), strict=True):
        reuse, found = reference.algorithm_2(objective, order)
        assert level.cuts["t5xxl"].skip == order and level.cuts["t5xxl"].reuse_map == reuse
        # Streams are stacked in float32, which moves the last bits.
        assert level.discrepancy == pytest.approx(found.to_json(), rel=1e-4, abs=1e-7)
    level = plan.level_for(0.02)
    small = host.patching.apply_level(clip, plan, level).clip
    proj = model.model.diffusion_model.float().y_embedder.y_proj

    def mse(text):
        a, b = (proj(c.encode_from_tokens(c.tokenize(text))) for c in (clip, small))
        return (a - b).square().mean().item()

    wanted = sum(map(mse, PROMPTS)) / len(PROMPTS) + mse("")
    assert level.discrepancy["value"] == pytest.approx(wanted, rel=1e-4)


def test_same_job_again_comes_from_the_cache(pack, host, tmp_path, monkeypatch):
    """No encoder pass at all; a changed LoRA strength is another job."""
    monkeypatch.setattr("folder_paths.get_user_directory", lambda: str(tmp_path))
    clip, model = pixart_clip(layers=2), pixart_model()
    settings = pack("skrr_engine.jobs.search").Settings("t5xxl", sparsity=0.02, beam=1)
    ticks = []

    def search(source):
        encoder, count = host.trees.choose_encoder(source), len(ticks)
        tokenized = host.calibrating.tokenize(source, PROMPTS)
        plan, _ = host.searching.run_search(encoder, model, tokenized, settings, report=count_ticks)
        return plan, len(ticks) - count

    def count_ticks(event):
        if type(event).__name__ == "Tick":
            ticks.append(event)

    first, work = search(clip)
    again, none = search(pixart_clip(layers=2))
    assert work > 0 and none == 0 and again == first
    key = "t5xxl.transformer.encoder.block.0.layer.1.DenseReluDense.wo.weight"
    patched = clip.clone()
    patched.add_patches({key: ("diff", (torch.ones(64, 128),))}, 0.01)
    assert search(patched)[1] > 0


def test_the_last_widgets_may_be_missing(pack):
    """Workflows saved before there were any stay valid, widget by widget."""
    node = pack("nodes.search").SkrrSearch
    *_, mode, minutes, corrections = node.define_schema().inputs
    assert (mode.id, mode.default, mode.optional) == ("mode", "fast", True)
    assert (minutes.id, minutes.default, minutes.optional) == ("minutes", 0.0, True)
    assert (corrections.id, corrections.default, corrections.optional) == ("corrections", False, True)


@pytest.mark.parametrize("mode", ["fast", "exact"])
def test_every_mode_through_the_node(pack, host, tmp_path, monkeypatch, mode):
    monkeypatch.setattr("folder_paths.get_user_directory", lambda: str(tmp_path))
    node = pack("nodes.search").SkrrSearch
    clip, model = pixart_clip(layers=2), pixart_model()
    calibration = host.calibrating.tokenize(clip, PROMPTS)
    inputs = dict(
        encoder="largest", beam=2, sparsity=0.02, saved_gb=0.0, null_weight=1.0, reuse=True, name=mode, pinned="",
        clip=clip, model=model, calibration=calibration, mode=mode, minutes=10.0,
    )  # fmt: skip
    plan, report = node.execute(**inputs).args
    assert plan.search["mode"] == mode and plan.search["minutes"] == 10.0
    assert plan.levels[-1].sparsity >= 0.02
    assert "Searched for at most 10 minutes, on 3 of 3 prompts." in report


def test_streams_take_half_of_what_is_free(pack, host, monkeypatch):
    import comfy.model_management as mm

    room = host.searching._room
    for free, expected in ((3 << 30, 3 << 29), (1 << 20, 1 << 28), (1 << 40, 1 << 32)):
        monkeypatch.setattr(mm, "get_free_memory", lambda device, free=free: free)
        assert room(torch.device("cpu")) == expected


def test_cancel_leaves_a_partial_plan_and_the_next_run_goes_on(pack, host, tmp_path, monkeypatch):
    import comfy.model_management as mm

    monkeypatch.setattr("folder_paths.get_user_directory", lambda: str(tmp_path))
    monkeypatch.setattr("folder_paths.models_dir", str(tmp_path / "models"))
    clip, model = pixart_clip(layers=3), pixart_model()
    settings = pack("skrr_engine.jobs.search").Settings("t5xxl", sparsity=0.05, beam=1, name="fox")
    tokenized = host.calibrating.tokenize(clip, PROMPTS)

    def cancel_after_two_levels(event):
        if type(event).__name__ == "LevelDone" and event.skipped == 2:
            mm.interrupt_current_processing(True)
        elif type(event).__name__ == "Tick":
            mm.throw_exception_if_processing_interrupted()

    with pytest.raises(mm.InterruptProcessingException):
        host.searching.run_search(
            host.trees.choose_encoder(clip), model, tokenized, settings, report=cancel_after_two_levels
        )
    assert host.folders.list_plans() == ["fox (partial).json"]
    partial = host.folders.load_plan("fox (partial).json")
    assert [len(level.cuts["t5xxl"].skip) for level in partial.levels] == [1, 2]
    small = host.patching.apply_level(clip, partial, partial.levels[0]).clip
    assert small.patcher.model_size() < clip.patcher.model_size()
    whole, _ = host.searching.run_search(host.trees.choose_encoder(clip), model, tokenized, settings)
    assert whole.levels[0].cuts["t5xxl"].skip == partial.levels[0].cuts["t5xxl"].skip


def test_belonging_together(pack, host):
    """MODEL and CLIP of different families, a wrong width, an unknown encoder: each one clear sentence."""
    errors = pack("skrr_engine.errors").SkrrError
    find, choose = host.projections.find_projection, host.trees.choose_encoder
    with pytest.raises(errors, match="do not belong together"):
        find(sd3_model(), choose(flux_clip()))
    with pytest.raises(errors, match="do not belong together: Flux's txt_in takes 32 values"):
        find(flux_model(context_in_dim=32), choose(flux_clip(), "t5xxl"))
    with pytest.raises(errors, match="has no encoder 'clip_g'; it holds clip_l"):
        choose(flux_clip(), "clip_g")
    _, sentence = find(sd1_model(), choose(sd1_clip()))
    assert "is not known: the encoder's own output is compared" in sentence
    with pytest.raises(errors, match="made with another kind of CLIP"):
        host.calibrating.calibration_for(choose(flux_clip()), host.calibrating.tokenize(sd3_clip(t5=False), ["x"]))
