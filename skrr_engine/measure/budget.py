"""How a search divides the memory of its device among resident weights, buffers, one call and streams."""

import math
from dataclasses import dataclass

import torch

from ..encoders.stack import TextStack
from ..errors import SkrrError
from ..plans.architecture import Architecture
from ..precision import matrix_dtype
from .feeding import Feeder, linears, stored_bytes
from .objective import Objective

__all__ = ["LEAST_STREAMS", "MOST_STREAMS", "Budget", "call_bytes", "divide", "feed", "widest_bytes"]

# More room for streams than this makes nothing faster; with less, weights travel more often than they are used.
LEAST_STREAMS, MOST_STREAMS = 1 << 28, 1 << 32
# What a call allocates inside, in float32: values of the feed-forward's width a token, and of the stream's.
INNER, OUTER = 4, 8


@dataclass(frozen=True)
class Budget:
    """`streams` is the room for the streams of a sweep, in bytes; `resident` are the sub-blocks that stay on the
    device; `call` is what one call takes and `buffers` what the feeder does."""

    streams: int
    resident: frozenset[int]
    call: int
    buffers: int


def feed(objective: Objective, device: torch.device, total: int) -> Budget:
    """Makes `objective` run on `device` within `total` bytes beyond what is there already; returns how they are
    divided. Its encoder's embedding, norms and tables are on the device, the matrices of its sub-blocks in host
    memory."""
    stack, length = objective.stack, max(batch.length for batch in objective.batches)
    found = divide(total, stack, objective.call_tokens, length)
    stack.feeder = Feeder(stack.subblocks, device, found.resident, matrix_dtype(device))
    objective.room = lambda: found.streams
    return found


def divide(total: int, stack: TextStack, call_tokens: int, length: int) -> Budget:
    """Divides `total` bytes, the free memory of the device when embedding, norms and tables are there, for calls of
    `call_tokens` tokens in rows of at most `length`. Raises SkrrError where that is too little to search in.

    What is left beside buffers and a call is shared: half for streams, so that a chunk computes longer than its weights
    travel, and half for weights, with the sub-blocks that travel spread evenly.
    """
    call, widest = call_bytes(stack.architecture, call_tokens, length), widest_bytes(stack)
    sizes = [stored_bytes(block) for block in stack.subblocks]
    left = total - call - widest
    if left - sum(sizes) >= min(MOST_STREAMS, max(LEAST_STREAMS, left // 2)):
        return Budget(min(MOST_STREAMS, left - sum(sizes)), frozenset(range(len(sizes))), call, widest)
    buffers = 2 * max(sizes)
    left -= buffers
    if left < LEAST_STREAMS:
        least = (total - left + LEAST_STREAMS) / 2**30
        raise SkrrError(
            f"There are {total / 2**30:.1f} GiB for the search on this device, and it needs {least:.1f}. Close other "
            "programs, or search on another device."
        )
    streams = min(MOST_STREAMS, max(LEAST_STREAMS, left // 2))
    left -= streams
    resident = set()
    for index in _spread(len(sizes)):
        if sizes[index] <= left:
            resident.add(index)
            left -= sizes[index]
    return Budget(streams, frozenset(resident), call, widest + buffers)


def call_bytes(shape: Architecture, tokens: int, length: int) -> int:
    """What one call of `tokens` tokens in rows of `length` allocates inside, at most: it runs in float32."""
    return tokens * 4 * (INNER * shape.feed_forward + OUTER * shape.width + 2 * shape.heads * length)


def widest_bytes(stack: TextStack) -> int:
    """The matrices of the largest sub-block in float32. While a sub-block runs in another dtype than it is stored in,
    its matrices are there twice."""
    return max(4 * sum(math.prod(layer.weight.shape) for layer in linears(block)) for block in stack.subblocks)


def _spread(count: int) -> list[int]:
    """0 … count - 1 in an order of which every beginning is spread evenly."""
    return sorted(range(count), key=lambda index: index * 0.6180339887 % 1)
