"""Searching language-model encoders, a line a family: a plan's discrepancy is what ComfyUI's own encode of the cut CLIP
gives behind the denoiser's own first text modules."""

from dataclasses import replace

import pytest
import torch

from ..free_clips import talking_clip
from ..small_denoisers import small_denoiser

PROMPTS = ("a red fox", "two blue lanterns above a wooden boat, seen from the shore")
# family -> denoiser, layers of the encoder (None: as many as the real one), its text modules.
FAMILIES = {
    "Z-Image": ("NextDiT", 6, lambda m, c: m.cap_embedder(c)),
    "Lumina 2": ("NextDiT", 6, lambda m, c: m.cap_embedder(c)),
    "Lumina 2 with Gemma 3": ("NextDiT", 6, lambda m, c: m.cap_embedder(c)),
    "NewBie": ("NextDiT", 6, lambda m, c: m.cap_embedder(c)),
    "FLUX.2 dev": ("Flux, three states", 31, lambda m, c: m.txt_in(c)),
    "FLUX.2 klein 4B": ("Flux, three states", 28, lambda m, c: m.txt_in(c)),
    "LongCat-Image": ("Flux", 6, lambda m, c: m.txt_in(c)),
    "Ovis-Image": ("Flux, norm", 6, lambda m, c: m.txt_in(m.txt_norm(c))),
    "Qwen-Image": ("Qwen-Image", 6, lambda m, c: m.txt_in(m.txt_norm(c))),
    "Wan": ("Wan", None, lambda m, c: m.text_embedding(c)),
    "HunyuanVideo": ("HunyuanVideo", 6, lambda m, c: m.txt_in.input_embedder(c)),
    "HunyuanImage 2.1, HunyuanVideo 1.5": ("HunyuanVideo", 6, lambda m, c: m.txt_in.input_embedder(c)),
    "Kandinsky 5": ("Kandinsky 5", 6, lambda m, c: m.text_embeddings(c)),
    "OmniGen2": ("OmniGen2", 6, lambda m, c: m.time_caption_embed.caption_embedder(c)),
    "Boogu": ("Boogu", 6, lambda m, c: m.time_caption_embed.caption_embedder(c)),
    "Ideogram 4": ("Ideogram 4", 36, lambda m, c: m.llm_cond_proj(m.llm_cond_norm(c))),
    "Krea 2": ("Krea 2", 36, lambda m, c: fused(m.txtfusion, c)),
    "MageFlow": ("MageFlow", 6, lambda m, c: m.txt_in(m.txt_norm(c))),
    "JoyImage": ("JoyImage", 6, lambda m, c: m.condition_embedder.text_embedder(c)),
    "MiniMax H3": ("MiniMax H3", 6, lambda m, c: m.condition_proj(c)),
    "ERNIE-Image": ("ERNIE-Image", 6, lambda m, c: m.text_proj(c)),
    "PixelDiT": ("PixelDiT", 6, lambda m, c: m.y_embedder(c)),
    "HiDream-I1": ("HiDream-I1", None, lambda m, c: one_a_state(m, c)),
}


# Filled up with rows of zeros, which say nothing.
ZEROS = ("Wan", "Ovis-Image")


def fused(fusion, cond):
    """Krea 2's blocks over states and its one out of all, without the blocks over tokens behind."""
    fusion.refiner_blocks = torch.nn.ModuleList()
    return fusion(cond.unflatten(-1, (12, -1)))


def one_a_state(model, states):
    """HiDream's, as it reads them in the order of its blocks; the last projection is T5's."""
    found = [states[:, k] for k in model.llama_layers]
    return torch.cat([model.caption_projection[i](state) for i, state in enumerate(found)], dim=-1)


