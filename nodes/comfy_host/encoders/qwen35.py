"""ComfyUI's Qwen3.5: three of four layers are DeltaNets, which keep a state instead of attending."""

from comfy.text_encoders.llama import Llama2_

from . import llama

__all__ = ["WHY_NOT", "anatomy", "matches"]

# Why it is not searched, for sentences.
WHY_NOT = "a Qwen3.5, whose DeltaNet layers Skrr does not cut"


def matches(transformer) -> bool:
    """Whether `transformer` runs other layers than plain ones with ComfyUI's Llama2_."""
    return isinstance(getattr(transformer, "model", None), Llama2_) and not llama.matches(transformer)


def anatomy(transformer):
    """Parts stand where the Llama kind has them."""
    return llama.anatomy(transformer)
