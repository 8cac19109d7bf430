"""CLIP -> its text encoders: where they sit in the tree, which adapter knows them, what the model reads of them."""

from dataclasses import dataclass
from typing import Any

import torch
from comfy.sd1_clip import SDClipModel

from ....skrr_engine.errors import PlanError, SkrrError
from ....skrr_engine.plans.architecture import Architecture
from ....skrr_engine.plans.plan import Plan
from ....skrr_engine.plans.sketch import TOLERANCE, sketch_of
from ..encoders import adapter_of, has_layer, unknown_kind
from ..weights.weights import count_parameters, is_quantized
from .kinds import outputs_of, tree_family

__all__ = [
    "FREED",
    "LARGEST",
    "SLOTS",
    "Freed",
    "TextEncoder",
    "choose_encoder",
    "encoder_for",
    "find_models",
    "largest_known",
    "text_encoders",
    "tree_family",
]

LARGEST = "largest"
# What ComfyUI's trees call their encoders: what a list can offer before it sees a CLIP. Those that were here first
# stand first, then by kind.
SLOTS = (
    *("t5xxl", "clip_l", "clip_g", "clip_h", "umt5xxl", "umt5base", "mt5xl", "pile_t5xl", "t5base", "t5gemma"),
    *("qwen3_06b", "qwen3_2b", "qwen3_4b", "qwen3_8b", "qwen3vl_4b", "qwen3vl_8b", "qwen3vl_32b"),
    *("qwen25_3b", "qwen25_7b", "qwen35_2b", "qwen35_9b", "mistral3_24b", "ministral3_3b", "llama"),
    *("gemma2_2b", "gemma3_4b", "gemma3_4b_vision", "gemma3_12b", "gemma", "gemma4"),
)
SOME = 64  # numbers of a matrix by which trees are told apart
ATTACHMENT, FREED = "skrr", "skrr_free"
KNOWN = "T5, CLIP and language models (Llama, Mistral, Qwen up to 3, Gemma 2 and 3)"


@dataclass(frozen=True)
class Freed:
    """What was taken out of one encoder beside a plan's cuts (FreeParts), and its shape before, None where the pack
    does not cut its kind. Remembered on the patcher, so that it survives its clones."""

    architecture: Architecture | None
    parts: tuple


