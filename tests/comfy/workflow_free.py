"""The workflows of the free parts: Skrr Apply between the CLIP loader and the prompt, no plan."""

from __future__ import annotations

from .workflow_maker import Graph
from .workflow_parts import APPLY_ALONE, PROMPT, frames, sampler

__all__ = ["flux2_klein", "ltx2", "qwen_image", "wan", "z_image"]

SCENE = (
    "a red fox in a yellow raincoat walks through the rain under street lanterns, two paper boats float in the gutter, "
    "the camera follows it slowly, evening light"
)
FOLDERS = {"unet_name": "diffusion_models", "clip_name": "text_encoders", "vae_name": "vae"}


def _note(g: Graph, title: str, encoder: str, files: list[tuple[str, str]], more: str = "") -> None:
    listed = "\n".join(f"- `{folder}/` {name}" for folder, name in files)
    g.note(
        f"# Skrr: {title}\n\n{encoder}\n\n"
        "**Skrr Apply** finds such parts by itself and takes them out. No plan, no search, and no bit of any picture "
        f"changes.\n\n{more}**Files** (in `ComfyUI/models/…`)\n{listed}\n\n"
        "It is the same for every other model: put the node between your CLIP loader and the prompt.\n\n"
        "**Try**: bypass **Skrr Apply** (Ctrl+B) and run again with the same seed.",
        (0, 0), (360, 560),
    )  # fmt: skip


def _loaders(g: Graph, kind: str, **files: str):
    """The three loaders below one another, and Skrr Apply with its report beside them."""
    unet = g.node("UNETLoader", (420, 0), unet_name=files["unet_name"])
    clip = g.node("CLIPLoader", (420, unet.bottom + 60), clip_name=files["clip_name"], type=kind)
    vae = g.node("VAELoader", (420, clip.bottom + 60), vae_name=files["vae_name"])
    return (unet, clip, vae), *_apply(g, clip[0])


def _apply(g: Graph, clip):
    apply = g.node("SkrrApply", (840, 0), 400, APPLY_ALONE, clip=clip)
    report = g.node("PreviewAny", (840, apply.bottom + 160), 400, 270, called="What was removed", source=apply[1])
    return apply, report


def _listed(files: dict[str, str]) -> list[tuple[str, str]]:
    return [(FOLDERS[name], file) for name, file in files.items()]


def flux2_klein(g: Graph) -> None:
    """FLUX.2 klein without what it never reads of its text encoder."""
    files = {
        "unet_name": "flux-2-klein-4b-fp8.safetensors", "clip_name": "qwen_3_4b.safetensors",
        "vae_name": "flux2-vae.safetensors",
    }  # fmt: skip
    _note(
        g, "FLUX.2 klein, the same picture with less text encoder",
        "The text encoder of klein 4B is a language model, Qwen3-4B. klein reads layers 9, 18 and 27 of its 36: the "
        "last nine are never used.",
        _listed(files),
    )  # fmt: skip
    loaders, apply, report = _loaders(g, "flux2", **files)
    text = g.node("CLIPTextEncode", (1320, 0), 400, clip=apply[0], text=PROMPT)
    nothing = g.node("ConditioningZeroOut", (1320, text.bottom + 60), 400, conditioning=text[0])
    latent = g.node("EmptyFlux2LatentImage", (1320, nothing.bottom + 60), 400, width=1024, height=1024)
    sampling = sampler(
        g, (1780, 0), loaders[0][0], text[0], nothing[0], latent[0], loaders[2][0], "skrr_klein", 930, steps=4, cfg=1.0,
        sampler_name="euler", scheduler="simple",
    )  # fmt: skip
    frames(g, loaders, report, (apply,), (text, nothing, latent), sampling)


