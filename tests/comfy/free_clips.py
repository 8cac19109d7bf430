"""Small CLIPs of every family of benchmarks/free/families.py, with random weights."""

import importlib.util
import sys
import zlib
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


def small_clip(name, monkeypatch, dtype=torch.float16, state=None, tokenizer=NoTokenizer, **options):
    """A small CLIP of the family with random weights, or, with one encoder, those of `state`. Skips, aloud, where this
    ComfyUI has no such family. `options` go to ComfyUI's CLIP."""
    families.small_towers(monkeypatch.setitem, monkeypatch.setattr)
    family = FAMILIES[name]
    if (comfyui_version.__version__, name) in BROKEN:
        pytest.skip(f"this ComfyUI itself cannot encode with {name}")
    tree = families.build(family)
    if tree is None:
        pytest.skip(f"this ComfyUI has no {name}")
    target = SimpleNamespace(params={}, clip=tree, tokenizer=tokenizer)
    options = {"dtype": dtype, **family.small, **options}
    if state is not None:  # as a loader does: modules of quantised files have no weights before
        state = {key.partition(".transformer.")[2]: value for key, value in state.items() if ".transformer." in key}
        return comfy.sd.CLIP(target, model_options=options, state_dict=[state])
    clip = comfy.sd.CLIP(target, model_options=options)
    state = random_state(clip.patcher.model.state_dict(), 3)
    clip.patcher.model.load_state_dict(state, strict=False, assign=clip.patcher.is_dynamic())
    return clip


# family -> ComfyUI's own tokenizer for it, of those whose files every checkout has.
TOKENIZERS = {
    "Z-Image": "z_image.ZImageTokenizer", "FLUX.2 klein 4B": "flux.KleinTokenizer",
    "FLUX.2 klein 9B": "flux.KleinTokenizer8B", "Qwen-Image": "qwen_image.QwenImageTokenizer",
    "HunyuanImage 2.1, HunyuanVideo 1.5": "hunyuan_image.HunyuanImageTokenizer",
    "Kandinsky 5": "kandinsky5.Kandinsky5Tokenizer", "LongCat-Image": "longcat_image.LongCatImageTokenizer",
    "OmniGen2": "omnigen2.Omnigen2Tokenizer", "Ovis-Image": "ovis.OvisTokenizer",
    "Anima": "anima.AnimaTokenizer", "Krea 2": "krea2.Krea2Tokenizer", "MageFlow": "mage_flow.MageFlowTokenizer",
    "Boogu": "boogu.BooguTokenizer", "JoyImage": "joyimage.JoyImageTokenizer",
    "Ideogram 4": "ideogram4.Ideogram4Tokenizer", "Ideogram 4, VL file": "ideogram4.Ideogram4Tokenizer",
    "MiniMax H3": "minimax.MiniMaxH3Tokenizer",
}  # fmt: skip


def words_of(name):
    """A tokenizer class for a family that has none here: a number a word, the same for every encoder."""

    class Words:
        def __init__(self, embedding_directory=None, tokenizer_data=None):
            pass

        def tokenize_with_weights(self, text, return_word_ids=False, **options):
            return families.tokens_for(FAMILIES[name], [2, *(5 + zlib.crc32(w.encode()) % 290 for w in text.split())])

    return Words


def talking_clip(name, monkeypatch, layers=None, **options):
    """`small_clip` in float32 with ComfyUI's own tokenizer for the family where TOKENIZERS has one, every word in its
    table, and 32 wide; `layers`: of its language model."""
    tokenizer, narrow = words_of(name), {"hidden_size": 32}
    if name in TOKENIZERS:
        module, _, cls = TOKENIZERS[name].rpartition(".")
        try:
            tokenizer = getattr(importlib.import_module(f"comfy.text_encoders.{module}"), cls)
        except ImportError:
            pytest.skip(f"this ComfyUI has no {name}")
        narrow["vocab_size"] = 152064
    if layers is not None:
        narrow["num_hidden_layers"] = layers
    small = {}
    for key, config in FAMILIES[name].small.items():
        if "vocab_size" in config:
            small[key] = {**config, **narrow} if "hidden_size" in config else {**config, "d_model": 32}
    return small_clip(name, monkeypatch, **{"dtype": torch.float32, "tokenizer": tokenizer, **small, **options})


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
