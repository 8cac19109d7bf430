"""Every dtype decision of the engine, in one place.

- STREAM: the residual stream `h` that runs through the sub-blocks. float32 (float64 where a test asks
  for it by building a float64 encoder). T5's stream leaves fp16's range, so it is never narrower.
- Matrix products (`product`): on CUDA and ROCm in bf16, or in fp16 where the card has no bf16 (`matrix_dtype`);
  everywhere else in the stream's dtype. Under bf16 a sub-block's inside is bf16 too. Under fp16 only the operands are:
  every product hands out float32, the feed-forward's above all, and cannot overflow (see `product`).
- The fast search measures in those, and its finalists and everything that a plan states in float32; the exact
  search measures in float32 throughout (`Run`).
- Difference: `f_dense - f_pruned` is taken in the dtype of the features, at least float32. Both come from products
  of the same dtype.
- SUM: per-prompt terms are summed in float64 on the CPU in the order of the prompts, so that the result
  depends neither on the device nor on how prompts were batched over devices.
"""

import torch

__all__ = ["STREAM", "SUM", "matrix_dtype", "narrow", "product", "widen"]

STREAM = torch.float32
SUM = torch.float64


def widen(tensor: torch.Tensor) -> torch.Tensor:
    """`tensor` in at least STREAM precision: float16, bfloat16 and float8 become float32; float64 stays."""
    return tensor if tensor.dtype == torch.float64 else tensor.to(STREAM)


def matrix_dtype(device: torch.device) -> torch.dtype | None:
    """What the operands of matrix products are on `device`; None: as wide as the stream."""
    if device.type != "cuda":
        return None
    # Cards before Ampere have no bf16 units; what emulates them is slower than float32.
    return torch.bfloat16 if torch.cuda.get_device_capability(device) >= (8, 0) or torch.version.hip else torch.float16


def narrow(values: torch.Tensor, dtype: torch.dtype | None) -> torch.Tensor:
    """What goes into a sub-block whose products are in `dtype`: bf16 runs its whole inside in bf16, all others in the
    stream's dtype."""
    return values.to(dtype) if dtype == torch.bfloat16 else values


def product(values: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None = None) -> torch.Tensor:
    """`values` (…, in) times `weight` (out, in) transposed, plus `bias`, with operands in the dtype of `weight`.

    Under float16 each row of `values` is divided by its length first: no output is then larger than the longest row of
    `weight` (Cauchy-Schwarz), so nothing overflows, however large T5's activations are; the length comes back in
    the dtype of `values`, which is also the result's. Under every other dtype the result has that of `weight`.
    """
    if weight.dtype != torch.float16:
        return torch.nn.functional.linear(values.to(weight.dtype), weight, bias)
    values = widen(values)
    length = torch.linalg.vector_norm(values, dim=-1, keepdim=True).clamp_min(torch.finfo(values.dtype).tiny)
    found = torch.nn.functional.linear((values / length).half(), weight).to(values.dtype) * length
    return found if bias is None else found + bias
