"""SkrrApply on CLIPs and in situations that are out of the ordinary."""

import copy
import functools
from types import SimpleNamespace

import pytest
import torch

from .. import steps
from ..oracle import clip_forward, kept_bytes, t5_prefixes
from ..steps import REUSE, SKIP, by_hand, dense_wanted, encode, make_lora, wanted, with_lora
from ..tiny_models import pixart_clip, random_state, sd1_clip

ALL = range(12)


@pytest.fixture(scope="module")
def prune(pack):
    return functools.partial(steps.prune, pack)


# --- umT5: a position table in every layer -----------------------------------------------------------------


def umt5_clip():
    return pixart_clip(t5xxl_model_config={"model_type": "umt5"})


UMT5_CUTS = [
    ([0], {}),
    ([2], {}),
    ([0], {0: 2}),
    ([2], {2: 0}),
    ([0, 4], {0: 2, 4: 2}),
    ([0, 1, 5], {5: 7}),
    (list(ALL), {}),
]


@pytest.mark.parametrize("skip, reuse", UMT5_CUTS)
def test_umt5(prune, skip, reuse):
    """A table goes with its attention, and a source brings its own table along."""
    dense = umt5_clip()
    assert dense.cond_stage_model.t5xxl.transformer.encoder.block[5].layer[0].SelfAttention.relative_attention_bias
    patched = prune(dense, skip, reuse)
    assert torch.equal(encode(patched.clip), by_hand(umt5_clip(), skip, reuse))
    assert torch.equal(encode(dense), by_hand(umt5_clip(), (), {}))
    removed = tuple(f"t5xxl.transformer.encoder.block.{i // 2}.layer.{i % 2}." for i in skip)
    state = dense.cond_stage_model.state_dict()
    assert set(patched.clip.cond_stage_model.state_dict()) == {key for key in state if not key.startswith(removed)}


@pytest.mark.parametrize("make", [umt5_clip, pixart_clip])
@pytest.mark.parametrize("order", [([2, 4, 6, 8, 10], [0]), ([0], [2, 4, 6, 8, 10]), ([0, 3], [1, 2])])
def test_two_plans_keep_no_more_than_one(prune, make, order):
    """Also where the last attention with a table goes: umT5's table goes along, T5's stays."""
    first, second = order
    in_two, at_once = prune(prune(make(), first).clip, second), prune(make(), first + second)
    assert set(in_two.clip.cond_stage_model.state_dict()) == set(at_once.clip.cond_stage_model.state_dict())
    assert in_two.clip_bytes[1] == at_once.clip_bytes[1]
    assert torch.equal(encode(in_two.clip), by_hand(make(), first + second, {}))


# --- everything gone, and an encoder without a tree around it ----------------------------------------------


def test_skip_everything_of_a_clip_text_model(prune):
    dense, private = sd1_clip(), sd1_clip()
    patched = prune(dense, range(8), slot="clip_l")
    transformer = private.cond_stage_model.clip_l.transformer
    read = clip_forward(transformer, steps.token_ids(private), range(8), {}, 1)[0]
    assert torch.equal(encode(patched.clip), transformer.text_model.final_layer_norm(read))
    assert not any("layers" in key for key in patched.clip.cond_stage_model.state_dict())
    assert torch.equal(encode(patched.clip.clone()), encode(patched.clip))


def test_skip_everything_of_a_t5(prune):
    """What is left: embedding, position table, final norm."""
    dense = pixart_clip()
    patched = prune(dense, ALL)
    assert torch.equal(encode(patched.clip), wanted(skip=ALL, reuse={}))
    assert patched.clip_bytes[1] == kept_bytes(dense.cond_stage_model, "t5xxl.transformer.", t5_prefixes(ALL))
    styled = with_lora(patched.clip, make_lora(dense, ALL))
    assert not styled.patcher.patches and torch.equal(encode(styled), wanted(skip=ALL, reuse={}))


