"""The workflows that come with the pack, each a function from a fresh Graph to a laid-out one."""

from __future__ import annotations

from skrr_engine.demo.world.scoring import calibration_captions

from . import workflow_free as free
from .workflow_maker import Graph
from .workflow_parts import APPLY, LOADER, PLAN, PROMPT, SAVE_PLAN, SEARCH, frames, sampler, smaller

__all__ = ["GRAPHS"]

FLUX_FILES = """**Files** (in `ComfyUI/models/…`)
- `diffusion_models/` flux1-dev.safetensors
- `text_encoders/` t5xxl_fp16.safetensors (or t5xxl_fp8_e4m3fn.safetensors), clip_l.safetensors
- `vae/` ae.safetensors
"""


def _flux_loaders(g: Graph, x: int, y: int):
    """The usual loaders of FLUX.1-dev, one below the other."""
    unet = g.node("UNETLoader", (x, y), unet_name="flux1-dev.safetensors")
    files = {"clip_name1": "t5xxl_fp16.safetensors", "clip_name2": "clip_l.safetensors"}
    clip = g.node("DualCLIPLoader", (x, unet.bottom + 60), type="flux", **files)
    vae = g.node("VAELoader", (x, clip.bottom + 60), vae_name="ae.safetensors")
    return unet, clip, vae


def flux1_dev(g: Graph) -> None:
    """FLUX.1-dev with the published plan."""
    g.note(
        "# Skrr: FLUX.1-dev, text encoder 40 % smaller\n\n"
        "Nothing new to download: **Skrr Apply** stands between the CLIP loader and the prompt and takes out of T5-XXL "
        "what FLUX misses least. fp16: 9.5 GB become 5.7 GB; fp8: 4.8 GB become 2.8 GB.\n\n"
        f"{FLUX_FILES}\n"
        "**Try**: click the marks in **Skrr Apply**: 0 is only what goes free. The plan is the published one, "
        "found by the authors of the method; this pack has not measured it on real weights.",
        (0, 0), (360, 560),
    )  # fmt: skip
    unet, clip, vae = _flux_loaders(g, 420, 0)
    apply, report = smaller(g, clip[0], 840, 0)
    text = g.node("CLIPTextEncode", (1320, 0), 400, clip=apply[0], text=PROMPT)
    guidance = g.node("FluxGuidance", (1320, text.bottom + 60), 400, conditioning=text[0], guidance=3.5)
    nothing = g.node("ConditioningZeroOut", (1320, guidance.bottom + 60), 400, conditioning=text[0])
    latent = g.node("EmptySD3LatentImage", (1320, nothing.bottom + 60), 400, width=1024, height=1024)
    sampling = sampler(
        g, (1780, 0), unet[0], guidance[0], nothing[0], latent[0], vae[0], "skrr_flux", 930, steps=20, cfg=1.0,
        sampler_name="euler", scheduler="simple",
    )  # fmt: skip
    frames(g, (unet, clip, vae), report, (apply,), (text, guidance, nothing, latent), sampling)


def sd3(g: Graph) -> None:
    """SD3 with the published plan for its T5-XXL."""
    g.note(
        "# Skrr: Stable Diffusion 3, T5-XXL 40 % smaller\n\n"
        "SD3 has three text encoders; only the large one, T5-XXL, is made smaller. CLIP-L and CLIP-G stay whole.\n\n"
        "**Files** (in `ComfyUI/models/…`)\n"
        "- `checkpoints/` sd3_medium.safetensors\n"
        "- `text_encoders/` clip_l.safetensors, clip_g.safetensors, t5xxl_fp16.safetensors (or "
        "t5xxl_fp8_e4m3fn.safetensors)\n\n"
        "The plan is the published one, found by the authors of the method; this pack has not measured it on real "
        "weights.",
        (0, 0), (360, 560),
    )  # fmt: skip
    model = g.node("CheckpointLoaderSimple", (420, 0), ckpt_name="sd3_medium.safetensors")
    files = ("clip_l.safetensors", "clip_g.safetensors", "t5xxl_fp16.safetensors")
    named = {f"clip_name{n}": file for n, file in enumerate(files, 1)}
    clip = g.node("TripleCLIPLoader", (420, model.bottom + 60), **named)
    shift = g.node("ModelSamplingSD3", (420, clip.bottom + 60), model=model[0], shift=3.0)
    apply, report = smaller(g, clip[0], 840, 0)
    text = g.node("CLIPTextEncode", (1320, 0), 400, clip=apply[0], text=PROMPT)
    negative = g.node("CLIPTextEncode", (1320, text.bottom + 60), 400, called="Negative", clip=apply[0], text="")
    latent = g.node("EmptySD3LatentImage", (1320, negative.bottom + 60), 400, width=1024, height=1024)
    sampling = sampler(
        g, (1780, 0), shift[0], text[0], negative[0], latent[0], model[2], "skrr_sd3", 930, steps=28, cfg=4.5,
        sampler_name="dpmpp_2m", scheduler="sgm_uniform",
    )  # fmt: skip
    frames(g, (model, clip, shift), report, (apply,), (text, negative, latent), sampling)


