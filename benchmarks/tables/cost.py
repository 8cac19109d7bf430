"""What an encoder costs under a plan: parameters, bytes, multiply-accumulates and time."""

import statistics
import time
from collections.abc import Mapping

import torch
from torch.utils.flop_counter import FlopCounterMode

from skrr_engine.demo.denoiser import TEXT_WIDTH
from skrr_engine.demo.pipeline import LATENTS, Pipeline
from skrr_engine.encoders.stack import TokenBatch
from skrr_engine.measure.execute import Assignment, encode
from skrr_engine.plans.architecture import Architecture

from .variants import Variant, vary

__all__ = ["TOKENS", "costs", "encoder_macs"]

# The paper's FLOPs are multiply-accumulates at 77 tokens; a prompt of that length, and eight at a time, are timed.
TOKENS, TOGETHER, STEPS = 77, 8, 20


def encoder_macs(architecture: Architecture, assignment: Assignment, tokens: int = TOKENS) -> int:
    """Multiply-accumulates of the matrix products of one T5 prompt of `tokens`; what is re-used runs and counts."""
    inner = architecture.heads * architecture.head_width
    attention = 4 * tokens * architecture.width * inner + 2 * tokens * tokens * inner
    feed_forward = (3 if architecture.gated else 2) * tokens * architecture.width * architecture.feed_forward
    return sum((attention, feed_forward)[source % 2] for source in assignment if source is not None)


def costs(pipeline: Pipeline, variants: Mapping[str, Variant], repeats: int) -> dict:
    """name -> "parameters" and "bytes" of the encoder (bytes as its file stores them), "macs" of one prompt, "seconds"
    of TOGETHER prompts and "ratio" to the dense encoder, medians over `repeats` rounds in which all take turns. The
    first variant must be the dense one. "picture" tells the multiply-accumulates of a whole guided picture."""
    stacks = {name: vary(pipeline, variant) for name, variant in variants.items()}
    batch = TokenBatch(torch.full((TOGETHER, TOKENS), 5), tuple(range(TOGETHER)), TOKENS, {})
    times: dict[str, list[float]] = {name: [] for name in variants}
    for round_ in range(repeats + 1):
        for name, (changed, assignment) in stacks.items():
            began = time.perf_counter()
            encode(changed.encoder.stack, assignment, batch)
            if round_:  # the first warms up
                times[name].append(time.perf_counter() - began)
    dense = times[next(iter(variants))]
    stack, found = pipeline.encoder.stack, {}
    for name, variant in variants.items():
        ratios = [one / other for one, other in zip(times[name], dense, strict=True)]
        found[name] = {
            "sparsity": stack.architecture.sparsity(variant.order),
            "parameters": stack.architecture.total_parameters - stack.architecture.parameters_of(variant.order),
            "bytes": stack.total_bytes - sum(stack.subblocks[i].bytes for i in variant.order),
            "macs": encoder_macs(stack.architecture, stacks[name][1]),
            "seconds": statistics.median(times[name]),
            "ratio": statistics.median(ratios),
        }
    return {"encoders": found, "picture": picture_macs(pipeline), "tokens": TOKENS, "together": TOGETHER}


@torch.no_grad()
def picture_macs(pipeline: Pipeline) -> int:
    """Of one guided picture of STEPS steps: the dense encoder twice (prompt and null prompt, both TOKENS long, as the
    paper counts), the denoiser and the decoder, as PyTorch counts their products."""
    text, latents = torch.zeros(2, TOKENS, TEXT_WIDTH), torch.zeros(2, *LATENTS)
    with FlopCounterMode(display=False) as step:
        pipeline.denoiser(latents, torch.zeros(2), text, torch.ones(2, TOKENS, dtype=torch.bool))
    with FlopCounterMode(display=False) as decoder:
        pipeline.autoencoder.decode(latents[:1])
    architecture = pipeline.encoder.stack.architecture
    encoder = 2 * encoder_macs(architecture, pipeline.encoder.assignment)
    return encoder + (STEPS * step.get_total_flops() + decoder.get_total_flops()) // 2
