"""The free parts of every family at real size, counted from shapes: the trees are built without data."""

import importlib.util
import os
import sys
from pathlib import Path
from types import SimpleNamespace

from .families import FAMILIES, build

__all__ = ["measure_families", "start_comfyui"]

PACK = Path(__file__).resolve().parents[2]
KINDS = {
    "t5": "T5", "clip": "CLIP", "llama": "Llama", "qwen35": "Qwen3.5", "gemma4": "Gemma 4", "t5gemma": "T5Gemma",
}  # fmt: skip


def start_comfyui():
    """Puts ComfyUI ($COMFYUI_PATH) and the pack into this process; its release and the pack's importer."""
    sys.path[:] = [entry for entry in sys.path if Path(entry or ".").resolve() != PACK]
    sys.path.insert(0, str(Path(os.environ["COMFYUI_PATH"]).expanduser()))
    sys.argv = ["main.py", "--cpu"]
    import comfy.options

    comfy.options.enable_args_parsing()
    import comfyui_version
    import utils.extra_config  # noqa: F401 (before nodes.py hides it)

    spec = importlib.util.spec_from_file_location(
        "skrr_pack", PACK / "__init__.py", submodule_search_locations=[str(PACK)]
    )
    sys.modules["skrr_pack"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(sys.modules["skrr_pack"])
    return comfyui_version.__version__, lambda name: importlib.import_module(f"skrr_pack.{name}")


def measure_families(pack) -> dict[str, dict]:
    """Family -> encoders with kind, layers and what is read, and the bytes of the whole CLIP and of each free part, in
    bf16. Families that this ComfyUI does not have are left out."""
    import torch

    found = {}
    for family in FAMILIES:
        if (cls := build(family)) is not None:
            tree = cls(device="meta", dtype=torch.bfloat16, model_options={})
            tree.to(torch.bfloat16)
            found[family.name] = {"encoder": family.encoder, **_measure(pack, tree)}
    return found


def _measure(pack, tree) -> dict:
    clip = SimpleNamespace(patcher=_NoPatches(tree), layer_idx=None)
    encoders = pack("nodes.comfy_host.encoders")
    find_models = pack("nodes.comfy_host.clip.trees").find_models
    shapes = {}
    for slot, sd_model in find_models(tree).items():
        anatomy = encoders.anatomy_of(sd_model.transformer)
        if anatomy is None:
            shapes[slot] = {"kind": None, "class": type(sd_model.transformer).__name__}
            continue
        reads = pack("nodes.comfy_host.clip.reads").reads_of(clip, slot, sd_model, anatomy)
        shapes[slot] = {
            "kind": _kind(encoders, sd_model.transformer),
            "layers": reads.of,
            "reads": str(reads.words).removeprefix("this CLIP "),
            "searched": encoders.adapter_of(sd_model.transformer) is not None,
        }
    parts: dict[str, int] = {}
    for part in pack("nodes.comfy_host.clip.free").find_free(clip, tables=True):
        parts[part.kind] = parts.get(part.kind, 0) + part.size
    return {"encoders": shapes, "bytes": pack("nodes.comfy_host.weights.memory").module_bytes(tree), "free": parts}


def _kind(encoders, transformer) -> str:
    kind = next(KINDS[kind.__name__.rpartition(".")[2]] for kind in encoders.KINDS if kind.matches(transformer))
    config = getattr(getattr(transformer, "model", None), "config", None)
    gemma = "gemma" in str(getattr(config, "transformer_type", ""))
    return "Gemma" if gemma and kind == "Llama" else kind


class _NoPatches:
    """A patcher as far as it is asked here."""

    patches, hook_patches, object_patches = {}, {}, {}

    def __init__(self, model):
        self.model = model

    def get_attachment(self, key):
        """Nothing was made smaller."""
        return None
