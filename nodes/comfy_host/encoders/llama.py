"""ComfyUI's language models of the Llama kind: Llama, Mistral, Ministral, Qwen2.5, Qwen3, Qwen3.5, Qwen-VL, Ovis,
Gemma 2 and 3."""

import torch
from comfy.text_encoders.llama import Llama2_

from .anatomy import SENSES, Anatomy, children

__all__ = ["anatomy", "matches"]


def matches(transformer) -> bool:
    """Whether `transformer` runs its layers with ComfyUI's Llama2_."""
    return isinstance(getattr(transformer, "model", None), Llama2_)


def anatomy(transformer) -> Anatomy:
    """Heads stand beside the layers, towers beside the language model."""
    return Anatomy(
        core="model",
        layers="model.layers",
        norm="model.norm" if transformer.model.norm is not None else None,
        table="model.embed_tokens",
        stub=PassOnWithKeys,
        head=("model.lm_head",) if hasattr(transformer.model, "lm_head") else (),
        tower=children(transformer, SENSES),
    )


class PassOnWithKeys(torch.nn.Module):
    """A removed layer where a layer hands on the stream and the keys and values of earlier tokens."""

    def forward(self, x, attention_mask=None, freqs_cis=None, optimized_attention=None, past_key_value=None):
        """(the stream as it is, what was remembered before)."""
        return x, past_key_value