def z_image(g: Graph) -> None:
    """Z-Image Turbo without the layer that it never reads, its embedding table off the card."""
    files = {
        "unet_name": "z_image_turbo_bf16.safetensors", "clip_name": "qwen_3_4b.safetensors",
        "vae_name": "ae.safetensors",
    }  # fmt: skip
    _note(
        g, "Z-Image Turbo, the same picture with less text encoder",
        "The text encoder of Z-Image is a language model, Qwen3-4B, of which it reads the state before the last "
        "layer. On a card the embedding table stays in RAM too: a prompt needs a few hundred of its 152,000 rows.",
        _listed(files),
    )  # fmt: skip
    loaders, apply, report = _loaders(g, "lumina2", **files)
    shift = g.node("ModelSamplingAuraFlow", (420, loaders[2].bottom + 60), model=loaders[0][0], shift=3.0)
    text = g.node("CLIPTextEncode", (1320, 0), 400, clip=apply[0], text=PROMPT)
    nothing = g.node("ConditioningZeroOut", (1320, text.bottom + 60), 400, conditioning=text[0])
    latent = g.node("EmptySD3LatentImage", (1320, nothing.bottom + 60), 400, width=1024, height=1024)
    sampling = sampler(
        g, (1780, 0), shift[0], text[0], nothing[0], latent[0], loaders[2][0], "skrr_z_image", 930, steps=8, cfg=1.0,
        sampler_name="res_multistep", scheduler="simple",
    )  # fmt: skip
    frames(g, (*loaders, shift), report, (apply,), (text, nothing, latent), sampling)


def qwen_image(g: Graph) -> None:
    """Qwen-Image without the tower that looks at pictures."""
    files = {
        "unet_name": "qwen_image_fp8_e4m3fn.safetensors", "clip_name": "qwen_2.5_vl_7b_fp8_scaled.safetensors",
        "vae_name": "qwen_image_vae.safetensors",
    }  # fmt: skip
    _note(
        g, "Qwen-Image, the same picture with less text encoder",
        "The text encoder of Qwen-Image can also look at pictures. This workflow shows it none, so that part is never "
        "used.",
        _listed(files),
        "For editing, where the encoder is shown pictures, switch `pictures` on in **Skrr Apply**.\n\n",
    )  # fmt: skip
    loaders, apply, report = _loaders(g, "qwen_image", **files)
    shift = g.node("ModelSamplingAuraFlow", (420, loaders[2].bottom + 60), model=loaders[0][0], shift=3.1)
    text = g.node("CLIPTextEncode", (1320, 0), 400, clip=apply[0], text=PROMPT)
    negative = g.node("CLIPTextEncode", (1320, text.bottom + 60), 400, called="Negative", clip=apply[0], text="")
    latent = g.node("EmptySD3LatentImage", (1320, negative.bottom + 60), 400, width=1328, height=1328)
    sampling = sampler(
        g, (1780, 0), shift[0], text[0], negative[0], latent[0], loaders[2][0], "skrr_qwen_image", 930, steps=20,
        cfg=4.0, sampler_name="euler", scheduler="simple",
    )  # fmt: skip
    frames(g, (*loaders, shift), report, (apply,), (text, negative, latent), sampling)


def wan(g: Graph) -> None:
    """Wan 2.2 5B with its large embedding table off the card."""
    files = {
        "unet_name": "wan2.2_ti2v_5B_fp16.safetensors", "clip_name": "umt5_xxl_fp8_e4m3fn_scaled.safetensors",
        "vae_name": "wan2.2_vae.safetensors",
    }  # fmt: skip
    _note(
        g, "Wan 2.2, the same video with less text encoder on the card",
        "umT5-XXL knows 256,384 words and pieces of words; their table is almost a fifth of it, and a prompt needs a "
        "few hundred of its rows. On a card the table stays in RAM; where the encoder runs on the CPU nothing is free.",
        _listed(files),
    )  # fmt: skip
    loaders, apply, report = _loaders(g, "wan", **files)
    shift = g.node("ModelSamplingSD3", (420, loaders[2].bottom + 60), model=loaders[0][0], shift=8.0)
    text = g.node("CLIPTextEncode", (1320, 0), 400, clip=apply[0], text=SCENE)
    negative = g.node("CLIPTextEncode", (1320, text.bottom + 60), 400, called="Negative", clip=apply[0], text="")
    latent = g.node(
        "Wan22ImageToVideoLatent", (1320, negative.bottom + 60), 400, vae=loaders[2][0], width=1280, height=704,
        length=121,
    )  # fmt: skip
    samples = g.node(
        "KSampler", (1780, 0), model=shift[0], positive=text[0], negative=negative[0], latent_image=latent[0], seed=7,
        steps=20, cfg=5.0, sampler_name="uni_pc", scheduler="simple",
    )  # fmt: skip
    decode = g.node("VAEDecode", (1780, samples.bottom + 60), samples=samples[0], vae=loaders[2][0])
    video = g.node("SaveWEBM", (2140, 0), 480, 700, images=decode[0], filename_prefix="video/skrr_wan", fps=24.0)
    frames(g, (*loaders, shift), report, (apply,), (text, negative, latent), (samples, decode, video))


