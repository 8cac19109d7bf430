"""A pruned encoder -> one safetensors file: kept tensors once, under their original names, the plan inside."""

import json
from pathlib import Path

import folder_paths

from ....skrr_engine import __version__
from ....skrr_engine.disk import exists
from ....skrr_engine.errors import SkrrError
from ....skrr_engine.files.files import PLAN_KEY, PREFIXES_KEY, VERSION_KEY
from ....skrr_engine.files.tensor_writing import write_tensors
from ....skrr_engine.plans.plan import EncoderInfo, Plan, make_level
from ....skrr_engine.plans.plan_json import dumps
from ..clip.trees import TextEncoder, find_models
from ..weights.memory import rest
from ..weights.weights import is_ggml, is_quantized
from .folders import plain_name

__all__ = ["save_encoder"]

LORA_KEY = "skrr_lora"


def save_encoder(encoder: TextEncoder, name: str, bake_lora: bool, overwrite: bool) -> str:
    """Writes the encoder into `models/text_encoders` and returns a sentence about it. The file appears whole or
    not at all. `bake_lora` works the CLIP's LoRA and merge patches into plain weights."""
    if encoder.applied is None:
        raise SkrrError(f"The encoder {encoder.slot} is dense. Put Skrr Apply before, or use ComfyUI's own CLIPSave.")
    target = Path(folder_paths.get_folder_paths("text_encoders")[0]) / plain_name(name, ".safetensors")
    if exists(target) and not overwrite:
        raise SkrrError(f"{target.name} exists already. Switch on overwrite, or choose another name.")
    patcher = encoder.clip.patcher
    if any(is_ggml(parameter) for parameter in encoder.transformer.parameters()):
        raise SkrrError(
            "A GGUF encoder cannot be written as safetensors: its tensors are packed blocks. Keep the plan instead: "
            "load the GGUF file and put Skrr Apply behind it."
        )
    rest(patcher)
    state = encoder.transformer.state_dict()
    if len(find_models(patcher.model)) == 1:
        state |= encoder.clip.tokenizer.state_dict()  # umT5 and others keep their vocabulary in the file
    patched = [key for key in patcher.patches if key.startswith(encoder.key_prefix)]
    if patched and bake_lora:
        _bake(encoder, state, patched)
    lora = "none" if not patched else "baked in" if bake_lora else "left out"
    metadata = {
        PLAN_KEY: dumps(_plan_of(encoder)),
        PREFIXES_KEY: json.dumps({encoder.slot: ""}),
        VERSION_KEY: __version__,
        LORA_KEY: lora,
        "format": "pt",
    }
    size = write_tensors(state, target, metadata)
    skipped = len(encoder.applied.skip)
    return (
        f"{target.name}: {size:,} bytes, {skipped} sub-blocks left out, LoRA {lora}. "
        "Skrr CLIP Loader opens it with nothing else given."
    )


def _plan_of(encoder: TextEncoder) -> Plan:
    """The plan that the encoder was cut by, with all that it says of where it comes from, for this encoder alone."""
    slot, cut, plan = encoder.slot, encoder.applied, encoder.plan
    level = plan.levels[0]
    if level.cuts[slot] != cut:  # what was measured is another cut
        info = {slot: EncoderInfo(encoder.architecture)}
        note = f"Cut by several plans, the last of them {plan.name!r}."
        return Plan(plan.name, info, (make_level(info, {slot: cut}),), (note,))
    info = {slot: plan.encoders[slot]}
    measured = level.discrepancy if len(level.cuts) == 1 else None
    return plan.with_levels([make_level(info, {slot: cut}, measured)], encoders=info)


def _bake(encoder: TextEncoder, state: dict, keys: list[str]) -> None:
    """Works patches into the plain weights of `state`, rounded as ComfyUI's own loading rounds them."""
    patcher = encoder.clip.patcher
    for key in keys:
        name = key.removeprefix(encoder.key_prefix)
        if name not in state or is_quantized(_parameter(encoder.transformer, name)):
            raise SkrrError(
                f"LoRA cannot be baked into {name}: its storage format is quantised. Switch bake_lora off and load "
                "the LoRA behind the saved encoder, or start from an fp16 file."
            )
        weight = patcher.patch_weight_to_device(key, return_weight=True)
        state[name] = weight.to(state[name].dtype)


def _parameter(module, name: str):
    path, _, leaf = name.rpartition(".")
    return getattr(module.get_submodule(path), leaf)
