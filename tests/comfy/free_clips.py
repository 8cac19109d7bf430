"""Small CLIPs of every family of benchmarks/free/families.py, with random weights."""

import importlib.util
import sys
from pathlib import Path
from types import SimpleNamespace

import comfy.sd
import comfyui_version
import pytest
import torch

from .tiny_models import random_state

PACK = Path(__file__).resolve().parents[2]
spec = importlib.util.spec_from_file_location("skrr_families", PACK / "benchmarks" / "free" / "families.py")
families = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
spec.loader.exec_module(families)
FAMILIES = {family.name: family for family in families.FAMILIES}
IDS = [5 + (37 * n) % 241 for n in range(48)]
# (release, family): that ComfyUI fails to encode with its own class.
BROKEN = {("0.18.1", "Lumina 2 with Gemma 3 and its tower")}


class NoTokenizer:
    """Where tokens are given as they are."""

    def __init__(self, embedding_directory=None, tokenizer_data=None):
        pass


def small_clip(name, monkeypatch, dtype=torch.float16, state=None, **options):
    """A small CLIP of the family with random weights, or, with one encoder, those of `state`. Skips, aloud, where this
    ComfyUI has no such family. `options` go to ComfyUI's CLIP."""
    families.small_towers(monkeypatch.setitem, monkeypatch.setattr)
    family = FAMILIES[name]
    if (comfyui_version.__version__, name) in BROKEN:
        pytest.skip(f"this ComfyUI itself cannot encode with {name}")
    tree = families.build(family)
    if tree is None:
        pytest.skip(f"this ComfyUI has no {name}")
    target = SimpleNamespace(params={}, clip=tree, tokenizer=NoTokenizer)
    options = {"dtype": dtype, **family.small, **options}
    if state is not None:  # as a loader does: modules of quantised files have no weights before
        state = {key.partition(".transformer.")[2]: value for key, value in state.items() if ".transformer." in key}
        return comfy.sd.CLIP(target, model_options=options, state_dict=[state])
    clip = comfy.sd.CLIP(target, model_options=options)
    state = random_state(clip.patcher.model.state_dict(), 3)
    clip.patcher.model.load_state_dict(state, strict=False, assign=clip.patcher.is_dynamic())
    return clip


def encoded(clip, name, ids=None):
    """All that the CLIP hands on."""
    return clip.encode_from_tokens(families.tokens_for(FAMILIES[name], IDS if ids is None else ids), return_dict=True)


def assert_same(found, wanted):
    """Equal bit for bit, part by part."""
    assert found.keys() == wanted.keys()
    for key, value in wanted.items():
        if torch.is_tensor(value):
            assert found[key].dtype == value.dtype and torch.equal(found[key], value), key
            assert torch.isfinite(value).all()
        else:
            assert found[key] == value, key


def freed(pack, clip, **options):
    """Patched: `clip` without its free parts."""
    free = pack("nodes.comfy_host.clip.free").find_free(clip, **options)
    return pack("nodes.comfy_host.clip.patching").make_smaller(clip, free=free)
