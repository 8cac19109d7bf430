"""Where the tensors of one text encoder lie: in a safetensors file, or in the folder of a transformers model.

Only headers and config.json are read here, so nothing is loaded and PyTorch is not needed.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from ..disk import is_file, is_folder, reading
from ..errors import SkrrError
from ..plans.plan import Plan
from ..plans.plan_json import loads
from .files import PLAN_KEY, PREFIXES_KEY
from .header import Header, read_header
from .tensor_names import EncoderTensors, find_encoders

__all__ = ["EncoderFiles", "find_encoder"]

MAX_CONFIG = 1_000_000
FAMILIES = {"t5": "t5", "umt5": "t5", "clip_text_model": "clip", "clip": "clip"}
# What a config tells and no shape does, under the names of transformers: the type, or the values known here.
TOLD = {
    "t5": {
        "feed_forward_proj": ("gated-gelu", "gelu", "gelu_new", "relu"),
        "layer_norm_epsilon": float,
        "relative_attention_max_distance": int,
    },
    "clip": {
        "num_attention_heads": int,
        "hidden_act": ("quick_gelu", "gelu", "gelu_pytorch_tanh"),
        "layer_norm_eps": float,
        "eos_token_id": int,
    },
}


@dataclass(frozen=True)
class EncoderFiles:
    """One encoder's tensors and, by their full names, the headers of the files that hold them.

    `told` are fields of its transformers config (see TOLD), empty for a single file. `plan` is the plan of a
    pruned file, which then is for the encoder `slot`.
    """

    path: Path
    encoder: EncoderTensors
    headers: Mapping[str, Header]
    told: Mapping = field(default_factory=dict)
    plan: Plan | None = None
    slot: str | None = None


def find_encoder(path: str | Path, slot: str | None = None) -> EncoderFiles:
    """The encoder in the file or folder `path`; `slot` chooses one where there are several. Raises SkrrError."""
    path = Path(path)
    if is_folder(path):
        return _in_folder(path, slot)
    header = read_header(path)
    headers = dict.fromkeys(header.tensors, header)
    if PLAN_KEY in header.metadata:
        return _pruned(header, headers, slot)
    return EncoderFiles(path, _choose(find_encoders(header.tensors), slot, path), headers)


def _choose(found: list[EncoderTensors], slot: str | None, path: Path) -> EncoderTensors:
    if not found:
        raise SkrrError(
            f"{path.name} holds no T5, umT5 or CLIP text encoder under the names of transformers or ComfyUI "
            "(encoder.block.0… or text_model.encoder.layers.0…). Choose a text-encoder file."
        )
    named = [encoder for encoder in found if slot and slot in encoder.prefix]
    if len(found) > 1 and len(named) != 1:
        raise SkrrError(
            f"{path.name} holds {len(found)} text encoders, under {', '.join(repr(e.prefix) for e in found)}. "
            "Name one with --slot, by a part of those names."
        )
    return found[0] if len(found) == 1 else named[0]


def _pruned(header: Header, headers: Mapping[str, Header], slot: str | None) -> EncoderFiles:
    """A file that `files.write_pruned` wrote: its plan says what is missing."""
    plan = loads(header.metadata[PLAN_KEY])
    cuts = plan.levels[0].cuts
    try:
        prefixes = json.loads(header.metadata[PREFIXES_KEY])
        slot = slot or next(iter(prefixes))
        prefix = prefixes[slot]
        fits = isinstance(prefix, str) and slot in cuts and len(plan.levels) == 1
    except (ValueError, LookupError, TypeError, StopIteration, RecursionError):
        fits = False
    if not fits:
        raise SkrrError(
            f"{header.path.name} has a plan for {', '.join(cuts)} inside, but no pruned encoder {slot!r} to open. "
            "Check --slot, or prune the dense file again."
        )
    encoder = EncoderTensors(
        prefix,
        plan.encoders[slot].architecture.family,
        {n.removeprefix(prefix): entry for n, entry in header.tensors.items() if n.startswith(prefix)},
    )
    return EncoderFiles(header.path, encoder, headers, {}, plan, slot)


def _in_folder(folder: Path, slot: str | None) -> EncoderFiles:
    family, told = _read_config(folder)
    whole = folder / "model.safetensors"
    if is_file(folder / "model.safetensors.index.json"):
        with reading(folder):
            paths = sorted(folder.glob("model-*-of-*.safetensors"))
    else:
        paths = [whole] if is_file(whole) else []
    if not paths:
        raise SkrrError(
            f"{folder} holds neither model.safetensors nor its shards with their index. Pickled weights (.bin, "
            ".pt) are never opened: convert them, or choose one safetensors file instead of the folder."
        )
    headers: dict[str, Header] = {}
    for header in map(read_header, paths):
        headers |= dict.fromkeys(header.tensors, header)
    encoder = _choose(find_encoders({name: h.tensors[name] for name, h in headers.items()}), slot, folder)
    if encoder.family != family:
        raise SkrrError(
            f"{folder / 'config.json'} is the config of a {family.upper()}, but the weights beside it are of a "
            f"{encoder.family.upper()}. Choose a folder whose files belong together."
        )
    return EncoderFiles(folder, encoder, headers, told)


def _read_config(folder: Path) -> tuple[str, dict]:
    """The family, and the fields of TOLD that the config has."""
    path = folder / "config.json"
    if not is_file(path):
        raise SkrrError(f"{folder} has no config.json. Choose a transformers folder, or one safetensors file.")
    with reading(path), open(path, "rb") as file:
        text = file.read(MAX_CONFIG)
    try:
        config = json.loads(text)
        family = FAMILIES[config["model_type"]]
        config = config.get("text_config", config)
        told = {name: config[name] for name in TOLD[family] if config.get(name) is not None}
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
        raise SkrrError(
            f"{path} is not the config of a text encoder of type {', '.join(FAMILIES)}. Choose that encoder's folder."
        ) from None
    for name, value in told.items():
        known = TOLD[family][name]
        if isinstance(known, tuple):
            fits, expected = value in known, "one of " + ", ".join(known)
        else:
            fits, expected = isinstance(value, (known, int)) and value > 0, "a number above 0"
        if not fits:
            raise SkrrError(f"{path}: field {name} is {value!r}; expected {expected}.")
    return family, told
