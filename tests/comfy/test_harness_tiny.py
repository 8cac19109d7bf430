"""The harness alone, without the pack's own nodes: tiny models, the test server, random model files."""

import tempfile
from pathlib import Path

import pytest
import torch

from . import model_files, tiny_language, tiny_models
from .graphs import PROMPT, file_graph, saved_picture, tiny_graph
from .server import PromptRejected, Server, find_comfy_roots

# --- in this process ---------------------------------------------------------------------------------------


def encode(clip, text):
    return clip.encode_from_tokens_scheduled(clip.tokenize(text))


def sample(latent, model, clip, text):
    """Two steps of KSampler's own function."""
    import comfy.sample

    latent = comfy.sample.fix_empty_latent_channels(model, latent)
    noise = comfy.sample.prepare_noise(latent, 0)
    conds = encode(clip, text), encode(clip, "")
    return comfy.sample.sample(model, noise, 2, 2.0, "euler", "simple", *conds, latent, disable_pbar=True)


@pytest.mark.parametrize("family", tiny_models.FAMILIES)
def test_a_family_encodes_samples_and_decodes(family):
    model, clip, vae = tiny_models.load_family(family)
    side = tiny_models.image_side(family)
    latent = torch.zeros(1, tiny_models.latent_channels(family), side // 8, side // 8)
    cat, dog = (sample(latent, model, clip, text) for text in (PROMPT, "two dogs"))
    assert torch.isfinite(cat).all()
    assert (cat - dog).std() > 0.01 * cat.std(), "the prompt must matter, or tests on pictures prove nothing"
    picture = vae.decode(cat)
    assert picture.shape == (1, side, side, 3)
    assert picture.std() > 0.05


@pytest.mark.parametrize("family", tiny_language.FAMILIES)
def test_a_language_model_encodes(family):
    model, clip, vae = tiny_language.load_family(family)
    latent = torch.zeros({"klein": (1, 128, 4, 4), "wan": (1, 16, 2, 8, 8)}.get(family, (1, 16, 8, 8)))
    cat, dog = (sample(latent, model, clip, text) for text in (PROMPT, "two dogs"))
    assert torch.isfinite(cat).all()
    assert (cat - dog).std() > 0.01 * cat.std()
    picture = vae.decode(cat)
    assert picture.shape[-1] == 3 and picture.std() > 0.05


@pytest.mark.parametrize("present", ["clip_l", "clip_g", "t5", "clip_l clip_g", "clip_g t5", "none"])
def test_sd3_runs_with_encoders_left_out(present):
    clips = {name: name in present for name in ("clip_l", "clip_g")}
    clip = tiny_models.sd3_clip(t5="t5" in present, **clips)
    latent = sample(torch.zeros(1, 16, 8, 8), tiny_models.sd3_model(**clips), clip, PROMPT)
    assert torch.isfinite(latent).all()


def test_weights_depend_on_seed_and_name_only():
    states = [
        clip.cond_stage_model.state_dict()
        for clip in (tiny_models.flux_clip(), tiny_models.pixart_clip(), tiny_models.flux_clip(seed=1))
    ]
    key = "t5xxl.transformer.encoder.block.2.layer.0.SelfAttention.q.weight"
    same, shared, other = (state[key] for state in states)
    assert torch.equal(same, shared)
    assert not torch.equal(same, other)
    assert not torch.equal(same, states[0][key.replace("block.2", "block.3")])


def test_sizes_and_storage_can_be_chosen():
    clip = tiny_models.flux_clip(layers=3, dtype=torch.float32, t5xxl_model_config={"d_ff": 32})
    t5 = clip.cond_stage_model.t5xxl.transformer
    assert len(t5.encoder.block) == 3
    weight = t5.encoder.block[0].layer[1].DenseReluDense.wi_0.weight
    assert (weight.shape, weight.dtype) == ((32, tiny_models.WIDTH), torch.float32)


# --- through a server --------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def models():
    with tempfile.TemporaryDirectory(prefix="skrr-models-") as folder:
        model_files.write_ordinary_files(Path(folder))
        yield Path(folder)


@pytest.fixture(scope="module")
def server(models):
    # The first is $COMFYUI_PATH, the one that this process runs too; tests/run.py brings the others.
    with Server(find_comfy_roots()[0], skrr=False, models=models) as running:
        yield running


@pytest.mark.parametrize("family", tiny_models.FAMILIES)
def test_a_posted_graph_makes_a_picture(server, family):
    result = server.run(tiny_graph(family))
    picture = saved_picture(server, result)
    assert picture.std() > 5
    assert {"models", "text", "empty", "sampler", "decode", "save"} <= set(result.executed)
    assert [message["value"] for message in result.progress if message["node"] == "sampler"][-1] == 2
    other = saved_picture(server, server.run(tiny_graph(family, text="two dogs")))
    assert abs(picture - other).mean() > 0.1


def test_a_second_run_comes_from_the_cache(server):
    server.run(tiny_graph("flux"))
    again = server.run(tiny_graph("flux"))
    assert again.executed == []
    assert set(again.cached) == set(tiny_graph("flux"))
    assert again.outputs["save"]["images"]
    changed = server.run(tiny_graph("flux", text="two dogs"))
    assert {"models", "empty"} <= set(changed.cached)
    assert "text" in changed.executed


def test_an_interrupt_ends_the_run(server):
    prompt_id = server.post(tiny_graph("sd1", steps=10_000))
    server.wait_for_message(prompt_id, lambda kind, data: kind == "progress")
    server.interrupt()
    assert server.wait(prompt_id).status == "interrupted"


def test_errors_are_told_apart(server):
    broken = tiny_graph("flux")
    broken["models"]["inputs"]["family"] = "unknown"
    with pytest.raises(PromptRejected) as rejected:
        server.run(broken)
    assert "models" in rejected.value.errors["node_errors"]

    mismatched = tiny_graph("flux")
    mismatched["more"] = {"class_type": "SkrrTestModels", "inputs": {"family": "sd3", "seed": 0}}
    mismatched["sampler"]["inputs"]["model"] = ["more", 0]
    result = server.run(mismatched)
    assert result.status == "error"
    assert result.error["node_id"] == "sampler"


def test_nodes_are_listed_and_the_log_is_kept(server):
    assert "SkrrTestModels" in server.object_info()
    assert "skrr-testing-pack" in server.log


def test_ordinary_loaders_run_on_random_files(server):
    names = (model_files.CLIP_L, "sd3", model_files.SD3, "taesd3")
    result = server.run(file_graph(*names, side=64, latent="EmptySD3LatentImage"))
    assert saved_picture(server, result).std() > 5
