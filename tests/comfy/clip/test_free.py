"""Free parts of every family that this ComfyUI has: what is taken out changes no bit of the conditioning."""

import importlib.util
import sys
from pathlib import Path
from types import SimpleNamespace

import comfy.sd
import pytest
import torch

from ..tiny_models import random_state

PACK = Path(__file__).resolve().parents[3]
spec = importlib.util.spec_from_file_location("skrr_families", PACK / "benchmarks" / "free" / "families.py")
families = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
spec.loader.exec_module(families)
FAMILIES = {family.name: family for family in families.FAMILIES}
IDS = [5 + (37 * n) % 241 for n in range(48)]
# Nothing of them is taken: the language model writes what the model reads, and a kind that the pack does not know.
WHOLE = ("ACE-Step 1.5", "Lens")


class NoTokenizer:
    """Where tokens are given as they are."""

    def __init__(self, embedding_directory=None, tokenizer_data=None):
        pass


@pytest.fixture
def clip_of(monkeypatch):
    """clip_of(family) -> a small CLIP of it with random weights."""
    families.small_towers(monkeypatch.setitem, monkeypatch.setattr)

    def make(name, dtype=torch.float16, **options):
        family = FAMILIES[name]
        tree = families.build(family)
        if tree is None:
            pytest.skip(f"this ComfyUI has no {name}")
        target = SimpleNamespace(params={}, clip=tree, tokenizer=NoTokenizer)
        clip = comfy.sd.CLIP(target, model_options={"dtype": dtype, **family.small, **options})
        clip.patcher.model.load_state_dict(random_state(clip.patcher.model.state_dict(), 3), strict=False)
        return clip

    return make


def encoded(clip, name, ids=IDS):
    """All that the CLIP hands on."""
    return clip.encode_from_tokens(families.tokens_for(FAMILIES[name], ids), return_dict=True)


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


@pytest.mark.parametrize("name", [name for name in FAMILIES if name not in WHOLE])
def test_no_bit_changes(pack, clip_of, name):
    clip = clip_of(name)
    dense = encoded(clip, name)
    patched = freed(pack, clip)
    assert_same(encoded(patched.clip, name), dense)
    assert_same(encoded(clip, name), dense)
    assert_same(encoded(patched.clip, name), dense)
    before, after = patched.clip_bytes
    assert before - after == sum(part.size for part in patched.free)