def pixart_sigma(g: Graph) -> None:
    """PixArt-Sigma with the published plan, the only one with published re-use pairs."""
    g.note(
        "# Skrr: PixArt-Sigma, T5-XXL 42 % smaller\n\n"
        "PixArt is small (0.6 billion parameters), its text encoder is not (4.8 billion). Its published plan also "
        "re-uses kept parts in the place of removed ones.\n\n"
        "**Files** (in `ComfyUI/models/…`)\n"
        "- `diffusion_models/` PixArt-Sigma-XL-2-1024-MS.pth\n"
        "- `text_encoders/` t5xxl_fp16.safetensors (or t5xxl_fp8_e4m3fn.safetensors)\n"
        "- `vae/` sdxl_vae.safetensors\n\n"
        "The plan is the published one, found by the authors of the method; this pack has not measured it on real "
        "weights.",
        (0, 0), (360, 560),
    )  # fmt: skip
    unet = g.node("UNETLoader", (420, 0), unet_name="PixArt-Sigma-XL-2-1024-MS.pth")
    clip = g.node("CLIPLoader", (420, unet.bottom + 60), clip_name="t5xxl_fp16.safetensors", type="pixart")
    vae = g.node("VAELoader", (420, clip.bottom + 60), vae_name="sdxl_vae.safetensors")
    apply, report = smaller(g, clip[0], 840, 0)
    text = g.node("CLIPTextEncode", (1320, 0), 400, clip=apply[0], text=PROMPT)
    negative = g.node("CLIPTextEncode", (1320, text.bottom + 60), 400, called="Negative", clip=apply[0], text="")
    latent = g.node("EmptyLatentImage", (1320, negative.bottom + 60), 400, width=1024, height=1024)
    sampling = sampler(
        g, (1780, 0), unet[0], text[0], negative[0], latent[0], vae[0], "skrr_pixart", 930, steps=20, cfg=4.5,
        sampler_name="dpmpp_2m", scheduler="normal",
    )  # fmt: skip
    frames(g, (unet, clip, vae), report, (apply,), (text, negative, latent), sampling)


def search(g: Graph) -> None:
    """Calibrate, search, save: a plan for the encoder and the image model at hand."""
    g.note(
        "# Skrr: search once, use it from then on\n\n"
        "Finds out which parts of *your* text encoder *your* image model misses least, and saves the plan into "
        "`models/skrr`. No picture is made and FLUX itself is not loaded: **Skrr Projection** reads the few MB it "
        "takes.\n\n"
        "- It can take hours for a T5-XXL; `minutes` bounds it. **Cancel** keeps what was found, and running it "
        "again goes on from there.\n"
        "- Prompts of yours make a plan for your kind of pictures: set `prompts` of **Skrr Calibrate** to `text` or "
        "to a .txt file in `ComfyUI/input`.\n"
        "- Minutes instead of hours: connect a **Skrr Load Plan** to `plan` of **Skrr Search**. Then only what to "
        "re-use is searched.\n\n"
        "Afterwards choose the plan by its name in **Skrr Load Plan**.\n\n"
        f"{FLUX_FILES}",
        (0, 0), (400, 560),
    )  # fmt: skip
    files = {"clip_name1": "t5xxl_fp16.safetensors", "clip_name2": "clip_l.safetensors"}
    clip = g.node("DualCLIPLoader", (460, 0), type="flux", **files)
    model = g.node("SkrrProjection", (460, clip.bottom + 80), file="flux1-dev.safetensors")
    prompts = g.node("SkrrCalibrate", (860, 0), 380, clip=clip[0], model=model[0])
    found = g.node(
        "SkrrSearch", (1300, 0), 460, SEARCH, clip=clip[0], model=model[0], calibration=prompts[0], encoder="t5xxl",
        name="my flux plan",
    )  # fmt: skip
    report = g.node("PreviewAny", (1820, 0), 460, 400, called="The levels found", source=found[1])
    save = g.node("SkrrSavePlan", (1820, 500), 460, SAVE_PLAN, plan=found[0], filename="my flux plan")
    g.group("Load", "load", clip, model)
    g.group("Prompts to measure on", "prompt", prompts)
    g.group("Search", "skrr", found)
    g.group("Keep", "sample", report, save)


