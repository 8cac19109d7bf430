"""ComfyUI's language models of the Llama kind: Llama, Mistral, Ministral, Qwen2.5, Qwen3, Qwen-VL, Ovis, Gemma 2 and 3.

A sub-block is the norm, the body and, in Gemma, the norm behind the body. What is inside a body (merged matrices, norms
of queries and keys) is its own business: nothing here asks for it by name.
"""

from collections.abc import Mapping
from types import MappingProxyType

import torch
from comfy.text_encoders.llama import Llama2_, TransformerBlock, TransformerBlockGemma2

from ....skrr_engine.plans.architecture import Architecture
from ..weights.weights import count_parameters
from .anatomy import SENSES, Anatomy, children
from .llama_walk import LlamaStack

__all__ = ["anatomy", "architecture", "cut", "matches", "norms", "output", "owned", "parts", "stack"]

NOTHING = MappingProxyType({})
ACTIVATIONS = {"silu": "silu", "gelu_pytorch_tanh": "gelu_tanh"}
# The attributes of a layer that make sub-block 0 (attention) and 1 (feed-forward): norm, body, norm behind it.
NAMES = {
    TransformerBlock: (("input_layernorm", "self_attn", None), ("post_attention_layernorm", "mlp", None)),
    TransformerBlockGemma2: (
        ("input_layernorm", "self_attn", "post_attention_layernorm"),
        ("pre_feedforward_layernorm", "mlp", "post_feedforward_layernorm"),
    ),
}


def matches(transformer) -> bool:
    """Whether `transformer` runs plain layers with ComfyUI's Llama2_; those that were taken out whole are none."""
    core = getattr(transformer, "model", None)
    return isinstance(core, Llama2_) and all(type(layer) in (*NAMES, PassOnWithKeys) for layer in core.layers)


def architecture(transformer) -> Architecture:
    """Read from modules and shapes, which every storage format reports alike."""
    core = transformer.model
    layer, (vocabulary, width) = core.layers[0], core.embed_tokens.weight.shape
    attention = layer.self_attn
    inputs = getattr(attention, "qkv_proj", None) or attention.q_proj
    counted = count_parameters(core.layers) + vocabulary * width
    return Architecture(
        family="llama",
        layers=len(core.layers),
        width=width,
        feed_forward=layer.mlp.down_proj.weight.shape[1],
        heads=attention.num_heads,
        head_width=attention.head_dim,
        vocabulary=vocabulary,
        activation=ACTIVATIONS.get(core.config.mlp_activation, core.config.mlp_activation),
        gated=True,
        position_bias="rotary",
        positions=0,
        key_heads=attention.num_kv_heads,
        attention_bias=inputs.bias is not None,
        head_norms=attention.q_norm is not None,
        post_norms=NAMES[type(layer)][0][2] is not None,
        beside=count_parameters(transformer) - counted,
    )


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


def norms(transformer) -> list:
    """The norm weight of every sub-block, in order; None where it was cut."""
    places = [(layer, names[0]) for layer in transformer.model.layers for names in _names(layer)]
    return [getattr(getattr(layer, name, None), "weight", None) for layer, name in places]


def _names(layer):
    return NAMES.get(type(layer), NAMES[TransformerBlock])


def parts(transformer, index: int) -> list:
    """The modules that go with sub-block `index`."""
    layer = transformer.model.layers[index // 2]
    return [getattr(layer, name) for name in _names(layer)[index % 2] if name is not None]


def owned(transformer, index: int) -> list:
    """The modules of sub-block `index`: those that go with it."""
    return parts(transformer, index)


def output(transformer, index: int) -> tuple:
    """The module and the name under which the output layer of sub-block `index` is."""
    layer = transformer.model.layers[index // 2]
    return (layer.mlp, "down_proj") if index % 2 else (layer.self_attn, "o_proj")


def cut(transformer, skip, reuse: dict[int, int], added: Mapping[int, torch.nn.Module] = NOTHING) -> None:
    """Replaces the sub-blocks `skip` by stubs; `reuse` maps a place to the kept sub-block that runs there, `added` to
    the module that says what comes to the stream there too."""
    layers = transformer.model.layers
    for index in skip:
        source = parts(transformer, reuse[index]) if index in reuse else ()
        layer = layers[index // 2]
        for name in _names(layer)[index % 2]:
            if name is not None:
                setattr(layer, name, torch.nn.Identity())
        place = (AttentionPlace, FeedForwardPlace)[index % 2](source, added.get(index))
        setattr(layer, _names(layer)[index % 2][1], place)
        if index % 2 == 0 and source and hasattr(layer, "sliding_attention"):
            # Mask and rotary table come from the layer around, and belong to what runs in it.
            layer.sliding_attention = layers[reuse[index] // 2].sliding_attention


class PassOnWithKeys(torch.nn.Module):
    """A removed layer where a layer hands on the stream and the keys and values of earlier tokens."""

    def forward(self, x, attention_mask=None, freqs_cis=None, optimized_attention=None, past_key_value=None):
        """(the stream as it is, what was remembered before)."""
        return x, past_key_value


class _Place(torch.nn.Module):
    """The body of a skipped sub-block: adds nothing, or what `source` (norm, body, perhaps a norm behind it; held
    unregistered: their bytes belong to their own place) makes of the stream, which Identities in the norms' places let
    through; `added` says what comes to the stream beside that."""

    def __init__(self, source, added=None):
        super().__init__()
        self._source = tuple(source)
        self.added = added

    def _with_added(self, x, found):
        """`found`, or nothing, behind its norm, and what is added beside."""
        for norm in self._source[2:]:
            found = norm(found)
        return found if self.added is None else found + self.added(x)


class AttentionPlace(_Place):
    """The place of a skipped attention."""

    def forward(self, hidden_states, past_key_value=None, **further):
        """As Attention: (what is added to the stream, what is remembered)."""
        if not self._source:
            return self._with_added(hidden_states, 0.0), _remembered(past_key_value, hidden_states)
        norm, body, *_ = self._source
        found, present = body(norm(hidden_states), past_key_value=past_key_value, **further)
        return self._with_added(hidden_states, found), present


class FeedForwardPlace(_Place):
    """The place of a skipped feed-forward."""

    def forward(self, x):
        """As MLP: what is added to the stream."""
        return self._with_added(x, self._source[1](self._source[0](x)) if self._source else 0.0)


def _remembered(past, x):
    """What a layer without keys and values remembers: how far it is, which ComfyUI asks the first layer."""
    if not isinstance(past, list | tuple):
        return past
    key, value, index = past or (x.new_empty(0), x.new_empty(0), 0)
    return key, value, index + x.shape[1]


def stack(encoder):
    """The encoder as a TextStack."""
    return LlamaStack(encoder)
