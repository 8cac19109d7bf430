"""ComfyUI's T5Gemma (Stable Audio 3), from the release that has it on."""

import sys

from .anatomy import Anatomy, PassOn

__all__ = ["WHY_NOT", "anatomy", "matches"]

# Why it is not searched, for sentences.
WHY_NOT = "a T5Gemma, which Skrr does not cut yet"


def matches(transformer) -> bool:
    """Whether `transformer` is ComfyUI's T5Gemma. Older releases have no such module, and nothing has loaded it."""
    module = sys.modules.get("comfy.text_encoders.sa3")
    return module is not None and isinstance(transformer, module.T5GemmaModel)


def anatomy(transformer) -> Anatomy:
    """An encoder only: no head, no tower."""
    return Anatomy(
        core="model.encoder",
        layers="model.encoder.layers",
        norm="model.encoder.norm",
        table="model.encoder.embed_tokens",
        stub=PassOn,
    )