def compare(g: Graph) -> None:
    """The same prompt and seed with the dense and the pruned encoder, and SkrrReport on both."""
    g.note(
        "# Skrr: dense against pruned\n\n"
        "The same prompt and seed twice: above with the whole text encoder, below with the smaller one. **Skrr "
        "Report** says in figures and words what the difference is, and its plot is saved as a picture.\n\n"
        "A picture that is different is not worse. Look at several seeds before you choose a `sparsity`.\n\n"
        f"{FLUX_FILES}",
        (0, 0), (360, 560),
    )  # fmt: skip
    unet, clip, vae = _flux_loaders(g, 420, 0)
    plan = g.node("SkrrLoadPlan", (840, 0), 400, PLAN, clip=clip[0])
    apply = g.node("SkrrApply", (840, plan.bottom + 60), 400, APPLY, clip=clip[0], plan=plan[0], sparsity=0.4)
    prompt = g.node("PrimitiveStringMultiline", (1320, 0), 400, called="Prompt", value=PROMPT)
    latent = g.node("EmptySD3LatentImage", (1320, prompt.bottom + 60), 400, width=1024, height=1024)
    rows = []
    for y, name, source in ((0, "dense", clip[0]), (760, "pruned", apply[0])):
        text = g.node("CLIPTextEncode", (1800, y), 320, 120, called=f"Prompt, {name}", clip=source, text=prompt[0])
        guidance = g.node("FluxGuidance", (1800, text.bottom + 50), conditioning=text[0], guidance=3.5)
        nothing = g.node("ConditioningZeroOut", (1800, guidance.bottom + 50), conditioning=text[0])
        sampling = sampler(
            g, (2160, y), unet[0], guidance[0], nothing[0], latent[0], vae[0], f"skrr_{name}", steps=20, cfg=1.0,
            sampler_name="euler", scheduler="simple",
        )  # fmt: skip
        rows.append((text, guidance, nothing, *sampling))
    report = g.node(
        "SkrrReport", (3060, 0), 560, 760, dense=clip[0], pruned=apply[0], prompt=prompt[0], model=unet[0],
        dense_picture=rows[0][4][0], pruned_picture=rows[1][4][0],
    )  # fmt: skip
    words = g.node("PreviewAny", (3060, report.bottom + 80), 560, 320, called="In words", source=report[0])
    save = g.node("SaveImage", (3680, 0), 560, 760, images=report[1], filename_prefix="skrr_report")
    g.group("Load", "load", unet, clip, vae)
    g.group("Make it smaller", "skrr", plan, apply)
    g.group("The same for both", "prompt", prompt, latent)
    g.group("Dense", "sample", *rows[0])
    g.group("Pruned", "sample", *rows[1])
    g.group("Compare", "skrr", report, words, save)


def load_less(g: Graph) -> None:
    """Read only what the plan keeps, and keep it as a file of its own."""
    g.note(
        "# Skrr: never load the rest\n\n"
        "**Skrr CLIP Loader** reads from the files only what the plan keeps: RAM never holds the whole T5-XXL. "
        "**Skrr Save Encoder** writes what is left as one file, with the plan inside.\n\n"
        "Next time choose `t5xxl_skrr.safetensors` in `file1` (press R first, so that the page sees it), take the "
        "link off `plan`, and mute **Skrr Save Encoder** (Ctrl+M).\n\n"
        "The saved file is for **Skrr CLIP Loader** only; ComfyUI's own loaders expect all parts.\n\n"
        f"{FLUX_FILES}",
        (0, 0), (380, 520),
    )  # fmt: skip
    plan = g.node("SkrrLoadPlan", (420, 0), 400, PLAN, source="flux1-dev")
    files = {"file1": "t5xxl_fp16.safetensors", "file2": "clip_l.safetensors"}
    place = (420, plan.bottom + 60)
    clip = g.node("SkrrCLIPLoader", place, 400, LOADER, type="flux", sparsity=0.4, plan=plan[0], **files)
    unet = g.node("UNETLoader", (900, 0), unet_name="flux1-dev.safetensors")
    vae = g.node("VAELoader", (900, unet.bottom + 60), vae_name="ae.safetensors")
    save = g.node("SkrrSaveEncoder", (900, vae.bottom + 120), clip=clip[0], encoder="t5xxl", filename="t5xxl_skrr")
    report = g.node("PreviewAny", (900, save.bottom + 60), 320, 420, called="What was left out", source=clip[1])
    text = g.node("CLIPTextEncode", (1300, 0), 400, clip=clip[0], text=PROMPT)
    guidance = g.node("FluxGuidance", (1300, text.bottom + 60), 400, conditioning=text[0], guidance=3.5)
    nothing = g.node("ConditioningZeroOut", (1300, guidance.bottom + 60), 400, conditioning=text[0])
    latent = g.node("EmptySD3LatentImage", (1300, nothing.bottom + 60), 400, width=1024, height=1024)
    sampling = sampler(
        g, (1760, 0), unet[0], guidance[0], nothing[0], latent[0], vae[0], "skrr_flux", 930, steps=20, cfg=1.0,
        sampler_name="euler", scheduler="simple",
    )  # fmt: skip
    g.group("Load only what is kept", "skrr", plan, clip)
    g.group("Load", "load", unet, vae)
    g.group("Keep it as a file", "skrr", save, report)
    g.group("Prompt", "prompt", text, guidance, nothing, latent)
    g.group("Picture", "sample", *sampling)


