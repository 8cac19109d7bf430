"""The denoiser's own first step over the text embedding: `f = proj(E(c))` (paper equation 1)."""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

import torch

from ..digest import digest_tensors
from ..encoders.stack import Outputs, TokenBatch
from ..errors import SkrrError

__all__ = ["Projection", "linear_chain", "no_projection", "normalised_output"]

Features = dict[str, torch.Tensor]


@dataclass(frozen=True)
class Projection:
    """Turns an encoder's outputs into the features the denoiser works on.

    `apply(outputs, batch)` returns name -> (rows, tokens, width) or (rows, width). `reads` tells which output
    each feature comes from, so that the right positions are weighed. `identity` is a content digest.
    """

    name: str
    reads: dict[str, str]
    apply: Callable[[Outputs, TokenBatch], Features]
    identity: str


def no_projection(outputs: tuple[str, ...]) -> Projection:
    """The stated fallback and the ablation: the encoder's own outputs `outputs` are the features."""
    return Projection(
        "none (encoder output)",
        {name: name for name in outputs},
        lambda found, batch: {name: found[name] for name in outputs},
        "none:" + ",".join(outputs),
    )


def normalised_output(width: int) -> Projection:
    """The fallback for language models: their own states, `width` wide each, every one divided by its root mean square.
    A few tokens of theirs are thousands of times as long as the others, and would be all that counts."""

    def apply(outputs: Outputs, batch: TokenBatch) -> Features:
        states = outputs["sequence"].unflatten(-1, (-1, width))
        size = states.square().mean(dim=-1, keepdim=True).sqrt()
        return {"sequence": (states / size.clamp_min(torch.finfo(states.dtype).tiny)).flatten(-2)}

    return Projection("none (encoder output, each token normalised)", {"sequence": "sequence"}, apply, f"rms:{width}")


def linear_chain(name: str, layers: list[tuple[torch.Tensor, torch.Tensor | None]], dtype: torch.dtype) -> Projection:
    """A projection of the "sequence" output through linear layers with tanh-approximated GELU between them:
    one layer for FLUX and SD3, two for PixArt's caption projection. Weights are (out, in), kept in `dtype`."""
    if not layers:
        raise SkrrError("A projection needs at least one weight; name one with --weight.")
    for (upper, _), (lower, _) in pairwise(layers):
        if lower.shape[1] != upper.shape[0]:
            raise SkrrError(
                f"The projection's layers do not fit: one hands out {upper.shape[0]} values, the next takes "
                f"{lower.shape[1]}. Name the weights in the order in which the model runs them."
            )
    chain = [(w.to(dtype), None if b is None else b.to(dtype)) for w, b in layers]
    placed = {}  # device -> the layers there

    def apply(outputs: Outputs, batch: TokenBatch) -> Features:
        values = outputs["sequence"].to(dtype)
        device = values.device
        if device not in placed:
            placed[device] = [tuple(None if t is None else t.to(device) for t in pair) for pair in chain]
        for number, (weight, bias) in enumerate(placed[device]):
            values = torch.nn.functional.gelu(values, approximate="tanh") if number else values
            values = torch.nn.functional.linear(values, weight, bias)
        return {"sequence": values}

    tensors = [(str(n), t) for n, pair in enumerate(chain) for t in pair if t is not None]
    return Projection(name, {"sequence": "sequence"}, apply, digest_tensors(tensors))
