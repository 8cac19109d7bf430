"""Graphs in API form that the server tests post, and what they save."""

from . import tiny_models

PROMPT = "a red cat on a mat"


def graph(loaders, model, clip, vae, *, side, latent, text=PROMPT, steps=2):
    """Text to picture; ``model``, ``clip`` and ``vae`` are links into ``loaders``."""
    settings = {"seed": 0, "steps": steps, "cfg": 2.0, "denoise": 1.0}
    sampler = {
        "model": model,
        "positive": ["text", 0],
        "negative": ["empty", 0],
        "latent_image": ["latent", 0],
        "sampler_name": "euler",
        "scheduler": "simple",
        **settings,
    }
    image = {"images": ["decode", 0], "filename_prefix": "harness"}
    return {
        **loaders,
        "text": {"class_type": "CLIPTextEncode", "inputs": {"clip": clip, "text": text}},
        "empty": {"class_type": "CLIPTextEncode", "inputs": {"clip": clip, "text": ""}},
        "latent": {"class_type": latent, "inputs": {"width": side, "height": side, "batch_size": 1}},
        "sampler": {"class_type": "KSampler", "inputs": sampler},
        "decode": {"class_type": "VAEDecode", "inputs": {"samples": ["sampler", 0], "vae": vae}},
        "save": {"class_type": "SaveImage", "inputs": image},
    }


def tiny_graph(family, **more):
    """`graph` on the testing pack's tiny models."""
    latent = "EmptySD3LatentImage" if tiny_models.latent_channels(family) == 16 else "EmptyLatentImage"
    loaders = {"models": {"class_type": "SkrrTestModels", "inputs": {"family": family, "seed": 0}}}
    links = (["models", output] for output in range(3))
    return graph(loaders, *links, side=tiny_models.image_side(family), latent=latent, **more)


# Latent node and its inputs beside the sides: Wan makes films, here of two latent frames.
LATENTS = {
    "klein": ("EmptyFlux2LatentImage", {}),
    "z_image": ("EmptySD3LatentImage", {}),
    "qwen_image": ("EmptySD3LatentImage", {}),
    "wan": ("EmptyHunyuanLatentVideo", {"length": 5}),
}


def language_graph(family, **more):
    """`graph` on the testing pack's tiny models of a family that a language model encodes for."""
    latent, inputs = LATENTS[family]
    loaders = {"models": {"class_type": "SkrrTestModels", "inputs": {"family": family, "seed": 0}}}
    found = graph(loaders, *(["models", output] for output in range(3)), side=64, latent=latent, **more)
    found["latent"]["inputs"] |= inputs
    return found


def file_graph(clip, kind, unet, vae, **more):
    """`graph` on files through ComfyUI's ordinary loaders."""
    loaders = {
        "clip": {"class_type": "CLIPLoader", "inputs": {"clip_name": clip, "type": kind}},
        "unet": {"class_type": "UNETLoader", "inputs": {"unet_name": unet, "weight_dtype": "default"}},
        "vae": {"class_type": "VAELoader", "inputs": {"vae_name": vae}},
    }
    return graph(loaders, ["unet", 0], ["clip", 0], ["vae", 0], **more)


def saved_picture(server, result):
    """The picture a run saved, as numbers."""
    (picture,) = saved_pictures(server, result)
    return picture


def saved_pictures(server, result, node="save"):
    """All pictures (of a film, its frames) that a node of a run saved, as numbers."""
    import numpy
    from PIL import Image

    assert result.status == "success", result.error
    names = [image["filename"] for image in result.outputs[node]["images"]]
    return [numpy.asarray(Image.open(server.base / "output" / name), dtype=float) for name in names]
