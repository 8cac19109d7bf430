"""Free parts of every family that this ComfyUI has: what is taken out changes no bit of the conditioning."""

import functools
from types import SimpleNamespace

import pytest
import torch

from ..free_clips import FAMILIES, IDS, assert_same, encoded, families, freed, small_clip

# Nothing of them is taken: the language model writes what the model reads, and a kind that the pack does not know.
WHOLE = ("ACE-Step 1.5", "Lens")


@pytest.fixture
def clip_of(monkeypatch):
    """clip_of(family) -> a small CLIP of it with random weights."""
    return functools.partial(small_clip, monkeypatch=monkeypatch)


@pytest.mark.parametrize("name", [name for name in FAMILIES if name not in WHOLE])
def test_no_bit_changes(pack, clip_of, name):
    clip = clip_of(name)
    dense = encoded(clip, name)
    patched = freed(pack, clip, tables=True)
    assert_same(encoded(patched.clip, name), dense)
    assert_same(encoded(clip, name), dense)
    assert_same(encoded(patched.clip, name), dense)
    before, after = patched.clip_bytes
    assert before - after == sum(part.size for part in patched.free)


@pytest.mark.parametrize("name", WHOLE)
def test_nothing_is_taken_of_what_cannot_be_judged(pack, clip_of, name):
    tree = families.build(FAMILIES[name])
    if tree is None:
        pytest.skip(f"this ComfyUI has no {name}")
    tree = tree(device="meta", dtype=torch.float16, model_options=FAMILIES[name].small)
    clip = SimpleNamespace(patcher=SimpleNamespace(model=tree), layer_idx=None)
    assert pack("nodes.comfy_host.clip.free").find_free(clip, tables=True) == ()


READ = [
    ("FLUX.2 klein 4B", 27, 36, "reads layers 9, 18 and 27 of 36"),
    ("FLUX.2 dev", 30, 40, "reads layers 10, 20 and 30 of 40"),
    ("Z-Image", 35, 36, "reads layer 35 of 36"),
    ("HunyuanVideo", 30, 32, "reads layer 30 of 32"),
    ("SDXL", 3, 4, "reads layer 3 of 4"),
]


@pytest.mark.parametrize("name, kept, layers, words", READ, ids=[read[0] for read in READ])
def test_dead_layers_go_whole_and_say_why(pack, clip_of, name, kept, layers, words):
    (part,) = (p for p in pack("nodes.comfy_host.clip.free").find_free(clip_of(name)) if p.kind == "layers")
    assert part.why == f"this CLIP {words}" and part.kept[:2] == (layers, kept)
    assert [int(path.rpartition(".")[2]) for path in part.paths] == list(range(kept, layers))


def test_clip_skip_that_wants_a_removed_layer_is_refused_in_a_sentence(pack, clip_of):
    small = freed(pack, clip_of("SDXL")).clip
    later = small.clone()
    later.clip_layer(-1)
    with pytest.raises(pack("skrr_engine.errors").SkrrError, match=r"needs layer 4 of the .* left 3 of 4"):
        encoded(later, "SDXL")


def test_clip_skip_set_before_is_what_counts(pack, clip_of):
    clip = clip_of("SDXL")
    clip.clip_layer(-3)
    dense, patched = encoded(clip, "SDXL"), freed(pack, clip)
    assert_same(encoded(patched.clip, "SDXL"), dense)
    assert next(p for p in patched.free if p.slot == "clip_l" and p.kind == "layers").kept[:2] == (4, 2)


def test_writing_text_is_refused_or_kept_by_a_switch(pack, clip_of):
    clip = clip_of("FLUX.2 klein 9B")
    rows = families.tokens_for(FAMILIES["FLUX.2 klein 9B"], IDS[:8])
    options = {"do_sample": False, "max_length": 3, "seed": 1}
    dense = clip.generate(rows, **options)
    with pytest.raises(pack("skrr_engine.errors").SkrrError, match=r"cannot write text any more.*text_generation"):
        freed(pack, clip, tables=True).clip.generate(rows, **options)
    assert freed(pack, clip, tables=True, text_generation=True).free == ()
    assert clip.generate(rows, **options) == dense


def test_a_picture_without_the_tower_is_refused_in_a_sentence(pack, clip_of):
    clip, name = clip_of("Qwen-Image"), "Qwen-Image"
    tokens = families.tokens_for(FAMILIES[name], IDS)
    picture = torch.rand(1, 64, 64, 3, generator=torch.Generator().manual_seed(1))
    tokens["qwen25_7b"][0][20] = ({"type": "image", "data": picture, "original_type": "image"}, 1.0)
    dense = clip.encode_from_tokens(tokens, return_dict=True)
    kept = freed(pack, clip, pictures=True)
    assert_same(kept.clip.encode_from_tokens(tokens, return_dict=True), dense)
    assert not any(part.kind == "tower" for part in kept.free)
    with pytest.raises(pack("skrr_engine.errors").SkrrError, match=r"cannot look at pictures any more.*pictures"):
        freed(pack, clip).clip.encode_from_tokens(tokens, return_dict=True)


def test_a_table_that_a_lora_changes_stays(pack, clip_of):
    clip = clip_of("Z-Image")
    key = "qwen3_4b.transformer.model.embed_tokens.weight"
    clip.add_patches({key: ("diff", (torch.ones_like(clip.patcher.model.state_dict()[key]),))}, 0.5)
    dense, patched = encoded(clip, "Z-Image"), freed(pack, clip, tables=True)
    assert_same(encoded(patched.clip, "Z-Image"), dense)
    assert not any(part.kind == "table" for part in patched.free)


def test_free_twice_is_free_once(pack, clip_of):
    clip = clip_of("FLUX.2 klein 9B")
    dense, once = encoded(clip, "FLUX.2 klein 9B"), freed(pack, clip, tables=True)
    assert pack("nodes.comfy_host.clip.free").find_free(once.clip, tables=True) == ()
    twice = freed(pack, once.clip, tables=True)
    assert twice.clip_bytes == (once.clip_bytes[1], once.clip_bytes[1])
    assert_same(encoded(twice.clip, "FLUX.2 klein 9B"), dense)


def test_where_another_pack_encodes_all_counts_as_read(pack, clip_of):
    clip = clip_of("SDXL")
    tree = clip.patcher.model

    def with_all_pooled(tokens):
        low, low_pooled = tree.clip_l.encode_token_weights(tokens["l"])
        high, pooled = tree.clip_g.encode_token_weights(tokens["g"])
        return torch.cat((low, high), dim=-1), torch.cat((low_pooled, pooled), dim=-1)

    assert any(part.kind == "layers" for part in pack("nodes.comfy_host.clip.free").find_free(clip))
    clip.patcher.add_object_patch("encode_token_weights", with_all_pooled)
    assert pack("nodes.comfy_host.clip.free").find_free(clip, tables=False) == ()
