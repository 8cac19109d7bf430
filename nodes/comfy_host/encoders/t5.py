"""ComfyUI's T5 (T5-XXL in FLUX, SD3, PixArt and Chroma; smaller T5s; umT5 by its table in every layer)."""

from collections.abc import Mapping
from types import MappingProxyType

import comfy.text_encoders.t5 as comfy_t5
import torch
from comfy.ldm.modules.attention import optimized_attention_for_device

from ....skrr_engine.plans.architecture import Architecture
from ....skrr_engine.precision import narrow
from .anatomy import Anatomy
from .running import EncoderStack

__all__ = ["anatomy", "architecture", "cut", "matches", "norms", "output", "owned", "parts", "stack"]

NOTHING = MappingProxyType({})
ACTIVATIONS = {"gelu_pytorch_tanh": "gelu_tanh", "relu": "relu"}


def matches(transformer) -> bool:
    """Whether `transformer` is ComfyUI's T5."""
    return isinstance(transformer, comfy_t5.T5)


def architecture(transformer) -> Architecture:
    """Read from shapes, which every storage format reports alike."""
    blocks = transformer.encoder.block
    attention, feed_forward = blocks[0].layer[0].SelfAttention, blocks[0].layer[1].DenseReluDense
    gated = hasattr(feed_forward, "wi_0")
    activation = next(name for name, f in comfy_t5.activations.items() if f is feed_forward.act)
    every = len(blocks) > 1 and blocks[1].layer[0].SelfAttention.relative_attention_bias is not None
    return Architecture(
        family="t5",
        layers=len(blocks),
        width=transformer.shared.weight.shape[1],
        feed_forward=(feed_forward.wi_0 if gated else feed_forward.wi).weight.shape[0],
        heads=attention.num_heads,
        head_width=attention.q.weight.shape[0] // attention.num_heads,
        vocabulary=transformer.shared.weight.shape[0],
        activation=ACTIVATIONS.get(activation, activation),
        gated=gated,
        position_bias="every" if every else "first",
        positions=attention.relative_attention_num_buckets,
    )


def anatomy(transformer) -> Anatomy:
    """Where its parts stand. umT5's layers each bring their position table, T5's only the first."""
    return Anatomy(
        core="encoder",
        layers="encoder.block",
        norm="encoder.final_layer_norm",
        table="shared",
        stub=PassOnWithBias,
    )


def norms(transformer) -> list:
    """The norm weight of every sub-block, in order; None where it was cut."""
    layers = (layer for block in transformer.encoder.block for layer in getattr(block, "layer", (None, None)))
    return [getattr(getattr(layer, "layer_norm", None), "weight", None) for layer in layers]


def _keeps_table(transformer, index: int) -> bool:
    """Whether removing sub-block `index` leaves a position table behind that later layers read: T5's layer 0."""
    first, *others = (_has_table(block.layer[0]) for block in transformer.encoder.block)
    return index == 0 and first and not any(others)


def _has_table(layer) -> bool:
    """Whether an attention sub-block has a position table, or, where one was cut, whether it had."""
    if isinstance(layer, AttentionPlace):
        return layer.had_table
    return layer.SelfAttention.relative_attention_bias is not None


