"""ComfyUI's Gemma 4, from the release that has it on."""

import sys
from dataclasses import replace

import torch

from . import llama
from .anatomy import Anatomy

__all__ = ["WHY_NOT", "anatomy", "matches"]

# Why it is not searched, for sentences.
WHY_NOT = "a Gemma 4, which Skrr does not cut yet"


def matches(transformer) -> bool:
    """Whether `transformer` is ComfyUI's Gemma 4. Older releases have no such module, and nothing has loaded it."""
    module = sys.modules.get("comfy.text_encoders.gemma4")
    return module is not None and isinstance(getattr(transformer, "model", None), module.Gemma4Transformer)


def anatomy(transformer) -> Anatomy:
    """Parts stand where the Llama kind has them. All of its models read every state, so no layer of it is dead as
    ComfyUI sets it up."""
    return replace(llama.anatomy(transformer), stub=PassOnWithShared)


class PassOnWithShared(torch.nn.Module):
    """A removed layer where a layer also hands on keys and values for later layers."""

    sliding_attention = False

    def forward(self, x, attention_mask=None, freqs_cis=None, past_key_value=None, **kwargs):
        """(the stream as it is, what was remembered before, nothing to share)."""
        return x, past_key_value, None
