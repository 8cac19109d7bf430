"""Dense CLIP against pruned CLIP on one prompt: what each weighs, how long it takes, and how far the features that
reach the denoiser moved. Both run as the workflow runs them; neither is changed."""

import time
from dataclasses import dataclass

import comfy.model_management as mm
import torch
from comfy.utils import ProgressBar

from ....skrr_engine.errors import SkrrError
from ..clip.trees import largest_known, text_encoders, tree_family
from ..weights.memory import module_bytes
from ..weights.weights import patch_digest
from .probing import Change, Probe, clip_options

__all__ = ["Comparison", "EncoderSizes", "compare"]


@dataclass(frozen=True)
class EncoderSizes:
    """One encoder, (dense, pruned). `parameters` is None where the pack does not know its class, `change` where it
    was not measured; `skipped` counts removed sub-blocks and `sub_blocks` all of them."""

    slot: str
    bytes: tuple[int, int]
    parameters: tuple[int, int] | None = None
    skipped: tuple[int, int] = (0, 0)
    sub_blocks: int = 0
    change: Change | None = None


@dataclass(frozen=True)
class Comparison:
    """Everything measured, (dense, pruned). `seconds` holds every timed encode of the prompt; `notes` are sentences
    on what to know before trusting the figures."""

    prompt: str
    device: str
    clip_bytes: tuple[int, int]
    encoders: tuple[EncoderSizes, ...]
    seconds: tuple[tuple[float, ...], tuple[float, ...]]
    notes: tuple[str, ...]


def compare(dense, pruned, prompt: str, model=None, runs: int = 3) -> Comparison:
    """Compares the CLIPs `dense` and `pruned` on `prompt`, behind the projection of `model` (MODEL, ProjectionFile or
    None: the encoders' own outputs). Every encoder that Skrr cut is measured; where none is cut, the largest.

    `runs` encodes of each are timed, after one that is not. Raises SkrrError where the two do not belong together.
    """
    _same_kind(dense, pruned)
    notes = []
    if _cuts(dense) and not _cuts(pruned):
        dense, pruned = pruned, dense
        notes.append(
            "Warning: the two CLIPs are in the wrong order; they were compared the other way round. Connect the CLIP "
            "that goes into Skrr Apply to dense, and the one that comes out to pruned."
        )
    notes += _notes(dense, pruned)
    slots = sorted(_cuts(dense) | _cuts(pruned)) or [largest_known(dense).slot]
    _plain(dense.tokenize(prompt))
    with torch.inference_mode():
        probes = [Probe(dense, slot, prompt, model) for slot in slots]
        bar = ProgressBar(2 * (1 + runs + len(probes)))
        found = [_measure(clip, prompt, probes, runs, bar) for clip in (dense, pruned)]
        changes = {probe.slot: probe.change(*(outputs[probe.slot] for outputs, _ in found)) for probe in probes}
    pairs = zip(text_encoders(dense).items(), text_encoders(pruned).values(), strict=True)
    return Comparison(
        prompt=prompt,
        device=str(pruned.patcher.load_device),
        clip_bytes=(module_bytes(dense.patcher.model), module_bytes(pruned.patcher.model)),
        encoders=tuple(_sizes(slot, (a, b), changes.get(slot)) for (slot, a), b in pairs),
        seconds=(found[0][1], found[1][1]),
        notes=tuple(notes),
    )


def _cuts(clip) -> set[str]:
    return {slot for slot, encoder in text_encoders(clip).items() if encoder.applied is not None}


