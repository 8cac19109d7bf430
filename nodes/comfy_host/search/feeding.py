"""Sub-blocks brought from wherever ComfyUI's memory management keeps them, once a chunk instead of once a call."""

from functools import partial

import comfy.ops
import torch

from ....skrr_engine.measure.feeding import Feeder
from ....skrr_engine.precision import STREAM
from ..weights.weights import is_ggml, is_quantized, smooth

__all__ = ["HostFeeder"]


class HostFeeder(Feeder):
    """Takes matrices from ComfyUI's linear layers, in any storage format, with LoRA applied as the loaded model has
    them. What stays on the device and what does not is ComfyUI's decision; what does not travels through its own cast,
    which pins and streams as the user's settings say, into the feeder's two buffers."""

    def __init__(self, stack, device: torch.device, narrow: torch.dtype | None):
        super().__init__(stack.subblocks, device, (), narrow)
        self._laid_for = narrow

    def running(self, index: int):
        """As the base class says. Buffers are laid out for one dtype, so another one needs new ones."""
        if self.dtype != self._laid_for:
            self._laid_for, self._now, self._brought, self._slots = self.dtype, None, [], []
        return super().running(index)

    def here(self, index: int):
        """Plain tensors on the device that nothing is added to; ComfyUI keeps them there for the whole search."""
        layers = self.layers[index]
        return [(layer.weight, layer.bias) for layer in layers] if all(map(self._plain, layers)) else None

    def _plain(self, layer) -> bool:
        parts = [part for part in (layer.weight, layer.bias) if part is not None]
        if hasattr(layer, "_v") or getattr(layer, "weight_function", ()) or getattr(layer, "bias_function", ()):
            return False
        if getattr(layer, "pre_quant_scale", None) is not None:
            return False
        return all(part.device == self.device and not is_quantized(part) and not is_ggml(part) for part in parts)

    def shapes(self, index: int):
        """In the dtype of products, which is what ComfyUI's cast hands out."""
        like = partial(torch.empty, dtype=self.dtype or STREAM, device="meta")
        return [
            tuple(None if part is None else like(tuple(part.shape)) for part in (layer.weight, layer.bias))
            for layer in self.layers[index]
        ]

    def fetch(self, index: int, target, slot) -> None:
        """Casts as the layers themselves would, and keeps a copy: the cast's own memory is used again at once."""
        for layer, (weight, bias) in zip(self.layers[index], target, strict=True):
            dtype = weight.dtype
            if hasattr(layer, "cast_bias_weight"):  # ComfyUI-GGUF's layers have one of their own
                found, found_bias = layer.cast_bias_weight(dtype=dtype, device=self.device, bias_dtype=dtype)
                borrowed = None
            else:
                found, found_bias, borrowed = comfy.ops.cast_bias_weight(
                    layer, dtype=dtype, device=self.device, bias_dtype=dtype, offloadable=True
                )
            # The cast leaves a quantised weight as it is where that says to be of the dtype asked for.
            smooth(layer, weight.copy_(found.dequantize() if is_quantized(found) else found))
            if bias is not None:
                bias.copy_(found_bias)
            comfy.ops.uncast_bias_weight(layer, found, found_bias, borrowed)