def test_an_encoder_that_is_the_whole_tree(prune, pack):
    """As CogVideoX checkpoints have it: ComfyUI's encoder wrapper itself, no tree around it."""
    from comfy.text_encoders import sd3_clip

    class Bare(sd3_clip.T5XXLModel):
        def __init__(self, device="cpu", dtype=None, model_options=None):
            super().__init__(device=device, dtype=dtype, model_options=model_options)
            self.dtypes = {dtype}

    sizes = {"d_model": 64, "d_ff": 128, "d_kv": 16, "num_heads": 4, "num_layers": 6}

    def make():
        return seeded_clip(Bare, sd3_clip.T5XXLTokenizer, {"t5xxl_model_config": sizes})

    dense = make()
    assert list(pack("nodes.comfy_host.clip.trees").text_encoders(dense)) == ["text"]
    patched = prune(dense, SKIP, REUSE, "text")
    assert torch.equal(encode(patched.clip), by_hand(make()))
    assert torch.equal(encode(dense), by_hand(make(), (), {}))
    assert patched.clip_bytes[1] == kept_bytes(dense.cond_stage_model, "transformer.", t5_prefixes(SKIP))


# --- attention masks ---------------------------------------------------------------------------------------


def aura_clip():
    """AuraFlow's T5: a table in every layer, padding masked in attention and zeroed in the output."""
    from comfy.text_encoders import aura_t5

    sizes = {"d_model": 64, "d_ff": 128, "d_kv": 16, "num_heads": 4, "num_layers": 4}
    return seeded_clip(aura_t5.AuraT5Model, aura_t5.AuraT5Tokenizer, {"_model_config": sizes})


def cascade_clip():
    """Stable Cascade's CLIP-G: padding masked in attention, read without the final norm."""
    from comfy import sdxl_clip

    sizes = {"num_hidden_layers": 4, "hidden_size": 64, "intermediate_size": 128, "num_attention_heads": 4}
    names = sdxl_clip.StableCascadeClipModel, sdxl_clip.StableCascadeTokenizer
    return seeded_clip(*names, {"clip_g_model_config": sizes})


def seeded_clip(tree, tokenizer, sizes):
    import comfy.sd

    target = SimpleNamespace(params={}, clip=tree, tokenizer=tokenizer)
    clip = comfy.sd.CLIP(target, model_options={"dtype": torch.float16, **sizes})
    clip.cond_stage_model.load_state_dict(random_state(clip.cond_stage_model.state_dict(), 0))
    return clip