def parts(transformer, index: int) -> list:
    """The modules that go with sub-block `index`. T5's one position table stays when sub-block 0 goes."""
    layer = transformer.encoder.block[index // 2].layer[index % 2]
    if not _keeps_table(transformer, index):
        return [layer]
    attention = layer.SelfAttention
    return [layer.layer_norm, attention.q, attention.k, attention.v, attention.o]


def owned(transformer, index: int) -> list:
    """The modules of sub-block `index`, a position table included."""
    return [transformer.encoder.block[index // 2].layer[index % 2]]


def output(transformer, index: int) -> tuple:
    """The module and the name under which the output layer of sub-block `index` is."""
    layer = transformer.encoder.block[index // 2].layer[index % 2]
    return (layer.DenseReluDense, "wo") if index % 2 else (layer.SelfAttention, "o")


def cut(transformer, skip, reuse: dict[int, int], added: Mapping[int, torch.nn.Module] = NOTHING) -> None:
    """Replaces the sub-blocks `skip` by stubs; `reuse` maps a place to the kept sub-block that runs there, `added` to
    the module that says what comes to the stream there too."""
    blocks = transformer.encoder.block
    keeps_table = _keeps_table(transformer, 0)
    for index in skip:
        source = blocks[reuse[index] // 2].layer[reuse[index] % 2] if index in reuse else None
        layers = blocks[index // 2].layer
        if index % 2:
            layers[1] = FeedForwardPlace(source, added.get(index))
        else:
            table = layers[0].SelfAttention if index == 0 and keeps_table else None
            layers[0] = AttentionPlace(source, table, _has_table(layers[0]), added.get(index))


class PassOnWithBias(torch.nn.Module):
    """A removed layer."""

    def forward(self, x, mask=None, past_bias=None, optimized_attention=None):
        """As T5Block: (stream, position bias)."""
        return x, past_bias


class AttentionPlace(torch.nn.Module):
    """The place of a skipped attention: passes the stream on, or runs `source` (held unregistered: its bytes
    belong to its own place). `attention`, in layer 0 of a T5, still owns the position table under its old key. `added`
    says what comes to the stream beside that."""

    def __init__(self, source, attention, had_table: bool, added=None):
        super().__init__()
        self._source = (source,)
        self.had_table = had_table
        self.added = added
        if attention is not None:
            for name in ("q", "k", "v", "o"):
                attention._modules.pop(name, None)
            self.SelfAttention = attention

    def forward(self, x, mask=None, past_bias=None, optimized_attention=None):
        """As T5LayerSelfAttention: (stream, position bias)."""
        if past_bias is None and hasattr(self, "SelfAttention"):
            past_bias = self.SelfAttention.compute_bias(x.shape[1], x.shape[1], x.device, x.dtype)
        more = None if self.added is None else self.added(x)  # first: a sub-block writes into its stream
        if self._source[0] is not None:
            x, past_bias = self._source[0](x, mask, past_bias, optimized_attention)
        return (x if more is None else x + more), past_bias


class FeedForwardPlace(torch.nn.Module):
    """The place of a skipped feed-forward: passes the stream on, or runs `source`, held unregistered; `added` says what
    comes to the stream beside that."""

    def __init__(self, source, added=None):
        super().__init__()
        self._source = (source,)
        self.added = added

    def forward(self, x):
        """As T5LayerFF."""
        more = None if self.added is None else self.added(x)
        x = x if self._source[0] is None else self._source[0](x)
        return x if more is None else x + more


def stack(encoder):
    """The encoder as a TextStack."""
    return _T5Stack(encoder)


class _T5Stack(EncoderStack):
    """The walk of comfy's T5Stack, one sub-block at a time and never in place."""

    def blocks(self):
        for block in self.transformer.encoder.block:
            yield from ((block.layer[0], self._attention), (block.layer[1], self._feed_forward))

    def start(self, embeds):
        # As comfy's T5: plain fp8 files hold infinities in rows of the embedding that no token uses.
        narrow = self.transformer.dtype not in (torch.float32, torch.float16, torch.bfloat16)
        return torch.nan_to_num(embeds) if narrow else embeds

    def context(self, hidden, attention_mask):
        mask = None
        if attention_mask is not None:
            rows, length = attention_mask.shape
            blocked = attention_mask.reshape(rows, 1, 1, length).expand(rows, 1, length, length) == 0
            mask = torch.zeros(blocked.shape, dtype=hidden.dtype, device=hidden.device)
            mask = mask.masked_fill(blocked, -torch.finfo(hidden.dtype).max)
        attend = optimized_attention_for_device(hidden.device, mask=attention_mask is not None, small_input=True)
        bias = None
        if self.architecture.position_bias == "first":
            owner = self.transformer.encoder.block[0].layer[0].SelfAttention
            bias = owner.compute_bias(hidden.shape[1], hidden.shape[1], hidden.device, hidden.dtype)
        return mask, bias, attend

    def _attention(self, layer, hidden, context):
        *scores, attend = context
        normed = narrow(layer.layer_norm(hidden), self.products)
        mask, bias = (None if part is None else part.to(normed.dtype) for part in scores)
        return layer.SelfAttention(normed, mask=mask, past_bias=bias, optimized_attention=attend)[0]

    def _feed_forward(self, layer, hidden, context):
        return layer.DenseReluDense(narrow(layer.layer_norm(hidden), self.products))

    def read_out(self, states, num_tokens):
        norm = self.transformer.encoder.final_layer_norm
        if "read" not in states:
            return norm(states["last"]), None
        return (norm(states["read"]) if self.sd_model.layer_norm_hidden_state else states["read"]), None
