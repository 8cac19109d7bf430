"""CLIP -> its text encoders: where they sit in the tree, which adapter knows them, what the model reads of them."""

from dataclasses import dataclass
from typing import Any

from comfy.sd1_clip import SDClipModel

from ....skrr_engine.errors import SkrrError
from ....skrr_engine.plans.architecture import Architecture
from ....skrr_engine.plans.sketch import sketch_of
from ..encoders import adapter_of

__all__ = ["LARGEST", "TextEncoder", "choose_encoder", "find_models", "text_encoders", "tree_family"]

LARGEST = "largest"
ATTACHMENT = "skrr"

# ComfyUI's multi-encoder trees by class name, and which outputs of each encoder reach the denoiser.
# An encoder or tree that is not named hands on its sequence.
OUTPUTS = {
    "FluxClipModel": ("flux", {"clip_l": ("pooled",)}),
    "SD3ClipModel": ("sd3", {"clip_l": ("sequence", "pooled"), "clip_g": ("sequence", "pooled")}),
    "SDXLClipModel": ("sdxl", {"clip_g": ("sequence", "pooled")}),
    "SDXLRefinerClipModel": ("sdxl", {"clip_g": ("sequence", "pooled")}),
    "HunyuanVideoClipModel": ("hunyuan video", {"clip_l": ("pooled",)}),
    "HiDreamTEModel": ("hidream", {"clip_l": ("pooled",), "clip_g": ("pooled",)}),
    "PixArtT5XXL": ("pixart", {}),
    "SD1ClipModel": ("sd1", {}),
}


def tree_family(tree) -> str:
    """The kind of CLIP: "flux", "sd3", "pixart" (also Chroma's), …; the class name where it is not known."""
    names = [cls.__name__ for cls in type(tree).__mro__]
    return next((OUTPUTS[name][0] for name in names if name in OUTPUTS), type(tree).__name__)


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
        """Its shape when dense: read from the modules, or remembered by the SkrrApply that cut it."""
        applied = self.clip.patcher.get_attachment(ATTACHMENT) or {}
        return applied[self.slot].architecture if self.slot in applied else self.adapter.architecture(self.transformer)

    @property
    def sketch(self) -> tuple[float, ...]:
        """The sketch of its weights, 0 where a sub-block was cut."""
        return sketch_of(self.adapter.norms(self.transformer))

    @property
    def applied(self):
        """The cut that an earlier SkrrApply made in it, or None."""
        applied = self.clip.patcher.get_attachment(ATTACHMENT) or {}
        return applied[self.slot].cut if self.slot in applied else None

    @property
    def plan(self):
        """The plan, of one level, that it was cut by last, or None."""
        applied = self.clip.patcher.get_attachment(ATTACHMENT) or {}
        return applied[self.slot].plan if self.slot in applied else None

    @property
    def outputs(self) -> tuple[str, ...]:
        """Which of its outputs reach the denoiser: "sequence", "pooled" or both."""
        for cls in type(self.clip.patcher.model).__mro__:
            if cls.__name__ in OUTPUTS:
                return OUTPUTS[cls.__name__][1].get(self.slot, ("sequence",))
        return ("sequence",)

    def describe(self) -> str:
        """For sentences: the slot, and the shape or, unknown, the class."""
        if self.adapter is None:
            return f"{self.slot} (a {type(self.transformer).__name__}, which this pack does not know)"
        return f"{self.slot} ({self.architecture.describe()})"


def find_models(tree) -> dict[str, SDClipModel]:
    """slot -> ComfyUI's wrapper around one encoder, in tree order; "text" where the tree itself is the wrapper."""
    found = tree.named_modules()
    return {path.rpartition(".")[2] or "text": module for path, module in found if isinstance(module, SDClipModel)}


def text_encoders(clip) -> dict[str, TextEncoder]:
    """slot -> TextEncoder, in tree order. The patcher's model is the truth: after some ComfyUI clones
    `clip.cond_stage_model` is another tree."""
    return {
        slot: TextEncoder(clip, slot, sd_model, adapter_of(sd_model.transformer))
        for slot, sd_model in find_models(clip.patcher.model).items()
    }


def choose_encoder(clip, slot: str = LARGEST) -> TextEncoder:
    """The encoder in `slot`, or the one with the most parameters. Refuses what the pack does not know, with a
    sentence naming what it found."""
    encoders = text_encoders(clip)
    if not encoders:
        raise SkrrError(f"This CLIP ({type(clip.patcher.model).__name__}) holds no text encoder that Skrr can cut.")
    known = {name: encoder for name, encoder in encoders.items() if encoder.adapter is not None}
    listing = ", ".join(encoder.describe() for encoder in encoders.values())
    if slot == LARGEST:
        if not known:
            raise SkrrError(f"Skrr cuts T5 and CLIP text encoders; this CLIP holds {listing}.")
        return max(known.values(), key=lambda encoder: encoder.architecture.total_parameters)
    if slot not in encoders:
        raise SkrrError(f"This CLIP has no encoder {slot!r}; it holds {listing}.")
    if slot not in known:
        raise SkrrError(f"Skrr cannot cut {encoders[slot].describe()}; it cuts T5 and CLIP text encoders.")
    return known[slot]
