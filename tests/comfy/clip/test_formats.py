"""SkrrApply in every storage format: outputs, sizes, storages and LoRA, against the dense CLIP in the same format;
and the search's own walk through the encoder against ComfyUI's encode."""

import functools

import pytest
import torch

from .. import steps
from ..formats import FORMATS, GGUF, PLAIN, make_clip, pointers
from ..oracle import t5_prefixes
from ..steps import REUSE, SKIP, by_hand, encode, make_lora, walk, with_lora
from ..tiny_models import flux_clip, pixart_clip, sd1_clip, sd3_clip

ALL = range(12)
GPU = {"load_device": torch.device("cpu:0"), "offload_device": torch.device("cpu")}


@pytest.fixture(scope="module")
def prune(pack):
    return functools.partial(steps.prune, pack)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("files")


@pytest.fixture(params=FORMATS)
def make(request, folder):
    """make(**model_options) -> a CLIP of the format, always the same."""

    def clip(**model_options):
        return make_clip(request.param, folder, **model_options)[0]

    clip.name = request.param
    return clip


# --- pruning -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("where", [{}, GPU], ids=["in place", "elsewhere"])
def test_output_storages_and_class(prune, make, where):
    """Run where they rest, kept weights are copies; run elsewhere, both use the same storages."""
    dense = make(**where)
    before = encode(dense)
    patched = prune(dense, SKIP, REUSE)
    addresses, kept = pointers(dense.cond_stage_model), pointers(patched.clip.cond_stage_model)
    if where:
        assert kept == {name: addresses[name] for name in kept}
    else:
        assert not {a for part in kept.values() for a in part} & {a for part in addresses.values() for a in part}
    assert patched.shared == bool(where)
    assert len(kept) < len(addresses)
    assert type(patched.clip.patcher) is type(dense.patcher)
    assert (type(patched.clip.patcher).__name__ == "GGUFModelPatcher") == (make.name == GGUF)
    wanted = by_hand(make())
    for _ in range(2):
        assert torch.equal(encode(patched.clip), wanted)
        assert torch.equal(encode(dense), before)
    assert not torch.equal(before, wanted)


@pytest.mark.parametrize("name", FORMATS)
def test_sizes_are_the_kept_bytes_of_the_file(prune, name, folder):
    import comfy.model_management

    dense, stored = make_clip(name, folder)
    kept = sum(size for key, size in stored.items() if not key.startswith(tuple(t5_prefixes(SKIP))))
    scalar = 4  # logit_scale, which no file holds
    patched = prune(dense, SKIP, REUSE)
    assert patched.clip_bytes == (sum(stored.values()) + scalar, kept + scalar)
    assert patched.encoder_bytes["t5xxl"] == (sum(stored.values()), kept)
    assert patched.clip.patcher.model_size() == kept + scalar
    comfy.model_management.load_models_gpu([patched.clip.patcher])
    assert patched.clip.patcher.loaded_size() == kept + scalar


@pytest.mark.parametrize("when", ["before", "after"])
def test_lora(prune, make, when):
    """Against the same LoRA on a private dense CLIP, its weights as ComfyUI patched and rounded them."""
    dense = make()
    lora, before = make_lora(pixart_clip(), ALL), encode(dense)
    if when == "after":
        styled = with_lora(prune(dense, SKIP, REUSE).clip, lora)
    else:
        source = with_lora(dense, lora)
        encode(source)  # SkrrApply finds it loaded, with the LoRA in its weights
        styled = prune(source, SKIP, REUSE).clip
    right = steps.while_loaded(with_lora(make(), lora))
    assert not torch.allclose(right, by_hand(make()), atol=0.1)
    for _ in range(2):
        assert torch.equal(encode(styled), right)
        assert torch.equal(encode(dense), before)


def test_plain_fp8_with_bad_rows_in_the_embedding(prune):
    """Such files hold NaN where their float value had no fp8; ComfyUI reads it as 0, in the search's walk too."""

    def broken():
        clip = pixart_clip(dtype=torch.float8_e4m3fn)
        token = steps.token_ids(clip)[2]
        clip.cond_stage_model.t5xxl.transformer.shared.weight.data[token, 5] = float("nan")
        return clip

    mended = broken()
    table = mended.cond_stage_model.t5xxl.transformer.shared.weight
    table.data = torch.nan_to_num(table.data.float()).to(table.dtype)
    assert torch.equal(encode(prune(broken(), SKIP, REUSE).clip), by_hand(mended))


# --- the search's walk -------------------------------------------------------------------------------------


def test_the_walk_is_comfyuis_encode(prune, pack, make):
    """With nothing skipped, with a cut, and with a LoRA."""
    dense = make()
    assert torch.equal(walk(pack, dense)["sequence"], encode(dense))
    assert torch.equal(walk(pack, dense, SKIP, REUSE)["sequence"], encode(prune(dense, SKIP, REUSE).clip))
    styled = with_lora(dense, make_lora(pixart_clip(), ALL))
    assert torch.equal(walk(pack, styled)["sequence"], encode(styled))


