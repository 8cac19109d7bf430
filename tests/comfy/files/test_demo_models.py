"""The shipped pipeline in ComfyUI's own classes: the same features and pictures as from the engine alone."""

import pytest
import torch

STEPS, GUIDANCE = 20, 4.0
CAPTIONS = ("a red circle", "a blue square left of a green triangle", "we count three rings", "")


@pytest.fixture(scope="module")
def host(pack):
    return pack("nodes.comfy_host.files.demo_models").load_demo_models()


@pytest.fixture(scope="module")
def alone(pack):
    return pack("skrr_engine.demo.pipeline").Pipeline()


def encoded(clip, text):
    return clip.encode_from_tokens(clip.tokenize(text))


def picture(host, text, seed, clip=None):
    """What KSampler and VAEDecode make: (1, 64, 64, 3)."""
    from nodes import EmptyLatentImage, VAEDecode, common_ksampler

    model, dense, vae = host
    said, null = ([[encoded(clip or dense, t), {}]] for t in (text, ""))
    (latent,) = EmptyLatentImage().generate(64, 64, 1)
    (drawn,) = common_ksampler(model, seed, STEPS, GUIDANCE, "euler", "simple", said, null, latent)
    return VAEDecode().decode(vae, drawn)[0]


@pytest.mark.parametrize("text", CAPTIONS)
def test_the_text_features_are_equal(host, alone, text):
    found = encoded(host[1], text)
    wanted, there = alone.text([text])
    assert found.shape == wanted.shape and there.all()
    torch.testing.assert_close(found.float(), wanted, atol=2e-4, rtol=2e-4)


@pytest.mark.parametrize("text, seed", [(CAPTIONS[0], 1), (CAPTIONS[1], 2), (CAPTIONS[2], 3)])
def test_the_pictures_are_equal(host, alone, text, seed):
    found = picture(host, text, seed)[0].permute(2, 0, 1)
    (wanted,) = alone.pictures([text], [seed])
    assert found.shape == wanted.shape == (3, 64, 64)
    torch.testing.assert_close(found.float(), wanted, atol=0.02, rtol=0)
    assert wanted.std() > 0.05


def test_the_pruned_pictures_are_equal(host, alone, pack):
    """SkrrApply's patched CLIP against the engine's executor, pictures included."""
    plan, patching = pack("skrr_engine.plans.plan"), pack("nodes.comfy_host.clip.patching")
    slot, shape = alone.encoder.slot, alone.encoder.stack.architecture
    info = {slot: plan.EncoderInfo(shape)}
    level = plan.make_level(info, {slot: plan.make_cut([20, 21, 7], {7: 9})})
    patched = patching.apply_level(host[1], plan.Plan("test", info, (level,)), level)
    assignment = pack("skrr_engine.measure.execute").assign(shape.sub_blocks, [20, 21, 7], {7: 9})
    text = CAPTIONS[1]
    wanted = alone.text([text], assignment)[0]
    torch.testing.assert_close(encoded(patched.clip, text).float(), wanted, atol=5e-4, rtol=5e-4)
    found = picture(host, text, 4, patched.clip)[0].permute(2, 0, 1)
    torch.testing.assert_close(found.float(), alone.pictures([text], [4], assignment)[0], atol=0.03, rtol=0)


def test_the_projection_and_the_encoder_are_found(host, alone, pack):
    """SkrrCalibrate and SkrrSearch see the small pipeline as what it is."""
    encoder = pack("nodes.comfy_host.clip.trees").choose_encoder(host[1], alone.encoder.slot)
    assert encoder.architecture == alone.encoder.stack.architecture and encoder.architecture.sub_blocks == 48
    found, name = pack("nodes.comfy_host.denoiser.projections").find_projection(host[0], encoder)
    assert "SmallPixArt" in name and "y_proj" in name
    values = {"sequence": torch.randn(1, 5, 128)}
    (wanted,), (there,) = (projection.apply(values, None).values() for projection in (alone.projection, found))
    torch.testing.assert_close(there.float(), wanted, atol=1e-4, rtol=1e-4)