def ltx2(g: Graph) -> None:
    """LTX-2 with sound, one stage, without the part of Gemma 3 that looks at pictures."""
    name, encoder = "ltx-2-19b-distilled.safetensors", "gemma_3_12B_it_fp4_mixed.safetensors"
    _note(
        g, "LTX-2, the same video with less text encoder",
        "LTX-2 reads all 48 layers of its Gemma 3 12B, but shows it no pictures, so the part that looks at them is "
        "never used. On a card the embedding table stays in RAM too.",
        [("checkpoints", name), ("text_encoders", encoder)],
    )  # fmt: skip
    model = g.node("CheckpointLoaderSimple", (420, 0), ckpt_name=name)
    clip = g.node("LTXAVTextEncoderLoader", (420, model.bottom + 60), text_encoder=encoder, ckpt_name=name)
    sound = g.node("LTXVAudioVAELoader", (420, clip.bottom + 60), ckpt_name=name)
    apply, report = _apply(g, clip[0])
    text = g.node("CLIPTextEncode", (1320, 0), 400, clip=apply[0], text=SCENE)
    negative = g.node("CLIPTextEncode", (1320, text.bottom + 60), 400, called="Negative", clip=apply[0], text="")
    rate = g.node(
        "LTXVConditioning", (1320, negative.bottom + 60), 400, positive=text[0], negative=negative[0], frame_rate=24.0
    )
    frames_ = g.node("EmptyLTXVLatentVideo", (1320, rate.bottom + 60), 400, width=768, height=512, length=121)
    audio = g.node(
        "LTXVEmptyLatentAudio", (1320, frames_.bottom + 60), 400, audio_vae=sound[0], frames_number=121, frame_rate=24
    )
    both = g.node("LTXVConcatAVLatent", (1780, 0), video_latent=frames_[0], audio_latent=audio[0])
    guider = g.node("CFGGuider", (1780, both.bottom + 60), model=model[0], positive=rate[0], negative=rate[1], cfg=1.0)
    kind = g.node("KSamplerSelect", (1780, guider.bottom + 60), sampler_name="euler_ancestral")
    steps = "1., 0.99375, 0.9875, 0.98125, 0.975, 0.909375, 0.725, 0.421875, 0.0"
    sigmas = g.node("ManualSigmas", (1780, kind.bottom + 60), sigmas=steps)
    noise = g.node("RandomNoise", (1780, sigmas.bottom + 60), noise_seed=7)
    samples = g.node(
        "SamplerCustomAdvanced", (2160, 0), noise=noise[0], guider=guider[0], sampler=kind[0], sigmas=sigmas[0],
        latent_image=both[0],
    )  # fmt: skip
    apart = g.node("LTXVSeparateAVLatent", (2160, samples.bottom + 60), av_latent=samples[1])
    decode = g.node("VAEDecodeTiled", (2160, apart.bottom + 60), samples=apart[0], vae=model[2])
    heard = g.node("LTXVAudioVAEDecode", (2160, decode.bottom + 60), samples=apart[1], audio_vae=sound[0])
    video = g.node("SaveWEBM", (2520, 0), 480, 560, images=decode[0], filename_prefix="video/skrr_ltx2", fps=24.0)
    spoken = g.node("SaveAudio", (2520, video.bottom + 60), 480, 160, audio=heard[0], filename_prefix="audio/skrr_ltx2")
    sampling = (both, guider, kind, sigmas, noise, samples, apart, decode, heard, video, spoken)
    frames(g, (model, clip, sound), report, (apply,), (text, negative, rate, frames_, audio), sampling)
