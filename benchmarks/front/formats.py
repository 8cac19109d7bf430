"""What a matrix becomes in a storage format, and how many bytes it takes: scales and minima counted.

fp16, fp8, int8, nvfp4 and the Q*_0 are the formats themselves. The GGUF K formats group 256 weights of a row, which the
small encoder's rows of 128 and 320 are not made of; "4 bit", "3 bit" and "2 bit" are Q4_K, Q3_K and Q2_K with a row in
the place of those 256: the same sub-blocks, the same widths of their scales, about the same bits a weight. What a
quantiser may choose is chosen by the smallest squared error over a few candidates, as good ones do.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch

__all__ = ["FORMATS", "Stored"]

E4M3 = torch.float8_e4m3fn
E4M3_MOST, E2M1_MOST = 448.0, 6.0
E2M1 = torch.tensor([0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0])
# Steps tried for a sub-block, as shares of the plain one.
STEPS = torch.linspace(0.7, 1.15, 19)


class Stored(NamedTuple):
    """`values` is what a layer computes with, float32; `bytes` what the file holds for it."""

    values: torch.Tensor
    bytes: int


def fp16(matrix: torch.Tensor) -> Stored:
    """As the small pipeline's files are."""
    return Stored(matrix.half().float(), 2 * matrix.numel())


def scaled_fp8(matrix: torch.Tensor) -> Stored:
    """e4m3 and one float32 scale a matrix."""
    scale = _positive(matrix.abs().max() / E4M3_MOST)
    return Stored((matrix / scale).to(E4M3).float() * scale, matrix.numel() + 4)


def int8(matrix: torch.Tensor) -> Stored:
    """Whole numbers from -127 to 127 and one float32 scale a matrix."""
    scale = _positive(matrix.abs().max() / 127)
    return Stored((matrix / scale).round() * scale, matrix.numel() + 4)


def q8_0(matrix: torch.Tensor) -> Stored:
    """Blocks of 32, an fp16 scale each."""
    blocks = _blocks(matrix, 32)
    step = blocks.abs().amax(dim=2, keepdim=True) / 127
    codes = (blocks / _positive(step)).round()
    return _stored(matrix, codes * step.half().float(), 8, 16 / 32)


def q5_0(matrix: torch.Tensor) -> Stored:
    """Blocks of 32, an fp16 scale each; the largest weight of a block lies on the lowest code."""
    return _lowest_code(matrix, 5)


def q4_0(matrix: torch.Tensor) -> Stored:
    """As q5_0, with 16 codes."""
    return _lowest_code(matrix, 4)


def nvfp4(matrix: torch.Tensor) -> Stored:
    """e2m1 in blocks of 16, an e4m3 scale each, and one float32 scale a matrix."""
    blocks = _blocks(matrix, 16)
    whole = _positive(matrix.abs().max() / (E4M3_MOST * E2M1_MOST))
    scale = (blocks.abs().amax(dim=2, keepdim=True) / E2M1_MOST / whole).to(E4M3).float() * whole
    shares = (blocks / _positive(scale)).clamp(-E2M1_MOST, E2M1_MOST)
    nearest = (shares.abs().unsqueeze(-1) - E2M1).abs().argmin(dim=-1)
    return _stored(matrix, E2M1[nearest] * shares.sign() * scale, 4, 8 / 16, extra=4)


def four_bits(matrix: torch.Tensor) -> Stored:
    """As Q4_K: sub-blocks of 32 with a scale and a minimum of 6 bits each, and two fp16 a row."""
    return _with_minimum(matrix, bits=4, size=32, scale_bits=6)


def three_bits(matrix: torch.Tensor) -> Stored:
    """As Q3_K: sub-blocks of 16 with a signed scale of 6 bits, and an fp16 a row."""
    blocks = _blocks(matrix, 16)
    plain = _extreme(blocks) / -4
    best, error = plain, torch.full_like(plain, torch.inf)
    for share in STEPS:
        codes = (blocks / _nonzero(plain * share)).round().clamp(-4, 3)
        step = (blocks * codes).sum(dim=2, keepdim=True) / _positive(codes.square().sum(dim=2, keepdim=True))
        found = (blocks - codes * step).square().sum(dim=2, keepdim=True)
        best, error = torch.where(found < error, step, best), torch.minimum(found, error)
    whole = (best.abs().amax(dim=1, keepdim=True) / 31).half().float()
    step = (best / _positive(whole)).round().clamp(-32, 31) * whole
    codes = (blocks / _nonzero(step)).round().clamp(-4, 3)
    return _stored(matrix, codes * step, 3, 6 / 16, extra=2 * len(matrix))


