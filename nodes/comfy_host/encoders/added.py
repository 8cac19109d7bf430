"""Corrections as ComfyUI runs them: biases and bridges as modules that it loads, moves and counts like any other, and
output matrices exchanged."""

import comfy.ops
import torch

from ....skrr_engine.corrections.added import Bias, Bridge, normalised
from ..weights.weights import is_ggml, is_quantized

__all__ = ["added_module", "added_of", "exchange", "put_back", "stored_width"]

# What a re-fitted matrix is stored in where its layer's own format is no plain one: rounding it a second time would
# cost more than the bytes are worth.
WIDER = torch.float16
PLAIN = (torch.float16, torch.bfloat16, torch.float32, torch.float64)


def added_module(added: Bias | Bridge, own: bool) -> torch.nn.Module:
    """`added` as a module: stream -> what comes to it. `own`: over storages of its own, not those of `added`."""
    return _Bridge(added, own) if isinstance(added, Bridge) else _Bias(_parameter(added.vector, own))


def added_of(module: torch.nn.Module) -> Bias | Bridge:
    """What `added_module` made `module` of, over the same storages."""
    if isinstance(module, _Bias):
        return Bias(module.weight.detach())
    down = torch.cat([module.down.weight.detach(), module.down.bias.detach()[:, None]], dim=1)
    return Bridge(down, module.up.weight.detach())


class _Bias(torch.nn.Module, comfy.ops.CastWeightBiasOp):
    """A vector, whatever the stream is."""

    comfy_cast_weights = True

    def __init__(self, weight: torch.nn.Parameter):
        super().__init__()
        self.weight = weight
        self.register_parameter("bias", None)

    def forward(self, x):
        """What is added to the stream `x`."""
        weight, bias, borrowed = comfy.ops.cast_bias_weight(self, x, offloadable=True)
        result = weight.expand_as(x).clone()
        comfy.ops.uncast_bias_weight(self, weight, bias, borrowed)
        return result


class _Bridge(torch.nn.Module):
    """A map of low rank from the normalised stream and 1, as two linear layers."""

    def __init__(self, bridge: Bridge, own: bool):
        super().__init__()
        self.down = _linear(_parameter(bridge.down[:, :-1], own), _parameter(bridge.down[:, -1], own))
        self.up = _linear(_parameter(bridge.up, own), None)

    def forward(self, x):
        """What is added to the stream `x`."""
        return self.up(self.down(normalised(x)))


def exchange(parent: torch.nn.Module, name: str, matrix: torch.Tensor, own: bool) -> None:
    """Puts `matrix` in the place of the weight of the linear layer `name` of `parent`, a module that is ours alone: in
    the dtype it is stored in, or, in a quantised format, in half precision as a plain layer. `own` as above."""
    layer = getattr(parent, name)
    if is_quantized(layer.weight) or is_ggml(layer.weight):
        bias = None if layer.bias is None else _parameter(layer.bias.detach().as_subclass(torch.Tensor), False)
        setattr(parent, name, _linear(_parameter(_fitting(matrix, stored_width(layer.weight)), own), bias))
        return
    _put(layer, _fitting(matrix, stored_width(layer.weight)), own)


def put_back(parent: torch.nn.Module, name: str, matrix: torch.Tensor) -> None:
    """The same with a `matrix` that `exchange` made once, and that comes out of a file, as it is. The layer has its
    bias; it has a weight only where that one is plain."""
    layer = getattr(parent, name)
    if hasattr(layer, "factory_kwargs"):  # of a kind that quantises
        setattr(parent, name, _linear(_parameter(matrix, False), layer.bias))
    else:
        _put(layer, matrix, False)


def _put(layer: torch.nn.Module, matrix: torch.Tensor, own: bool) -> None:
    layer.weight = _parameter(matrix, own)
    layer.weight_comfy_model_dtype = layer.weight.dtype  # dynamic VRAM reads the width of a weight here


def stored_width(weight: torch.Tensor) -> torch.dtype:
    """The dtype of what takes the place of `weight`."""
    plain = not is_quantized(weight) and not is_ggml(weight) and weight.dtype in PLAIN
    return weight.dtype if plain else WIDER


def _fitting(matrix: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """`matrix` in `dtype`, or as it is where that has no room for its numbers."""
    narrow = matrix.to(dtype)
    return narrow if torch.isfinite(narrow).all() else matrix


def _linear(weight: torch.nn.Parameter, bias: torch.nn.Parameter | None):
    """ComfyUI's layer that casts its weights to the stream, whatever they are stored in."""
    outputs, inputs = weight.shape
    layer = comfy.ops.manual_cast.Linear(inputs, outputs, bias=bias is not None, device="meta", dtype=weight.dtype)
    layer.weight, layer.bias = weight, bias
    return layer


def _parameter(values: torch.Tensor, own: bool) -> torch.nn.Parameter:
    values = values.detach().contiguous()
    return torch.nn.Parameter(values.clone() if own else values, requires_grad=False)
