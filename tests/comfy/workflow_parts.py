"""What several workflows have in common: the prompt, heights, the sampler's nodes, frames."""

from __future__ import annotations

from .workflow_maker import Graph

__all__ = ["APPLY", "APPLY_ALONE", "LOADER", "PLAN", "PROMPT", "SAVE_PLAN", "SEARCH", "frames", "sampler", "smaller"]

PROMPT = (
    "a red fox in a yellow raincoat reading a paper map under a street lantern, rain, evening, two paper boats in the "
    "gutter, photograph"
)
# What the page draws on these nodes takes room: their heights, with what is folded away.
PLAN, APPLY, LOADER, SAVE_PLAN, SEARCH = 440, 520, 560, 400, 900
APPLY_ALONE = 420


def smaller(g: Graph, clip, x: int, y: int):
    """Skrr Apply, which chooses the published plan by itself, and below it the report."""
    apply = g.node("SkrrApply", (x, y), 400, APPLY, clip=clip, sparsity=0.4)
    report = g.node("PreviewAny", (x, apply.bottom + 160), 400, 270, called="What was removed", source=apply[1])
    return apply, report


def sampler(g: Graph, at, model, positive, negative, latent, vae, prefix: str, high: int = 560, **settings):
    """KSampler, VAE Decode and Save Image, one below the other; returned as a tuple."""
    samples = g.node(
        "KSampler", at, model=model, positive=positive, negative=negative, latent_image=latent, seed=7, **settings
    )
    decode = g.node("VAEDecode", (at[0], samples.bottom + 60), samples=samples[0], vae=vae)
    save = g.node("SaveImage", (samples.right + 40, at[1]), 480, high, images=decode[0], filename_prefix=prefix)
    return samples, decode, save


def frames(g: Graph, load, report, ours, prompt, sampling) -> None:
    """A frame around each step."""
    g.group("1  Load", "load", *load)
    g.group("2  Make the text encoder smaller", "skrr", *ours)
    g.group("3  Prompt", "prompt", *prompt)
    g.group("4  Picture", "sample", *sampling)
    g.group("Report", "note", report)
