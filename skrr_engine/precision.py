"""Every dtype decision of the engine, in one place.

- STREAM: the residual stream `h` that runs through the sub-blocks. float32 (float64 where a test asks
  for it by building a float64 encoder). T5's stream leaves fp16's range, so it is never narrower.
- Difference: `f_dense - f_pruned` is taken in the dtype of the features, at least float32.
- SUM: per-prompt terms are summed in float64 on the CPU in the order of the prompts, so that the result
  depends neither on the device nor on how prompts were batched over devices.
"""

import torch

__all__ = ["STREAM", "SUM", "widen"]

STREAM = torch.float32
SUM = torch.float64


def widen(tensor: torch.Tensor) -> torch.Tensor:
    """`tensor` in at least STREAM precision: float16, bfloat16 and float8 become float32; float64 stays."""
    return tensor if tensor.dtype == torch.float64 else tensor.to(STREAM)