@pytest.mark.parametrize("name", PLAIN)
def test_the_walk_through_a_clip_text_model(prune, pack, name):
    dense = sd1_clip(dtype=PLAIN[name])
    assert torch.equal(walk(pack, dense, slot="clip_l")["sequence"], encode(dense))
    dense.clip_layer(-2)
    assert torch.equal(walk(pack, dense, slot="clip_l")["sequence"], encode(dense))
    cut = ((0, 5), {5: 3})
    assert torch.equal(walk(pack, dense, *cut, slot="clip_l")["sequence"], encode(prune(dense, *cut, "clip_l").clip))


def test_the_walk_through_trees_of_several_encoders(pack):
    """FLUX reads CLIP-L's unprojected pooled state; SD3 pads and joins two CLIPs and sets T5 behind them."""
    flux = flux_clip()
    cond, extras = flux.encode_from_tokens_scheduled(flux.tokenize(steps.TEXT))[0]
    assert torch.equal(walk(pack, flux)["sequence"], cond)
    pooled = walk(pack, flux, slot="clip_l")
    assert list(pooled) == ["pooled"] and torch.equal(pooled["pooled"], extras["pooled_output"])
    sd3 = sd3_clip()
    cond, extras = sd3.encode_from_tokens_scheduled(sd3.tokenize(steps.TEXT))[0]
    first, second = (walk(pack, sd3, slot=slot) for slot in ("clip_l", "clip_g"))
    assert torch.equal(torch.cat([first["sequence"], second["sequence"]], -1), cond[:, :77, :128])
    assert torch.equal(torch.cat([first["pooled"], second["pooled"]], -1), extras["pooled_output"])
    assert torch.equal(walk(pack, sd3)["sequence"], cond[:, 77:])


def test_parameters_are_counted_alike_in_every_format(pack, make):
    """By the tensors, whose scales and packing do not count; and as the formulas of plans have it."""
    counted(pack, make(), "t5xxl")


@pytest.mark.parametrize("clip", [flux_clip, sd1_clip])
def test_parameters_of_a_clip(pack, clip):
    counted(pack, clip(), "clip_l")


def test_parameters_of_umt5(pack):
    counted(pack, pixart_clip(t5xxl_model_config={"model_type": "umt5"}), "t5xxl")


def counted(pack, clip, slot):
    encoder = pack("nodes.comfy_host.clip.trees").choose_encoder(clip, slot)
    pack("nodes.comfy_host.weights.memory").rest(clip.patcher)
    stack, shape = encoder.adapter.stack(encoder), encoder.architecture
    assert all(block.parameters == shape.parameters_of([block.index]) for block in stack.subblocks)
    assert stack.total_parameters == shape.total_parameters
    assert stack.sparsity(range(3)) == shape.sparsity(range(3))


# --- identity ----------------------------------------------------------------------------------------------


def identity(pack, clip, slot="t5xxl"):
    encoder = pack("nodes.comfy_host.clip.trees").choose_encoder(clip, slot)
    pack("nodes.comfy_host.weights.memory").rest(clip.patcher)
    return encoder.adapter.stack(encoder).identity


def test_identity_is_the_content(pack, make):
    """Equal for an equal CLIP built again, loaded or not; another for another weight or LoRA."""
    clip, lora = make(), make_lora(pixart_clip(), ALL)
    plain = identity(pack, clip)
    encode(clip)
    assert identity(pack, clip) == identity(pack, make()) == plain
    styled = with_lora(clip, lora)
    encode(styled)
    again = with_lora(make(), make_lora(pixart_clip(), ALL))
    assert identity(pack, styled) == identity(pack, again)
    others = [styled, with_lora(clip, lora, 0.5), with_lora(clip, make_lora(clip, ALL, seed=1)), halved(make())]
    assert len({plain, *(identity(pack, other) for other in others)}) == 5


def halved(clip):
    """The same CLIP but for one sub-block's norm."""
    clip.cond_stage_model.t5xxl.transformer.encoder.block[3].layer[1].layer_norm.weight.data.fill_(0.5)
    return clip


def test_identity_of_formats_and_of_clip_skip(pack, folder):
    names = (*PLAIN, "scaled fp8", "float8_e4m3fn")
    assert len({identity(pack, make_clip(name, folder)[0]) for name in names}) == len(names)
    plain, skipped, again = sd1_clip(), sd1_clip(), sd1_clip()
    skipped.clip_layer(-2)
    again.clip_layer(-2)
    assert identity(pack, plain, "clip_l") != identity(pack, skipped, "clip_l") == identity(pack, again, "clip_l")
