"""transformers' CLIPTextModel and CLIPTextModelWithProjection as a TextStack."""

import torch

from ..digest import digest_tensors
from ..errors import SkrrError
from ..plans.architecture import Architecture
from ..plans.sketch import sketch_of
from ..precision import narrow, widen
from .stack import SubBlock, TextStack, TokenBatch, sizes_of

__all__ = ["ClipStack", "clip_architecture"]

ACTIVATIONS = {"quick_gelu": "quick_gelu", "gelu": "gelu", "gelu_pytorch_tanh": "gelu_tanh"}


def clip_architecture(config, projection: int = 0) -> Architecture:
    """The Architecture of a transformers CLIPTextConfig; `projection` is the text projection's width or 0."""
    if config.hidden_act not in ACTIVATIONS:
        raise SkrrError(
            f"CLIP activation {config.hidden_act!r} is unknown; this version knows {', '.join(ACTIVATIONS)}."
        )
    return Architecture(
        family="clip",
        layers=config.num_hidden_layers,
        width=config.hidden_size,
        feed_forward=config.intermediate_size,
        heads=config.num_attention_heads,
        head_width=config.hidden_size // config.num_attention_heads,
        vocabulary=config.vocab_size,
        activation=ACTIVATIONS[config.hidden_act],
        gated=False,
        position_bias="absolute",
        positions=config.max_position_embeddings,
        projection=projection,
    )


class ClipStack(TextStack):
    """Reads the state after `layer` layers from the end (1: the last, 2: the one before, as SD3 and SDXL do) as
    "sequence" and the last layer at the end-of-text token as "pooled".

    `final_norm` applies CLIP's final norm to "sequence" also where it is an inner layer (SD2 does, SDXL does not).
    """

    def __init__(self, model, layer: int = 1, final_norm: bool = True):
        """`model` is a CLIPTextModel(WithProjection) in float32 or float64, evaluation mode; it is not changed."""
        self.model = model
        self.text = getattr(model, "text_model", model)  # releases before 5 wrap it
        self.projection = getattr(model, "text_projection", None)
        width = 0 if self.projection is None else self.projection.weight.shape[0]
        self.architecture = clip_architecture(model.config, width)
        if not 1 <= layer <= self.architecture.layers:
            raise SkrrError(f"CLIP layer {layer} from the end; the encoder has {self.architecture.layers} layers.")
        if self.text.final_layer_norm.weight.dtype not in (torch.float32, torch.float64):
            raise SkrrError("Load the CLIP model as float32 (torch_dtype) for a search.")
        self.final_norm = final_norm or layer == 1
        subblocks, norms = [], []
        for block in self.text.encoder.layers:
            for norm, inner, output, residual in (
                (block.layer_norm1, block.self_attn, block.self_attn.out_proj, self._attention),
                (block.layer_norm2, block.mlp, block.mlp.fc2, self._feed_forward),
            ):
                norms.append(norm.weight)
                sizes = sizes_of(p for part in (norm, inner) for p in part.parameters())
                parts = residual(norm, inner), (norm, inner), output
                subblocks.append(SubBlock(len(subblocks), *sizes, *parts))
        self.subblocks = tuple(subblocks)
        self.sketch = sketch_of(norms)
        self.taps = {"last": len(subblocks), "read": len(subblocks) - 2 * (layer - 1)}
        self.total_bytes, self.total_parameters = sizes_of(model.parameters())

    @property
    def identity(self) -> str:
        return digest_tensors(self.model.state_dict().items()) + str(sorted(self.taps.items())) + str(self.final_norm)

    @torch.no_grad()
    def embed(self, batch: TokenBatch):
        """The context is (causal mask, tokens); tokens say where the text ends."""
        tokens = batch.tokens.to(self.text.embeddings.token_embedding.weight.device)
        hidden = widen(self.text.embeddings(input_ids=tokens))
        blocked = torch.finfo(hidden.dtype).min
        mask = torch.full((batch.length, batch.length), blocked, dtype=hidden.dtype, device=hidden.device).triu(1)
        return hidden, (mask[None, None], tokens)

    def _attention(self, norm, inner):
        @torch.no_grad()
        def residual(hidden, context):
            normed = narrow(norm(hidden), self.products)
            mask = context[0].to(normed.dtype).expand(hidden.shape[0], 1, -1, -1)
            return inner(hidden_states=normed, attention_mask=mask)[0]

        return residual

    def _feed_forward(self, norm, inner):
        @torch.no_grad()
        def residual(hidden, context):
            return inner(narrow(norm(hidden), self.products))

        return residual

    @torch.no_grad()
    def finish(self, states, context):
        last = self.text.final_layer_norm(states["last"])
        read = self.text.final_layer_norm(states["read"]) if self.final_norm else states["read"]
        tokens = context[1]
        # As the library: releases of CLIP with the legacy end id 2 mark the end by the largest id.
        end = self.model.config.eos_token_id
        at = tokens.argmax(dim=-1) if end == 2 else (tokens == end).int().argmax(dim=-1)
        pooled = last[torch.arange(len(tokens), device=last.device), at]
        return {"sequence": read, "pooled": pooled if self.projection is None else self.projection(pooled)}
