"""A smaller encoder -> one safetensors file: kept tensors once, under their original names, the plan inside if there is
one, and the names of the free parts that it is written without."""

import json
from dataclasses import replace
from pathlib import Path

import folder_paths
import torch

from ....skrr_engine import __version__
from ....skrr_engine.disk import exists
from ....skrr_engine.errors import SkrrError
from ....skrr_engine.files.files import PLAN_KEY, PREFIXES_KEY, VERSION_KEY
from ....skrr_engine.files.tensor_writing import write_tensors
from ....skrr_engine.plans.plan import EncoderInfo, Plan, make_level
from ....skrr_engine.plans.plan_json import dumps
from ..clip.trees import LARGEST, TextEncoder, choose_encoder, find_models, text_encoders
from ..weights.host_table import HostTable
from ..weights.memory import rest
from ..weights.weights import count_parameters, is_ggml, is_quantized
from .baked import baked, is_corrected
from .folders import plain_name
from .freed_files import free_metadata, hub_names

__all__ = ["encoder_to_save", "save_encoder"]

LORA_KEY = "skrr_lora"


def save_encoder(encoder: TextEncoder, name: str, bake_lora: bool, overwrite: bool) -> str:
    """Writes the encoder into `models/text_encoders` and returns a sentence about it. The file appears whole or
    not at all. `bake_lora` works the CLIP's LoRA and merge patches into plain weights."""
    if encoder.applied is None and not encoder.freed:
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
    state = encoder.transformer.state_dict() | _tables(encoder.transformer)
    if len(find_models(patcher.model)) == 1:
        state |= encoder.clip.tokenizer.state_dict()  # umT5 and others keep their vocabulary in the file
    patched = [key for key in patcher.patches if key.startswith(encoder.key_prefix)]
    if patched and bake_lora:
        _bake(encoder, state, patched)
    lora = "none" if not patched else "baked in" if bake_lora else "left out"
    names = hub_names([*state, *(name for part in encoder.freed for name, _, _ in part.tensors)])
    metadata, marks = free_metadata(encoder.freed, names)
    if is_corrected(encoder):
        more, about, stands_for = baked(encoder)
        state = {name: tensor for name, tensor in state.items() if name not in stands_for}
        metadata, marks = metadata | about, marks | more
    if encoder.applied is not None:
        metadata |= {PLAN_KEY: dumps(_plan_of(encoder)), PREFIXES_KEY: json.dumps({encoder.slot: ""})}
    metadata |= {VERSION_KEY: __version__, LORA_KEY: lora, "format": "pt"}
    size = write_tensors(marks | {names[name]: tensor for name, tensor in state.items()}, target, metadata)
    return _sentence(encoder, target.name, size, lora)


def encoder_to_save(clip, slot: str) -> TextEncoder:
    """The encoder in `slot`, or the one with the most parameters of those that are smaller than they were."""
    smaller = [encoder for encoder in text_encoders(clip).values() if encoder.applied is not None or encoder.freed]
    if slot == LARGEST and smaller:
        return max(smaller, key=lambda encoder: count_parameters(encoder.transformer))
    return next((encoder for encoder in smaller if encoder.slot == slot), None) or choose_encoder(clip, slot)


def _tables(transformer) -> dict[str, torch.Tensor]:
    """The embedding tables that are looked up where they are stored: the file needs them."""
    tables = [(path, module) for path, module in transformer.named_modules() if isinstance(module, HostTable)]
    return {f"{path}.{name}": tensor for path, module in tables for name, tensor in module.stored().items()}


def _sentence(encoder: TextEncoder, name: str, size: int, lora: str) -> str:
    """What was written, for people."""
    skipped = "" if encoder.applied is None else f"{len(encoder.applied.skip)} sub-blocks left out, "
    free = sum(part.size for part in encoder.freed if part.kind != "table")
    free = f"{free:,} bytes of parts left out that no picture reads, " if free else ""
    corrected = "corrections baked in, " if is_corrected(encoder) else ""
    return (
        f"{name}: {size:,} bytes, {skipped}{free}{corrected}LoRA {lora}. Skrr CLIP Loader opens it with "
        "nothing else given."
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
    note = level.corrections if is_corrected(encoder) else None
    note = note and replace(note, weights={slot: note.weights[slot]})
    return plan.with_levels([make_level(info, {slot: cut}, measured, note)], encoders=info)


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
