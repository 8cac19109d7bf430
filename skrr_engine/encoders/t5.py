"""transformers' T5EncoderModel and UMT5EncoderModel as a TextStack."""

from collections.abc import Iterable

import torch

from ..digest import digest_tensors
from ..errors import SkrrError
from ..plans.architecture import Architecture
from ..plans.sketch import sketch_of
from ..precision import narrow, widen
from .stack import SubBlock, TextStack, TokenBatch, sizes_of

__all__ = ["T5Stack", "t5_architecture"]

ACTIVATIONS = {"gelu_new": "gelu_tanh", "gelu_pytorch_tanh": "gelu_tanh", "gelu": "gelu", "relu": "relu"}


def t5_architecture(config) -> Architecture:
    """The Architecture of a transformers T5Config or UMT5Config."""
    if config.dense_act_fn not in ACTIVATIONS:
        raise SkrrError(
            f"T5 activation {config.dense_act_fn!r} is unknown; this version knows {', '.join(ACTIVATIONS)}."
        )
    return Architecture(
        family="t5",
        layers=config.num_layers,
        width=config.d_model,
        feed_forward=config.d_ff,
        heads=config.num_heads,
        head_width=config.d_kv,
        vocabulary=config.vocab_size,
        activation=ACTIVATIONS[config.dense_act_fn],
        gated=config.is_gated_act,
        position_bias="every" if config.model_type == "umt5" else "first",
        positions=config.relative_attention_num_buckets,
    )


class T5Stack(TextStack):
    """Rows are unpadded, so there is no mask; the stream runs in at least float32 (float64 for a float64 model).

    The position bias is computed once a batch and handed to every attention: a plan may skip sub-block 0,
    which owns the table. Without a feeder every weight is float32 or float64; with one (see `feeding`) the matrices of
    the sub-blocks and the embedding may be stored in less.
    """

    def __init__(self, model):
        """`model` is a T5EncoderModel or UMT5EncoderModel in evaluation mode; it is not changed."""
        self.model, self.stack = model, model.encoder
        weight = self.stack.final_layer_norm.weight
        if weight.dtype not in (torch.float32, torch.float64):
            raise SkrrError(f"The T5 model is {weight.dtype}; load it as float32 (torch_dtype) for a search.")
        self.architecture = t5_architecture(model.config)
        layers = [layer for block in self.stack.block for layer in block.layer]
        residuals = (self._attention, self._feed_forward)
        self.subblocks = tuple(
            SubBlock(i, *sizes_of(self._own(layer)), residuals[i % 2](layer), (layer,), _output(layer))
            for i, layer in enumerate(layers)
        )
        self.taps = {"last": len(layers)}
        self.sketch = sketch_of(layer.layer_norm.weight for layer in layers)
        self.total_bytes, self.total_parameters = sizes_of(model.parameters())

    def _own(self, layer) -> Iterable[torch.nn.Parameter]:
        """T5's one position table stays when sub-block 0 goes; umT5's tables go with their attentions."""
        own = self.architecture.position_bias == "every"
        return (p for name, p in layer.named_parameters() if own or "relative_attention_bias" not in name)

    @property
    def identity(self) -> str:
        return digest_tensors(self.model.state_dict().items())

    @torch.no_grad()
    def embed(self, batch: TokenBatch):
        embedding = self.model.get_input_embeddings()
        hidden = widen(embedding(batch.tokens.to(embedding.weight.device)))
        if self.architecture.position_bias == "every":
            return hidden, None
        attention = self.stack.block[0].layer[0].SelfAttention
        return hidden, attention.compute_bias(batch.length, batch.length, device=hidden.device).to(hidden.dtype)

    def _attention(self, layer):
        @torch.no_grad()
        def residual(hidden, bias):
            attention = layer.SelfAttention
            if bias is None:  # umT5: every attention has a table; a re-used one brings its own.
                bias = attention.compute_bias(hidden.shape[1], hidden.shape[1], device=hidden.device)
            return attend(attention, narrow(layer.layer_norm(hidden), self.products), bias)

        return residual

    def _feed_forward(self, layer):
        @torch.no_grad()
        def residual(hidden, bias):
            return feed_forward(layer.DenseReluDense, narrow(layer.layer_norm(hidden), self.products))

        return residual

    @torch.no_grad()
    def finish(self, states, context):
        return {"sequence": self.stack.final_layer_norm(states["last"])}


def _output(layer) -> torch.nn.Module:
    return layer.SelfAttention.o if hasattr(layer, "SelfAttention") else layer.DenseReluDense.wo


def attend(attention, hidden: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
    """T5's attention over whole rows, out of the module's own weights: scores are not scaled, the bias is added.

    Written out because the signatures of the library's T5 and UMT5 attention differ between its releases.
    `hidden` (rows, tokens, width), `bias` (1, heads, tokens, tokens).
    """
    rows, tokens, _ = hidden.shape
    heads = bias.shape[1]
    query, key, value = (
        linear(hidden).view(rows, tokens, heads, -1).transpose(1, 2)
        for linear in (attention.q, attention.k, attention.v)
    )
    bias = bias.to(query.dtype)
    mixed = torch.nn.functional.scaled_dot_product_attention(query, key, value, attn_mask=bias, scale=1.0)
    return attention.o(mixed.transpose(1, 2).reshape(rows, tokens, -1))


def feed_forward(dense, hidden: torch.Tensor) -> torch.Tensor:
    """T5's feed-forward, gated or not, out of the module's own layers: the library's casts its inside to the dtype in
    which the last matrix is stored, which fp16 files would make overflow."""
    if hasattr(dense, "wi"):
        return dense.wo(dense.act(dense.wi(hidden)))
    return dense.wo(dense.act(dense.wi_0(hidden)) * dense.wi_1(hidden))
