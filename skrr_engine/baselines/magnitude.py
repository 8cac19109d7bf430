"""Global magnitude pruning: set the smallest weights to zero (as in "Efficient Pruning of Text-to-Image Models",
arXiv 2411.15113, which settles on 47.5 % of the text encoder and 35 % of the denoiser).

What that study's abstract leaves open is decided here:

- **Which tensors count**: floating-point tensors of two or more sides whose name ends in ".weight", tables left out
  (embeddings, positions, relative bias): what linear and convolution layers multiply by. Norms, biases, tables and
  loose parameters stay as they are. Another choice goes in as `counts`.
- **Global**: one threshold over all counted tensors of one model, so that layers of small weights lose more.
  Encoder and denoiser are pruned apart, each with its own fraction.
- **Fraction**: of the counted weights. Exactly `round(fraction * counted)` of them become zero, those that are zero
  already among them (if there are more such zeros, nothing changes). Ties at the threshold go in the order of the
  tensors' names, then of the positions inside.

Zeros take as much room and time as before in a dense format: beside methods that remove sub-blocks, this one's
"sparsity" saves nothing by itself. Tables that compare them must say so.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch

from ..errors import SkrrError

__all__ = ["DENOISER", "TEXT_ENCODER", "Pruned", "fraction_for", "is_matrix", "prune_magnitude"]

TEXT_ENCODER, DENOISER = 0.475, 0.35
# How T5, CLIP and DiT call their lookup tables.
TABLES = (
    ".shared.", ".embed_tokens.", ".relative_attention_bias.", ".token_embedding.", ".position_embedding.",
    ".embedding_table.",
)  # fmt: skip
DIGIT = 16
BINS = 1 << DIGIT
INTEGERS = {torch.float32: torch.int32, torch.float64: torch.int64}


@dataclass(frozen=True)
class Pruned:
    """`state` is the whole mapping with zeros in it; `counted` weights took part, `zeros` of them are zero now.
    All weights of magnitude below `threshold` are zero, none above it."""

    state: dict[str, torch.Tensor]
    counted: int
    zeros: int
    threshold: float


def is_matrix(name: str, tensor: torch.Tensor) -> bool:
    """Whether a tensor is the weight of a linear or convolution layer, told by its name and shape. (A packed 4-bit
    or integer weight is one too: pruning it is refused, not skipped.)"""
    name = f".{name}"
    return tensor.dim() >= 2 and name.endswith(".weight") and not any(table in name for table in TABLES)


def prune_magnitude(
    state: Mapping[str, torch.Tensor], fraction: float, counts: Callable[[str, torch.Tensor], bool] = is_matrix
) -> Pruned:
    """`state` with the smallest `fraction` (0 to 1) of the counted weights set to zero; see the module for what
    counts. Tensors keep their dtype and device; pruned ones are new, the others the same objects, none is written
    into. Needs memory for a few copies of the largest tensor beside the result."""
    if not (math.isfinite(fraction) and 0 <= fraction <= 1):
        raise SkrrError(f"The fraction to prune is {fraction}; expected 0 to 1 (0.475 for a text encoder).")
    names = _counted(state, counts)
    kind = _common_kind(state, names)
    counted = sum(state[name].numel() for name in names)
    wanted = round(fraction * counted)
    limit, below = _select(state, names, wanted, kind)
    ties = wanted - below
    result, zeros = dict(state), 0
    for name in names:
        keys = _keys(state[name], kind)
        gone = keys < limit
        if ties > 0:
            equal = (keys == limit).nonzero().flatten()[:ties]
            gone[equal] = True
            ties -= len(equal)
        result[name] = _zeroed(state[name], gone)
        zeros += int((gone | (keys == 0)).sum())
    return Pruned(result, counted, zeros, torch.tensor(limit, dtype=INTEGERS[kind]).view(kind).item())


def fraction_for(
    state: Mapping[str, torch.Tensor],
    sparsity: float,
    parameters: int,
    counts: Callable[[str, torch.Tensor], bool] = is_matrix,
) -> float:
    """The `fraction` whose zeros are `sparsity` of all `parameters` of the model: what a table needs to set
    magnitude pruning beside a plan of that sparsity (`Architecture.total_parameters` counts an encoder's)."""
    counted = sum(state[name].numel() for name in _counted(state, counts))
    most = counted / parameters
    if not (math.isfinite(sparsity) and 0 <= sparsity <= most):
        raise SkrrError(
            f"A sparsity of {sparsity} cannot be reached by zeros: the tensors that count are {most:.4f} of the "
            f"model's {parameters} parameters. Ask for 0 up to that."
        )
    return min(1.0, sparsity / most)


def _counted(state: Mapping[str, torch.Tensor], counts) -> list[str]:
    """The names of the tensors that take part, sorted: the order in which ties are taken."""
    names = sorted(name for name, tensor in state.items() if counts(name, tensor))
    if not any(state[name].numel() for name in names):
        raise SkrrError(
            f"None of {len(state)} tensors counts for magnitude pruning. Give a model's state dict (names that end "
            "in .weight), or say what counts."
        )
    for name in names:
        tensor = state[name]
        if not tensor.is_floating_point():
            raise SkrrError(
                f"Tensor {name} is {tensor.dtype}: a packed or quantised weight has no magnitudes to compare. Prune "
                "the unquantised model."
            )
        if not _finite(tensor):
            raise SkrrError(f"Tensor {name} holds values that are not finite; the file is damaged.")
    return names


def _finite(tensor: torch.Tensor) -> bool:
    return bool(torch.isfinite(tensor if tensor.dtype == torch.float64 else tensor.float()).all())


def _common_kind(state, names: list[str]) -> torch.dtype:
    """Every narrower format is exact in float32, so magnitudes of different formats compare there."""
    return torch.float64 if any(state[name].dtype == torch.float64 for name in names) else torch.float32


def _keys(tensor: torch.Tensor, kind: torch.dtype) -> torch.Tensor:
    """Magnitudes as integers in the same order, (n,) on the CPU: the bits of a float without sign grow with it."""
    return tensor.detach().cpu().to(kind).flatten().abs().view(INTEGERS[kind])


def _select(state, names: list[str], wanted: int, kind: torch.dtype) -> tuple[int, int]:
    """(limit, below): the `wanted`-th smallest key, and how many keys are below it; (0, 0) when none is wanted.

    Radix selection, 16 bits a round from the top: exact, and never more than one tensor's keys in memory.
    """
    limit = below = 0
    if not wanted:
        return limit, below
    for shift in range(8 * kind.itemsize - DIGIT, -1, -DIGIT):
        histogram = torch.zeros(BINS, dtype=torch.int64)
        for name in names:
            digits = _keys(state[name], kind) >> shift
            histogram += torch.bincount(digits[digits >> DIGIT == limit] & (BINS - 1), minlength=BINS)
        upto = below + histogram.cumsum(0)
        digit = int((upto < wanted).sum())
        below = int(upto[digit] - histogram[digit])
        limit = limit << DIGIT | digit
    return limit, below


def _zeroed(tensor: torch.Tensor, gone: torch.Tensor) -> torch.Tensor:
    """A copy of `tensor` with zeros where `gone` (n,) says; float8 has no fill of its own, its zero is a zero byte."""
    pruned = tensor.detach().clone(memory_format=torch.contiguous_format)
    raw = pruned.view(torch.uint8) if tensor.element_size() == 1 else pruned
    raw.masked_fill_(gone.view(tensor.shape).to(tensor.device), 0)
    return pruned
