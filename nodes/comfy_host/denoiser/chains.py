"""A reader (`readers`) as a projection: the denoiser's own modules in float32 copies of our own, run over an encoder's
output as the CLIP hands it on."""

import comfy.lora
import torch

from ....skrr_engine.digest import digest_json, digest_tensors
from ....skrr_engine.errors import SkrrError
from ....skrr_engine.measure.projection import Projection
from ..clip.cloning import structural_clone
from ..clip.conditioning import joined, select
from ..clip.trees import TextEncoder
from ..encoders import llama
from ..weights.weights import is_ggml, is_quantized, raw_tensors
from .readers import Reader

__all__ = ["chain_of", "private_copy"]

SAMPLE = "a"  # which states are joined, and how, is the same for all prompts


def chain_of(reader: Reader, model, encoder: TextEncoder) -> Projection | None:
    """The projection of `encoder` by `reader`; None where the model goes without any of its modules, or where the CLIP
    hands on something else than states of the encoder. Raises SkrrError where the widths do not fit."""
    parts = {path: model.get_model_object(f"diffusion_model.{path}") for path in reader.modules}
    parts = {path: part for path, part in parts.items() if part is not None}
    selection, width, states = None, encoder.architecture.width, 1
    if encoder.adapter is llama:
        tokens = encoder.clip.tokenize(SAMPLE)
        ids = {key: [[item[0] for item in row] for row in rows] for key, rows in tokens.items()}
        selection = select(encoder.clip, encoder.slot, ids)
        states = 0 if selection is None else len(selection.states)
    if not parts or not states:
        return None
    _check_width(reader, model, encoder, parts, width * (1 if reader.run else states))
    modules = [private_copy(model, path) if isinstance(part, torch.nn.Module) else part for path, part in parts.items()]

    def apply(outputs, batch):
        values = joined(outputs["sequence"].float(), selection, width)
        near = [part.to(values.device) if isinstance(part, torch.nn.Module) else part for part in modules]
        if reader.run is not None:
            return {"sequence": reader.run(near, values, width)}
        for module in near:
            values = module(values)
        return {"sequence": values}

    tensors = [
        (f"{path}.{name}", tensor)
        for path, module in zip(parts, modules, strict=True)
        if isinstance(module, torch.nn.Module)
        for name, tensor in raw_tensors(module)
    ]
    order = None if selection is None else [selection.states, selection.interleaved]
    identity = digest_json([reader.name, encoder.slot, digest_tensors(tensors), order])
    shown = [path for path, part in parts.items() if isinstance(part, torch.nn.Module)]
    return Projection(f"{reader.name}: {' and '.join(shown)}", {"sequence": "sequence"}, apply, identity)


def _check_width(reader: Reader, model, encoder: TextEncoder, parts: dict, gives: int) -> None:
    """Raises SkrrError where the first matrix does not take what the encoder gives."""
    name = type(model.get_model_object("diffusion_model")).__name__
    for path, part in parts.items():
        matrices = [p for p in part.parameters() if p.dim() == 2] if isinstance(part, torch.nn.Module) else []
        if matrices:
            takes = matrices[0].shape[1]
            if takes != gives:
                raise SkrrError(
                    f"This MODEL and this CLIP do not belong together: {name}'s {path} takes {takes} values, the "
                    f"encoder {encoder.slot} gives {gives}. Connect the CLIP made for this model."
                )
            return


def private_copy(model, path: str):
    """The sub-module at `diffusion_model.<path>` as a tree of our own, patches worked in, in float32 where it is
    not GGUF (which dequantises in its own forward), casting its weights to the input's dtype and device."""
    source = model.get_model_object(f"diffusion_model.{path}")
    clone = structural_clone(source)
    for module_name, module in clone.named_modules():
        if hasattr(module, "comfy_cast_weights"):
            module.comfy_cast_weights = True
        for name, parameter in list(module.named_parameters(recurse=False)):
            key = ".".join(part for part in ("diffusion_model", path, module_name, name) if part)
            # A loaded legacy model holds patched weights; the pristine ones are in its backup.
            weight = model.backup[key].weight if key in model.backup else parameter
            patches = model.patches.get(key, [])
            if is_ggml(weight):
                weight.patches = [(patches, key)] if patches else []
                continue
            value = weight.dequantize() if is_quantized(weight) else weight
            value = value.detach().to(device="cpu", dtype=torch.float32, copy=True)
            if patches:
                value = comfy.lora.calculate_weight(patches, value, key)
            setattr(module, name, torch.nn.Parameter(value, requires_grad=False))
    return clone