@dataclass(frozen=True)
class TextEncoder:
    """One encoder of a CLIP. `adapter` is None if the pack does not know its class."""

    clip: Any
    slot: str
    sd_model: SDClipModel
    adapter: Any

    @property
    def transformer(self):
        """The module that holds the layers."""
        return self.sd_model.transformer

    @property
    def key_prefix(self) -> str:
        """Where the transformer's keys stand in the tree's state dict."""
        modules = self.clip.patcher.model.named_modules()
        return next(path for path, module in modules if module is self.transformer) + "."

    @property
    def architecture(self) -> Architecture:
        """Its shape when dense: read from the modules, or remembered by the Skrr Apply that made it smaller."""
        for key in (ATTACHMENT, FREED):
            made = self.clip.patcher.get_attachment(key) or {}
            if self.slot in made:
                return made[self.slot].architecture
        return self.adapter.architecture(self.transformer)

    @property
    def freed(self) -> tuple:
        """The free parts (FreeParts) that an earlier Skrr Apply took out of it."""
        freed = self.clip.patcher.get_attachment(FREED) or {}
        return freed[self.slot].parts if self.slot in freed else ()

    def has(self, index: int) -> bool:
        """Whether the layer of sub-block `index` is there, not taken out whole."""
        return has_layer(self.transformer, index // 2)

    @property
    def sketch(self) -> tuple[float, ...]:
        """The sketch of its weights, 0 where a sub-block was cut."""
        return sketch_of(self.adapter.norms(self.transformer))

    @property
    def applied(self):
        """The cut that an earlier Skrr Apply made in it, or None."""
        applied = self.clip.patcher.get_attachment(ATTACHMENT) or {}
        return applied[self.slot].cut if self.slot in applied else None

    @property
    def fitted(self) -> tuple[int, ...]:
        """The kept sub-blocks whose output matrix an earlier Skrr Apply exchanged."""
        applied = self.clip.patcher.get_attachment(ATTACHMENT) or {}
        return applied[self.slot].fitted if self.slot in applied else ()

    @property
    def plan(self):
        """The plan, of one level, that it was cut by last, or None."""
        applied = self.clip.patcher.get_attachment(ATTACHMENT) or {}
        return applied[self.slot].plan if self.slot in applied else None

    @property
    def outputs(self) -> tuple[str, ...]:
        """Which of its outputs reach the denoiser: "sequence", "pooled" or both."""
        return outputs_of(self.clip.patcher.model, self.slot, self.sd_model)

    def describe(self) -> str:
        """For sentences: the slot, and the shape or, unknown, the class."""
        if self.adapter is None:
            return f"{self.slot} ({unknown_kind(self.transformer)})"
        return f"{self.slot} ({self.architecture.describe()})"


def find_models(tree) -> dict[str, SDClipModel]:
    """slot -> ComfyUI's wrapper around one encoder, in tree order; "text" where the tree itself is the wrapper."""
    found = tree.named_modules()
    return {path.rpartition(".")[2] or "text": module for path, module in found if isinstance(module, SDClipModel)}


def text_encoders(clip) -> dict[str, TextEncoder]:
    """slot -> TextEncoder, in tree order. The patcher's model is the truth: after some ComfyUI clones
    `clip.cond_stage_model` is another tree of the same build and weights, which then is out of date. Raises SkrrError
    where it is another one altogether: it encodes, and what is cut would not."""
    encodes, managed = clip.cond_stage_model, clip.patcher.model
    same_build = encodes is managed or _build(encodes) == _build(managed)
    if not same_build or not _same_weights(encodes, managed):
        why = "which has other weights" if same_build else "which is another one"
        raise SkrrError(
            f"This CLIP encodes with another encoder ({type(encodes).__name__}) than the one it loads "
            f"({type(managed).__name__}), {why}: it was split from another CLIP. Connect the whole CLIP to Skrr, and "
            "split it after that."
        )
    return {
        slot: TextEncoder(clip, slot, sd_model, adapter_of(sd_model.transformer))
        for slot, sd_model in find_models(managed).items()
    }


def _build(tree) -> tuple[str, list[str]]:
    """A tree's class, by name (ComfyUI's loaders make a new one each time), and where its modules are."""
    return f"{type(tree).__module__}.{type(tree).__qualname__}", [path for path, _ in tree.named_modules()]


def _same_weights(one, other) -> bool:
    """By the vectors (norms, biases), which are small and which LoRA leave alone: a tree that is out of date has them
    too, loaded or not. Of two trees at rest, without any LoRA in their weights, a few numbers of every matrix stored
    alike are equal as well. Where the bytes lie says nothing: ComfyUI reads it from its file anew."""
    if one is other:
        return True
    at_rest = all(getattr(tree, "current_weight_patches_uuid", None) is None for tree in (one, other))
    theirs = dict(other.named_parameters())
    for name, ours in one.named_parameters():
        pair = (ours, theirs.get(name, ours))
        if any(is_quantized(tensor) or tensor.is_meta for tensor in pair):
            continue
        if ours.dim() == 1:
            a, b = (tensor.detach().as_subclass(torch.Tensor).cpu().float() for tensor in pair)
            if a.shape != b.shape or (a - b).norm() > TOLERANCE * a.norm():
                return False
        elif at_rest and pair[0].dtype == pair[1].dtype and not torch.equal(*map(_some, pair)):
            return False
    return True


def _some(matrix: torch.Tensor) -> torch.Tensor:
    """A few numbers out of its middle, side by side: one page of a file that is not in memory."""
    middle = matrix.numel() // 2
    return matrix.detach().as_subclass(torch.Tensor).flatten()[middle : middle + SOME].cpu().float()


def choose_encoder(clip, slot: str = LARGEST) -> TextEncoder:
    """The encoder in `slot`, or the one with the most parameters. Refuses what the pack does not know, with a
    sentence naming what it found."""
    encoders = text_encoders(clip)
    if not encoders:
        raise SkrrError(f"This CLIP ({type(clip.patcher.model).__name__}) holds no text encoder that Skrr can cut.")
    listing = ", ".join(encoder.describe() for encoder in encoders.values())
    known = {name: encoder for name, encoder in encoders.items() if encoder.adapter is not None}
    if slot == LARGEST:
        return _largest(encoders, known, listing)
    if slot not in encoders:
        raise SkrrError(f"This CLIP has no encoder {slot!r}; it holds {listing}.")
    if slot not in known:
        raise SkrrError(f"Skrr cannot cut {encoders[slot].describe()}; it cuts {KNOWN}.")
    return known[slot]


def encoder_for(clip, plan: Plan, slot: str) -> TextEncoder:
    """The encoder that `plan` has a cut of in `slot`. Raises PlanError where it is another one than the plan is for."""
    encoder = choose_encoder(clip, slot)
    differences = plan.encoders[slot].architecture.differences(encoder.architecture)
    if differences:
        raise PlanError(
            f"Plan {plan.name!r} is for another encoder than {encoder.describe()}: it differs in "
            f"{'; '.join(differences)} (plan -> this CLIP). Choose a plan made for this one, or search for one."
        )
    return encoder


def largest_known(clip) -> TextEncoder:
    """The one with the most parameters of those the pack can cut: where any will do, and none was asked for."""
    known = {name: encoder for name, encoder in text_encoders(clip).items() if encoder.adapter is not None}
    return max(known.values(), key=_parameters) if known else choose_encoder(clip)


def _largest(encoders: dict, known: dict, listing: str) -> TextEncoder:
    """The largest of `encoders`; never a smaller one in the place of one that cannot be cut."""
    if not known:
        raise SkrrError(f"Skrr cuts {KNOWN}; this CLIP holds {listing}.")
    largest = max(encoders.values(), key=_parameters)
    if largest.adapter is None:
        raise SkrrError(
            f"The largest encoder of this CLIP is {largest.describe()}, so {LARGEST!r} would be another one than it "
            f"says. Choose one of those that Skrr can cut by its name: {', '.join(known)}."
        )
    return largest


def _parameters(encoder: TextEncoder) -> int:
    """How many it has when dense."""
    if encoder.adapter is None:
        return count_parameters(encoder.transformer)
    return encoder.architecture.total_parameters