def silenced_aura(skip, reuse):
    """ComfyUI's own forward over a private CLIP whose sub-blocks at `skip` were told to do nothing, or another's."""
    clip = aura_clip()
    blocks = clip.cond_stage_model.pile_t5xl.transformer.encoder.block
    for place in skip:
        layer = blocks[place // 2].layer[place % 2]
        if place in reuse:
            layer.forward = blocks[reuse[place] // 2].layer[place % 2].forward
        else:
            layer.forward = (lambda x: x) if place % 2 else (lambda x, mask, bias, attend: (x, bias))
    return clip


def silenced_cascade(skip, reuse):
    """The same for CLIP-G, where norm and body are apart."""
    clip = cascade_clip()
    layers = clip.cond_stage_model.clip_g.transformer.text_model.encoder.layers
    for place in skip:
        names = ("layer_norm2", "mlp") if place % 2 else ("layer_norm1", "self_attn")
        for name in names:
            source = getattr(layers[reuse.get(place, place) // 2], name)
            getattr(layers[place // 2], name).forward = source.forward if place in reuse else lambda x, *_: 0 * x
    return clip


@pytest.mark.parametrize(
    "make, silenced, slot", [(aura_clip, silenced_aura, "pile_t5xl"), (cascade_clip, silenced_cascade, "clip_g")]
)
def test_masked_encoders(prune, pack, make, silenced, slot):
    """Pruned, and in the search's walk."""
    dense, cut = make(), ((0, 5, 2), {5: 3, 2: 4})
    wanted = encode(silenced(*cut))
    assert torch.equal(encode(prune(dense, *cut, slot).clip), wanted)
    assert torch.equal(steps.walk(pack, dense, *cut, slot=slot)["sequence"], wanted)
    assert torch.equal(steps.walk(pack, dense, slot=slot)["sequence"], encode(dense))
    assert not torch.allclose(wanted, encode(dense), atol=0.01)


# --- states in which a CLIP can come -----------------------------------------------------------------------


def test_the_patchers_tree_is_the_truth(prune):
    """ComfyUI's clone(disable_dynamic=True) leaves clip.cond_stage_model behind on another tree, loaded or not."""
    split = pixart_clip()
    split.cond_stage_model = copy.deepcopy(split.cond_stage_model)
    with torch.no_grad():  # as a LoRA does that is baked in while it is loaded
        split.cond_stage_model.t5xxl.transformer.encoder.block[0].layer[1].DenseReluDense.wo.weight += 1
    pruned = prune(split, SKIP, REUSE).clip
    assert pruned.cond_stage_model is pruned.patcher.model
    assert torch.equal(encode(pruned), wanted())


def test_while_the_dense_is_loaded(prune):
    """Twice, because the first time SkrrApply unloads it."""
    dense = pixart_clip()
    for _ in range(2):
        assert torch.equal(encode(dense), dense_wanted())
        pruned = prune(dense, SKIP, REUSE).clip
        assert torch.equal(encode(pruned), wanted())


@pytest.mark.parametrize("made_inside", [False, True])
def test_inside_inference_mode_as_nodes_run(prune, made_inside):
    """And used outside of it later, where a tensor born inside must not be written to."""
    with torch.inference_mode(made_inside):
        dense = pixart_clip()
        lora = make_lora(dense, ALL)
    with torch.inference_mode():
        pruned = prune(dense, SKIP, REUSE).clip
        styled = with_lora(pruned, lora)
        assert torch.equal(encode(styled), wanted(lora))
    assert torch.equal(encode(pruned), wanted())
    assert torch.equal(encode(styled), wanted(lora))
    assert torch.equal(encode(dense), dense_wanted())
    with torch.inference_mode():
        assert torch.equal(encode(prune(pruned, [9]).clip), wanted(skip=(*SKIP, 9)))


def test_options_of_the_clip_come_along_and_stay_apart(prune):
    dense = pixart_clip()
    dense.set_tokenizer_option("t5xxl_min_length", 40)
    dense.clip_layer(-2)
    dense.use_clip_schedule = True
    pruned = prune(dense, SKIP, REUSE).clip
    assert (pruned.tokenizer_options, pruned.layer_idx, pruned.use_clip_schedule) == (dense.tokenizer_options, -2, True)
    pruned.set_tokenizer_option("t5xxl_min_length", 7)
    pruned.clip_layer(-1)
    assert (dense.tokenizer_options, dense.layer_idx) == ({"t5xxl_min_length": 40}, -2)
    assert pruned.patcher.object_patches == dense.patcher.object_patches


def test_a_patch_of_an_object_below_a_skipped_place_goes_with_it(prune):
    """Another pack may have put its own module there; the stub must not be overwritten by it."""
    dense = pixart_clip()
    path = "t5xxl.transformer.encoder.block.{}.layer.1.DenseReluDense.wo"
    for block in (1, 4):
        half = copy.deepcopy(dense.patcher.get_model_object(path.format(block)))
        half.weight.data *= 0.5
        dense.patcher.add_object_patch(path.format(block), half)
    dense.patcher.add_object_patch("t5xxl.transformer.encoder.block.2.layer.1", torch.nn.Identity())
    pruned = prune(dense, SKIP, REUSE).clip
    private = pixart_clip()
    private.cond_stage_model.t5xxl.transformer.encoder.block[4].layer[1].DenseReluDense.wo.weight.data *= 0.5
    assert torch.equal(encode(pruned), by_hand(private))


def test_weight_wrappers_of_other_packs_come_along(prune):
    """Functions that another pack hung on weights: on a kept place they work, on a skipped one they go."""
    dense, key = pixart_clip(), "t5xxl.transformer.encoder.block.{}.layer.1.DenseReluDense.wo.weight"
    for block in (1, 4):
        dense.patcher.add_weight_wrapper(key.format(block), lambda weight: weight * 2)
    pruned = prune(dense, SKIP, REUSE).clip
    private = pixart_clip()
    private.cond_stage_model.t5xxl.transformer.encoder.block[4].layer[1].DenseReluDense.wo.weight.data *= 2
    assert torch.equal(encode(pruned), by_hand(private))
    assert list(pruned.patcher.weight_wrapper_patches) == [key.format(4)]
