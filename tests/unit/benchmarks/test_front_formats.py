"""Storage formats of the benchmark: bits, exactness where a format can hold the numbers, and errors in their order."""

import pytest
import torch

from benchmarks.front.formats import FORMATS

BITS = {
    "fp16": 16, "Q8_0": 8.5, "fp8 scaled": 8, "int8": 8, "Q5_0": 5.5, "4 bit": 4.5, "Q4_0": 4.5, "nvfp4": 4.5,
    "3 bit": 3.4375, "2 bit": 2.625,
}  # fmt: skip
LEVELS = {"Q8_0": 255, "int8": 255, "Q5_0": 32, "4 bit": 16, "Q4_0": 16, "3 bit": 8, "2 bit": 4}
# A row as the gguf library's own quantisers give it back (0.19): its first numbers, and the sum of all errors.
GGUF = {
    "Q8_0": ([-1.9688720703125, -1.3487548828125, 0.155029296875, -1.4727783203125], 0.122802734375),
    "Q5_0": ([-1.96875, -1.353515625, 0.123046875, -1.4765625], 0.84375),
    "Q4_0": ([-1.96875, -1.23046875, 0.24609375, -1.4765625], 2.2421875),
}


@pytest.fixture(scope="module")
def matrix():
    """As wide as T5's rows are in blocks, heavy-tailed rows of several sizes, one of them empty."""
    generator = torch.Generator().manual_seed(0)
    found = torch.randn(48, 256, generator=generator) * torch.rand(48, 1, generator=generator)
    found[7] = 0
    found[8, 32:64] = 0
    return found


def error(name, matrix):
    return ((FORMATS[name](matrix).values - matrix).square().sum() / matrix.square().sum()).sqrt().item()


@pytest.mark.parametrize("name", FORMATS)
def test_bytes_and_shape(name, matrix):
    found = FORMATS[name](matrix)
    assert found.values.shape == matrix.shape and found.values.dtype == torch.float32
    assert 8 * found.bytes / matrix.numel() == pytest.approx(BITS[name], abs=0.01)
    assert found.values[7].abs().max() == 0 and found.values[8, 32:64].abs().max() == 0
    assert torch.isfinite(found.values).all()


@pytest.mark.parametrize("name", LEVELS)
def test_a_block_has_no_more_numbers_than_codes(name, matrix):
    values = FORMATS[name](matrix).values
    size = 16 if name in ("3 bit", "2 bit") else 32
    assert max(len(block.unique()) for block in values.reshape(-1, size)) <= LEVELS[name]


def test_fewer_bits_err_more(matrix):
    errors = [error(name, matrix) for name in ("fp16", "Q8_0", "Q5_0", "4 bit", "3 bit", "2 bit")]
    assert errors == sorted(errors) and errors[-1] < 0.35
    assert error("4 bit", matrix) < error("Q4_0", matrix) < 0.1
    assert error("int8", matrix) < error("fp8 scaled", matrix) < 0.03
    assert error("nvfp4", matrix) < 0.11


def test_the_choice_of_scales_is_better_than_rounding_to_the_nearest():
    """Against the plain scale: the weight farthest from zero on the lowest code."""
    matrix = torch.randn(64, 256, generator=torch.Generator().manual_seed(1))
    blocks = matrix.reshape(64, -1, 16)
    step = blocks.gather(2, blocks.abs().argmax(dim=2, keepdim=True)) / -4
    plain = ((blocks / step).round().clamp(-4, 3) * step - blocks).square().sum()
    assert error("3 bit", matrix) ** 2 * matrix.square().sum() < 0.9 * plain


@pytest.mark.parametrize("name", ["Q8_0", "Q5_0", "Q4_0"])
def test_they_are_those_of_the_gguf_library(name):
    row = torch.tensor([[((7 * n * n + 3 * n) % 64 - 31.5) / 16 for n in range(32)]])
    values = FORMATS[name](row).values
    first, errors = GGUF[name]
    assert values[0, : len(first)].tolist() == first
    assert (values - row).abs().sum().item() == pytest.approx(errors, rel=1e-6)


def test_what_fp8_and_nvfp4_hold_comes_back():
    exact = torch.tensor([[0.5, 1.0, -1.5, 2.0, 3.0, -4.0, 6.0, 0.0] * 16])
    assert torch.equal(FORMATS["nvfp4"](exact * 448).values, exact * 448)
    exact = torch.tensor([[0.5, 1.0, -1.5, 2.0, 3.0, -3.5, 0.25, 0.0] * 4])
    assert torch.equal(FORMATS["fp8 scaled"](exact).values, exact)
