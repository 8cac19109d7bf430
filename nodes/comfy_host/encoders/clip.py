"""ComfyUI's CLIP text models (CLIP-L, CLIP-G and relatives)."""

from collections.abc import Mapping
from types import MappingProxyType

import comfy.clip_model as comfy_clip
import torch
from comfy.ldm.modules.attention import optimized_attention_for_device
from comfy.ops import cast_to

from ....skrr_engine.plans.architecture import Architecture
from ....skrr_engine.precision import narrow
from .anatomy import Anatomy, PassOn
from .running import EncoderStack

__all__ = ["anatomy", "architecture", "cut", "matches", "norms", "output", "owned", "parts", "stack"]

NOTHING = MappingProxyType({})
ACTIVATIONS = {"quick_gelu": "quick_gelu", "gelu": "gelu", "gelu_pytorch_tanh": "gelu_tanh"}
# The attributes of a CLIPLayer that make sub-block 0 (attention) and 1 (feed-forward): norm, then body.
NAMES = (("layer_norm1", "self_attn"), ("layer_norm2", "mlp"))


def matches(transformer) -> bool:
    """Whether `transformer` is ComfyUI's CLIPTextModel."""
    return isinstance(transformer, comfy_clip.CLIPTextModel)


def architecture(transformer) -> Architecture:
    """Read from shapes, which every storage format reports alike."""
    text, layer = transformer.text_model, transformer.text_model.encoder.layers[0]
    vocabulary, width = text.embeddings.token_embedding.weight.shape
    activation = next(name for name, f in comfy_clip.ACTIVATIONS.items() if f is layer.mlp.activation)
    return Architecture(
        family="clip",
        layers=len(text.encoder.layers),
        width=width,
        feed_forward=layer.mlp.fc1.weight.shape[0],
        heads=layer.self_attn.heads,
        head_width=width // layer.self_attn.heads,
        vocabulary=vocabulary,
        activation=ACTIVATIONS.get(activation, activation),
        gated=False,
        position_bias="absolute",
        positions=text.embeddings.position_embedding.weight.shape[0],
        projection=transformer.text_projection.weight.shape[0],
    )


def anatomy(transformer) -> Anatomy:
    """Where its parts stand."""
    return Anatomy(
        core="text_model",
        layers="text_model.encoder.layers",
        norm="text_model.final_layer_norm",
        table="text_model.embeddings.token_embedding",
        stub=PassOn,
        projection="text_projection",
        pooled=True,
    )


def norms(transformer) -> list:
    """The norm weight of every sub-block, in order; None where it was cut."""
    layers = transformer.text_model.encoder.layers
    return [getattr(getattr(layer, name, None), "weight", None) for layer in layers for name, _ in NAMES]


def parts(transformer, index: int) -> list:
    """The modules that go with sub-block `index`."""
    layer = transformer.text_model.encoder.layers[index // 2]
    return [getattr(layer, name) for name in NAMES[index % 2]]


def owned(transformer, index: int) -> list:
    """The modules of sub-block `index`: those that go with it."""
    return parts(transformer, index)


def output(transformer, index: int) -> tuple:
    """The module and the name under which the output layer of sub-block `index` is."""
    layer = transformer.text_model.encoder.layers[index // 2]
    return (layer.mlp, "fc2") if index % 2 else (layer.self_attn, "out_proj")


def cut(transformer, skip, reuse: dict[int, int], added: Mapping[int, torch.nn.Module] = NOTHING) -> None:
    """Replaces the sub-blocks `skip` by stubs; `reuse` maps a place to the kept sub-block that runs there, `added` to
    the module that says what comes to the stream there too."""
    for index in skip:
        source = parts(transformer, reuse[index]) if index in reuse else None
        layer = transformer.text_model.encoder.layers[index // 2]
        norm, body = NAMES[index % 2]
        setattr(layer, norm, torch.nn.Identity())
        setattr(layer, body, Place(source, added.get(index)))


class Place(torch.nn.Module):
    """The body of a skipped sub-block: adds nothing, or what `source` (norm, body; held unregistered: their
    bytes belong to their own place) makes of the stream, which an Identity in the norm's place lets through; `added`
    says what comes to the stream beside that."""

    def __init__(self, source, added=None):
        super().__init__()
        self._source = (source,)
        self.added = added

    def forward(self, x, *args):
        """As CLIPAttention or CLIPMLP: what is added to the stream."""
        more = None if self.added is None else self.added(x)
        if self._source[0] is None:
            return 0.0 if more is None else more
        norm, body = self._source[0]
        found = body(norm(x), *args)
        return found if more is None else found + more


def stack(encoder):
    """The encoder as a TextStack."""
    return _ClipStack(encoder)


class _ClipStack(EncoderStack):
    """The walk of comfy's CLIPTextModel_, one sub-block at a time and never in place."""

    def blocks(self):
        for index in range(2 * len(self.transformer.text_model.encoder.layers)):
            yield parts(self.transformer, index), (self._attention, self._feed_forward)[index % 2]

    def start(self, embeds):
        positions = self.transformer.text_model.embeddings.position_embedding.weight
        return embeds + cast_to(positions, dtype=embeds.dtype, device=embeds.device)

    def context(self, hidden, attention_mask):
        length, least = hidden.shape[1], -torch.finfo(hidden.dtype).max
        mask = torch.full((length, length), least, dtype=hidden.dtype, device=hidden.device).triu_(1)
        if attention_mask is not None:
            rows = attention_mask.shape[0]
            blocked = attention_mask.reshape(rows, 1, 1, length).expand(rows, 1, length, length) == 0
            padding = torch.zeros(blocked.shape, dtype=hidden.dtype, device=hidden.device)
            mask = padding.masked_fill(blocked, least) + mask
        return mask, optimized_attention_for_device(hidden.device, mask=True, small_input=True)

    def _attention(self, modules, hidden, context):
        norm, body = modules
        mask, attend = context
        normed = narrow(norm(hidden), self.products)
        return body(normed, mask.to(normed.dtype), attend)

    def _feed_forward(self, modules, hidden, context):
        norm, body = modules
        return body(narrow(norm(hidden), self.products))

    def read_out(self, states, num_tokens):
        norm = self.transformer.text_model.final_layer_norm
        last = norm(states["last"])
        read = last
        if "read" in states:
            read = norm(states["read"]) if self.sd_model.layer_norm_hidden_state else states["read"]
        pooled = last[list(range(last.shape[0])), [n - 1 for n in num_tokens]]
        return read, self.transformer.text_projection(pooled) if self.projected else pooled