def _same_kind(dense, pruned) -> None:
    """Refuses CLIPs between which no position of the features corresponds."""
    for clip in (dense, pruned):
        if clip.patcher.forced_hooks is not None:
            raise SkrrError("One of the CLIPs carries hooks. Compare the CLIPs before the node that sets them.")
    families = [tree_family(clip.patcher.model) for clip in (dense, pruned)]
    encoders = [text_encoders(clip) for clip in (dense, pruned)]
    same = families[0] == families[1] and encoders[0].keys() == encoders[1].keys()
    if not same or not all(_alike(a, encoders[1][slot]) for slot, a in encoders[0].items()):
        named = (
            f"{family} with {', '.join(encoder.describe() for encoder in found.values())}"
            for family, found in zip(families, encoders, strict=True)
        )
        raise SkrrError(
            f"The two CLIPs are of different kinds: {' against '.join(named)}. Connect to dense the CLIP that goes "
            "into Skrr Apply, and to pruned the one that comes out."
        )


def _alike(a, b) -> bool:
    if a.adapter is None or b.adapter is None:
        return type(a.transformer) is type(b.transformer)
    return not a.architecture.differences(b.architecture)


def _notes(dense, pruned) -> list[str]:
    """What else than pruning the two differ in."""
    notes = []
    same = dense.patcher.model is pruned.patcher.model
    if same:
        notes.append("Both inputs are the same encoder: nothing was removed between them.")
    elif not _cuts(pruned):
        notes.append("Neither CLIP was cut by Skrr; they are compared as they are.")
    elif _cuts(dense):
        notes.append("The CLIP at dense is cut too; the figures are the difference between the two cuts.")
    # Patches of removed sub-blocks are gone on purpose.
    keys = set(dense.patcher.model.state_dict()) & set(pruned.patcher.model.state_dict())
    digests = [
        patch_digest({k: v for k, v in clip.patcher.patches.items() if k in keys}, "") for clip in (dense, pruned)
    ]
    if digests[0] != digests[1]:
        notes.append("Warning: the two CLIPs carry different LoRA or merges; the figures include their effect.")
    elif dense.patcher.patches:
        notes.append("Both CLIPs carry the same LoRA or merges.")
    if dense.layer_idx != pruned.layer_idx:
        notes.append("Warning: the two CLIPs have different clip skip; the figures include its effect.")
    return notes


def _sizes(slot: str, pair: tuple, change: Change | None) -> EncoderSizes:
    sizes = tuple(module_bytes(encoder.transformer) for encoder in pair)
    if pair[0].adapter is None:
        return EncoderSizes(slot, sizes)
    architecture = pair[0].architecture
    skips = [encoder.applied.skip if encoder.applied else () for encoder in pair]
    return EncoderSizes(
        slot=slot,
        bytes=sizes,
        parameters=tuple(architecture.total_parameters - architecture.parameters_of(skip) for skip in skips),
        skipped=tuple(len(skip) for skip in skips),
        sub_blocks=architecture.sub_blocks,
        change=change,
    )


def _plain(tokens: dict) -> None:
    """The positions of a textual inversion are not those of the token ids."""
    if any(not isinstance(token, int) for rows in tokens.values() for row in rows for token, *_ in row):
        raise SkrrError(
            "The prompt uses a textual-inversion embedding, which cannot be compared position by position. "
            "Take it out of the prompt."
        )


def _measure(clip, prompt: str, probes: list, runs: int, bar) -> tuple[dict, tuple[float, ...]]:
    """slot -> features of the prompt and of the empty prompt; and the seconds of each timed encode."""
    tokens, outputs = clip.tokenize(prompt), {}
    _encode(clip, tokens)  # loads the weights, and is not timed
    bar.update(1)
    for probe in probes:
        with clip_options(clip):
            outputs[probe.slot] = probe.features(clip)
        bar.update(1)
    seconds = []
    for _ in range(runs):
        mm.throw_exception_if_processing_interrupted()
        seconds.append(_encode(clip, tokens))
        bar.update(1)
    return outputs, tuple(seconds)


def _encode(clip, tokens) -> float:
    """Seconds of an encode as CLIPTextEncode does it, until its numbers are there."""
    start = time.perf_counter()
    clip.encode_from_tokens(tokens).sum().item()  # .item() waits for a GPU
    seconds = time.perf_counter() - start
    clip.patcher.model.reset_clip_options()
    return seconds