def two_bits(matrix: torch.Tensor) -> Stored:
    """As Q2_K: sub-blocks of 16 with a scale and a minimum of 4 bits each, and two fp16 a row."""
    return _with_minimum(matrix, bits=2, size=16, scale_bits=4)


def _lowest_code(matrix: torch.Tensor, bits: int) -> Stored:
    blocks, half = _blocks(matrix, 32), 2 ** (bits - 1)
    step = _extreme(blocks) / -half
    codes = (blocks / _nonzero(step) + half + 0.5).trunc().clamp(0, 2 * half - 1) - half
    return _stored(matrix, codes * step.half().float(), bits, 16 / 32)


def _with_minimum(matrix: torch.Tensor, bits: int, size: int, scale_bits: int) -> Stored:
    """Weights are code x scale - minimum, with a minimum from 0 up."""
    blocks, top = _blocks(matrix, size), 2**bits - 1
    low = blocks.amin(dim=2, keepdim=True).clamp(max=0)
    plain = (blocks.amax(dim=2, keepdim=True) - low).clamp(min=0) / top
    step, least, error = plain, -low, torch.full_like(plain, torch.inf)
    for share in STEPS:
        codes = ((blocks - low) / _positive(plain * share)).round().clamp(0, top)
        mean, middle = codes.mean(dim=2, keepdim=True), blocks.mean(dim=2, keepdim=True)
        spread = _positive((codes - mean).square().sum(dim=2, keepdim=True))
        slope = (((codes - mean) * (blocks - middle)).sum(dim=2, keepdim=True) / spread).clamp(min=0)
        below = (slope * mean - middle).clamp(min=0)
        found = (blocks - codes * slope + below).square().sum(dim=2, keepdim=True)
        step, least = (torch.where(found < error, new, old) for new, old in ((slope, step), (below, least)))
        error = torch.minimum(found, error)
    most = 2**scale_bits - 1
    step, least = _whole_steps(step, most), _whole_steps(least, most)
    codes = ((blocks + least) / _positive(step)).round().clamp(0, top)
    return _stored(matrix, codes * step - least, bits, 2 * scale_bits / size, extra=4 * len(matrix))


def _whole_steps(parts: torch.Tensor, most: int) -> torch.Tensor:
    """Numbers from 0 up as whole multiples, up to `most`, of one fp16 a row."""
    whole = (parts.amax(dim=1, keepdim=True) / most).half().float()
    return (parts / _positive(whole)).round().clamp(0, most) * whole


def _blocks(matrix: torch.Tensor, size: int) -> torch.Tensor:
    """(rows, blocks, size) float32."""
    return matrix.float().reshape(len(matrix), -1, size)


def _extreme(blocks: torch.Tensor) -> torch.Tensor:
    """Of each block the weight that is farthest from zero, with its sign."""
    return blocks.gather(2, blocks.abs().argmax(dim=2, keepdim=True))


def _positive(values: torch.Tensor) -> torch.Tensor:
    """1 where there is nothing to divide by: a block of zeros stays one."""
    return torch.where(values > 0, values, 1.0)


def _nonzero(values: torch.Tensor) -> torch.Tensor:
    return torch.where(values != 0, values, 1.0)


def _stored(matrix: torch.Tensor, values: torch.Tensor, bits: int, beside: float, extra: int = 0) -> Stored:
    """`beside` bits a weight are scales and minima of blocks, `extra` bytes those of rows and of the matrix."""
    size = matrix.numel() * (bits + beside) / 8
    assert size == int(size), "blocks fill whole bytes"
    return Stored(values.reshape(matrix.shape), int(size) + extra)


FORMATS: dict[str, Callable[[torch.Tensor], Stored]] = {
    "fp16": fp16,
    "Q8_0": q8_0,
    "fp8 scaled": scaled_fp8,
    "int8": int8,
    "Q5_0": q5_0,
    "4 bit": four_bits,
    "Q4_0": q4_0,
    "nvfp4": nvfp4,
    "3 bit": three_bits,
    "2 bit": two_bits,
}
