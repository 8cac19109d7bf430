"""Weights in ComfyUI's storage formats: plain tensors, QuantizedTensor (fp8 and others), GGUF's GGMLTensor."""

import copy
import math

import torch

from ....skrr_engine.digest import digest_json, digest_tensors

__all__ = ["count_parameters", "is_ggml", "is_quantized", "patch_digest", "raw_tensors", "rewrap", "smooth"]


def is_ggml(tensor) -> bool:
    """Whether `tensor` is a GGMLTensor of ComfyUI-GGUF: raw blocks with a logical shape and its own patches."""
    return hasattr(tensor, "tensor_type") and hasattr(tensor, "patches")


def is_quantized(tensor) -> bool:
    """Whether `tensor` is a QuantizedTensor of comfy-kitchen: a wrapper over integer or fp8 data and scales."""
    return hasattr(tensor, "_qdata")


def smooth(layer, matrix: torch.Tensor) -> torch.Tensor:
    """Takes into `matrix`, a copy of the weight of `layer`, what the layer multiplies its input with before (AWQ files
    do); most do not. In place."""
    scale = getattr(layer, "pre_quant_scale", None)
    return matrix if scale is None else matrix.mul_(scale.detach().to(matrix))


def count_parameters(module) -> int:
    """How many parameters a module has, in any storage format: by the shapes of its weights and biases, which are those
    of the encoder also where the data is packed. The scales that a format keeps beside them are none."""
    named = module.named_parameters()
    return sum(math.prod(p.shape) for name, p in named if name.rpartition(".")[2] in ("weight", "bias"))


def rewrap(parameter, share: bool):
    """A new Parameter over the same storage (`share`), or over a copy of it, without any run-time state."""
    if is_ggml(parameter):
        raw = parameter.as_subclass(torch.Tensor).detach()
        # GGMLTensor's own clone and detach return the tensor itself, and Parameter(ggml) is the same object.
        new = (raw if share else raw.clone()).as_subclass(type(parameter))
        new.__dict__.update({k: v for k, v in parameter.__dict__.items() if k not in ("patches", "_is_param")})
        new.patches = []
        new._is_param = True
        return new
    value = parameter.detach() if is_quantized(parameter) else parameter.data
    new = torch.nn.Parameter(value if share else value.clone(), requires_grad=False)
    if share and is_quantized(parameter):
        new._params = copy.copy(parameter._params)  # detach() made new scales; nvfp4's are a ninth of its bytes
    return new


def raw_tensors(module):
    """(name, plain tensor) for every tensor that a module's parameters and buffers are made of."""
    for name, tensor in [*module.named_parameters(), *module.named_buffers()]:
        if is_quantized(tensor):
            yield name, tensor._qdata
            for key, value in sorted(vars(tensor._params).items()):
                if torch.is_tensor(value):
                    yield f"{name}.{key}", value
        else:
            yield name, tensor.as_subclass(torch.Tensor)


def patch_digest(patches: dict, prefix: str) -> str:
    """A content digest of the LoRA and merge patches on keys below `prefix` (a patcher's uuid is random)."""
    lines = []
    for key in sorted(k for k in patches if k.startswith(prefix)):
        lines.append([key, [_describe(part) for part in patches[key]]])
    return digest_json(lines)


def _describe(value):
    """Numbers and names as they are, tensors as digests, containers and adapters part by part."""
    if torch.is_tensor(value):
        return digest_tensors([("", value)])
    if isinstance(value, (list, tuple)):
        return [_describe(part) for part in value]
    if hasattr(value, "weights"):  # comfy's weight adapters (LoRA, LoHa, …)
        return [type(value).__name__, _describe(value.weights)]
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    return getattr(value, "__qualname__", type(value).__name__)