@pytest.fixture
def made(pack, monkeypatch):
    """made(family) -> (CLIP, MODEL, TextEncoder, its features of what the CLIP hands on)."""

    def make(name):
        denoiser, layers, read = FAMILIES[name]
        model = small_denoiser(denoiser)
        clip = talking_clip(name, monkeypatch, layers)
        encoder = pack("nodes.comfy_host.clip.trees").choose_encoder(clip, slot_of(pack, clip))

        def features(some, text):
            found = some.encode_from_tokens(some.tokenize(text), return_dict=True)
            with torch.inference_mode():
                return read(model.model.diffusion_model, found.get("conditioning_llama3", found["cond"]))

        return clip, model, encoder, features

    return make


def slot_of(pack, clip):
    """Of the one that is neither a CLIP text model nor a T5, or else of the T5."""
    encoders = pack("nodes.comfy_host.clip.trees").text_encoders(clip)
    language = [slot for slot, e in encoders.items() if e.adapter is pack("nodes.comfy_host.encoders.llama")]
    return (language or list(encoders))[0]


@pytest.mark.parametrize("name", FAMILIES)
def test_search_and_apply(pack, made, name):
    clip, model, encoder, features = made(name)
    searching, calibrating = (pack(f"nodes.comfy_host.search.{n}") for n in ("searching", "calibrating"))
    # Dead sub-blocks go first; two more have to go too.
    reads = pack("nodes.comfy_host.clip.reads").reads_of(
        clip, encoder.slot, encoder.sd_model, encoder.adapter.anatomy(encoder.transformer)
    )
    sparsity = encoder.architecture.sparsity(range(2 * (reads.of - reads.layers) + 2)) * 0.99
    settings = pack("skrr_engine.jobs.search").Settings(encoder.slot, sparsity, beam=1, name=f"of {encoder.slot}")
    plan, sentence = searching.run_search(encoder, model, calibrating.tokenize(clip, PROMPTS), settings)
    assert sentence.startswith("Compared behind "), sentence
    level = plan.levels[-1]
    small = pack("nodes.comfy_host.clip.patching").apply_level(clip, plan, level).clip

    def mse(text):
        counted = slice(None)
        if name in ZEROS:
            counted = clip.encode_from_tokens(clip.tokenize(text))[0].any(dim=1)
        a, b = (features(one, text) for one in (clip, small))
        return (a - b)[:, counted].square().mean().item()

    wanted = sum(map(mse, PROMPTS)) / len(PROMPTS) + mse("")
    assert wanted > 0
    assert level.discrepancy["value"] == pytest.approx(wanted, rel=2e-3)
    assert plan.denoiser["family"] == plan.denoiser["projection"].partition(": ")[0]


def test_a_search_that_ends_with_corrections(pack, made, tmp_path, monkeypatch):
    """Fitted on a Gemma, whose norms stand behind its sub-blocks, and taken by Skrr Apply: less is wrong with them."""
    monkeypatch.setattr("folder_paths.get_folder_paths", lambda kind: [str(tmp_path)])
    clip, model, encoder, features = made("Lumina 2")
    searching, calibrating = (pack(f"nodes.comfy_host.search.{n}") for n in ("searching", "calibrating"))
    colours = ("red", "blue", "green", "old", "tall", "wet", "dim")
    things = ("fox", "boat", "lamp", "hill", "tree", "road")
    prompts = [f"a {colour} {thing} {n}" for n, (colour, thing) in enumerate((c, t) for c in colours for t in things)]
    sparsity = encoder.architecture.sparsity(range(8)) * 0.99
    settings = pack("skrr_engine.jobs.search").Settings(encoder.slot, sparsity, beam=1, reuse=False, name="gemma")
    tokens = calibrating.tokenize(clip, prompts)
    plan, sentence = searching.run_search(encoder, model, tokens, settings, corrections=True)
    (level,) = [level for level in plan.levels if level.corrections is not None]
    given = pack("nodes.comfy_host.files.side_files").corrections_for(level)
    assert given[encoder.slot].added, sentence
    plain, corrected = (
        pack("nodes.comfy_host.clip.patching").apply_level(clip, plan, part, *more).clip
        for part, more in ((replace(level, corrections=None), ()), (level, (given,)))
    )

    def mse(some):
        return sum((features(clip, p) - features(some, p)).square().mean().item() for p in prompts)

    assert mse(corrected) < mse(plain)