def demo(g: Graph) -> None:
    """The whole method on the small pipeline that comes with the pack: no files."""
    g.note(
        "# Skrr: try it here\n\n"
        "Everything here comes with the pack: a small image model and its text encoder, trained on simple scenes. "
        "Press **Run**: the encoder is searched, made smaller, and both versions paint the same prompt. **Skrr "
        "Calibrate** holds 64 captions of the model's own kind.\n\n"
        "Then move `sparsity`, change the prompt, and look at the two pictures.",
        (0, 0), (380, 300),
    )  # fmt: skip
    models = g.node("SkrrDemoModels", (420, 0), 340)
    # The built-in prompts speak of what this model has never seen, in hundreds of its small tokenizer's tokens each.
    captions = "\n".join(calibration_captions(64))
    prompts = g.node(
        "SkrrCalibrate", (420, models.bottom + 80), 340, 420, clip=models[1], model=models[0], prompts="text",
        text=captions,
    )  # fmt: skip
    found = g.node(
        "SkrrSearch", (840, 0), 440, SEARCH, clip=models[1], model=models[0], calibration=prompts[0], sparsity=0.4,
        beam=1, name="demo",
    )  # fmt: skip
    apply = g.node("SkrrApply", (1340, 0), 400, APPLY, clip=models[1], plan=found[0], sparsity=0.4)
    text = "three white squares"
    prompt = g.node("PrimitiveStringMultiline", (1340, apply.bottom + 120), 400, called="Prompt", value=text)
    latent = g.node("EmptyLatentImage", (1340, prompt.bottom + 60), 400, width=64, height=64)
    rows = []
    for y, name, source in ((0, "dense", models[1]), (660, "pruned", apply[0])):
        text = g.node("CLIPTextEncode", (1820, y), 300, 100, called=f"Prompt, {name}", clip=source, text=prompt[0])
        nothing = g.node("CLIPTextEncode", (1820, text.bottom + 50), 300, 100, called="Empty", clip=source, text="")
        sampler = g.node(
            "KSampler", (2160, y), 300, model=models[0], positive=text[0], negative=nothing[0],
            latent_image=latent[0], seed=7, steps=20, cfg=4.0, sampler_name="euler", scheduler="simple",
        )  # fmt: skip
        decode = g.node("VAEDecode", (2160, sampler.bottom + 50), 300, samples=sampler[0], vae=models[2])
        image = g.node("PreviewImage", (2500, y), 300, 320, called=name.capitalize(), images=decode[0])
        rows.append((text, nothing, sampler, decode, image))
    report = g.node(
        "SkrrReport", (2860, 0), 560, 760, dense=models[1], pruned=apply[0], prompt=prompt[0], model=models[0],
        dense_picture=rows[0][3][0], pruned_picture=rows[1][3][0],
    )  # fmt: skip
    g.group("Comes with the pack", "load", models, prompts)
    g.group("Search", "skrr", found)
    g.group("Make it smaller", "skrr", apply)
    g.group("The same for both", "prompt", prompt, latent)
    g.group("Dense", "sample", *rows[0])
    g.group("Pruned", "sample", *rows[1])
    g.group("Compare", "skrr", report)


# The file's name without its ending -> how it is drawn. The page lists them by their names: the demo comes first.
GRAPHS = {
    "skrr_1_demo": demo,
    "skrr_2_free_flux2_klein": free.flux2_klein,
    "skrr_2_free_z_image": free.z_image,
    "skrr_2_free_qwen_image": free.qwen_image,
    "skrr_2_free_wan": free.wan,
    "skrr_2_free_ltx2": free.ltx2,
    "skrr_3_plan_flux1_dev": flux1_dev,
    "skrr_3_plan_sd3": sd3,
    "skrr_3_plan_pixart_sigma": pixart_sigma,
    "skrr_4_search": search,
    "skrr_4_compare": compare,
    "skrr_4_load_less": load_less,
}
