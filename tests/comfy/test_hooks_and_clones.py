"""Hooks, merges, clones and repeated applying: dense and pruned must never see what is done to the other."""

import copy
import functools
import gc
import weakref

import pytest
import torch

from . import steps
from .oracle import clip_forward, t5_forward
from .steps import REUSE, SKIP, edit, encode, make_lora, with_lora
from .tiny_models import flux_clip, pixart_clip, sd1_clip

ALL = range(12)
FIRST, SECOND = ([1, 4], {4: 2}), ([9, 6], {6: 8})
UNION = ([1, 4, 9, 6], {4: 2, 6: 8})


@pytest.fixture(scope="module")
def prune(pack):
    return functools.partial(steps.prune, pack)


def by_hand(clip, skip=SKIP, reuse=REUSE):
    """The pruned conditioning, from a private CLIP."""
    return t5_forward(clip.cond_stage_model.t5xxl.transformer, steps.token_ids(clip), skip, reuse)


def dense_by_hand(clip):
    return by_hand(clip, (), {})


# --- hooks -------------------------------------------------------------------------------------------------


def hook(lora, *strengths, strength=steps.STRENGTH):
    """CreateHookLora, with a keyframe for each of `strengths`, evenly over the sampling steps."""
    import comfy.hooks

    hooks = comfy.hooks.create_hook_lora(lora, 0, strength)
    keyframes = comfy.hooks.HookKeyframeGroup()
    for n, value in enumerate(strengths):
        keyframes.add(comfy.hooks.HookKeyframe(value, start_percent=n / len(strengths)))
    if strengths:
        hooks.set_keyframes_on_hooks(keyframes)
    return hooks


def with_hooks(clip, hooks, schedule=False):
    """The node SetClipHooks."""
    from comfy_extras.nodes_hooks import SetClipHooks

    return SetClipHooks().apply_hooks(clip, schedule, True, hooks)[0]


def test_hooks_on_the_pruned_leave_the_dense_alone(prune):
    """Hooks write into weights in place; on the CPU that is the memory a model rests in."""
    dense = pixart_clip()
    lora = make_lora(dense, ALL)
    pruned = prune(dense, SKIP, REUSE).clip
    hooked = with_hooks(pruned, hook(lora))
    for _ in range(2):
        assert torch.equal(encode(hooked), by_hand(edit(pixart_clip(), lora)))
        assert torch.equal(encode(dense), dense_by_hand(pixart_clip()))
        assert torch.equal(encode(pruned), by_hand(pixart_clip()))


def test_hooks_on_the_dense_leave_the_pruned_alone(prune):
    dense = pixart_clip()
    lora = make_lora(dense, ALL)
    pruned = prune(dense, SKIP, REUSE).clip
    hooked = with_hooks(dense, hook(lora))
    for _ in range(2):
        assert torch.equal(encode(hooked), dense_by_hand(edit(pixart_clip(), lora)))
        assert torch.equal(encode(pruned), by_hand(pixart_clip()))
        assert torch.equal(encode(dense), dense_by_hand(pixart_clip()))


@pytest.mark.parametrize("loaded", [False, True])
def test_hooks_set_before_apply_come_along(prune, loaded):
    dense = pixart_clip()
    lora = make_lora(dense, ALL)
    hooked = with_hooks(dense, hook(lora))
    if loaded:
        encode(hooked)
    pruned = prune(hooked, SKIP, REUSE).clip
    assert torch.equal(encode(pruned), by_hand(edit(pixart_clip(), lora)))
    assert torch.equal(encode(dense), dense_by_hand(pixart_clip()))
    assert torch.equal(encode(hooked), dense_by_hand(edit(pixart_clip(), lora)))


def test_scheduled_hooks_with_keyframes(prune):
    """Each keyframe's conditioning, its range and the hooks it carries on to the sampler."""
    dense = pixart_clip()
    lora = make_lora(dense, ALL)
    hooks = hook(lora, 1.0, 0.4)
    hooked = with_hooks(prune(dense, SKIP, REUSE).clip, hooks, schedule=True)
    conds = hooked.encode_from_tokens_scheduled(hooked.tokenize(steps.TEXT))
    assert [(c["clip_start_percent"], c["clip_end_percent"]) for _, c in conds] == [(0.0, 0.5), (0.5, 1.0)]
    for (cond, extras), part in zip(conds, (1.0, 0.4), strict=True):
        right = edit(pixart_clip(), lora, strength=steps.STRENGTH * part)
        assert torch.equal(cond, by_hand(right))
        assert extras["hooks"] is hooks
    assert torch.equal(encode(dense), dense_by_hand(pixart_clip()))


# --- merges and clip skip ----------------------------------------------------------------------------------


def merge_node(name):
    import comfy_extras.nodes_model_merging as nodes

    return getattr(nodes, name)().merge


def mixed(first, second, own, other):
    """`first` with weights own * W1 + other * W2 put in by hand, but for the scalar that merges leave out."""
    theirs = dict(second.cond_stage_model.named_parameters())
    for name, parameter in first.cond_stage_model.named_parameters():
        if not name.endswith("logit_scale"):
            value = parameter.data.float()
            value *= own
            parameter.data = (value + other * theirs[name].data.float()).to(parameter.dtype)
    return first


def tamed(seed):
    """A CLIP whose embedding is not doubled out of fp16's reach by CLIPAdd."""
    return pixart_clip(seed=seed)


@pytest.mark.parametrize(
    "node, arguments, own, other", [("CLIPMergeSimple", (0.3,), 0.3, 0.7), ("CLIPAdd", (), 1, 1), ("CLIPSubtract", (0.5,), 0.5, -0.5)]
)
def test_merges_of_pruned_and_of_dense_clips(prune, node, arguments, own, other):
    """Of two pruned ones, and of their two dense ones while a pruned one is loaded."""
    dense = [pixart_clip(seed=seed) for seed in (0, 1)]
    pruned = [prune(clip, SKIP, REUSE).clip for clip in dense]
    private = mixed(pixart_clip(seed=0), pixart_clip(seed=1), own, other)
    merged = merge_node(node)(*pruned, *arguments)
    assert torch.equal(encode(merged), by_hand(private))
    merged_dense = merge_node(node)(*dense, *arguments)
    assert len(merged_dense.patcher.patches) == len(dense[0].cond_stage_model.state_dict()) - 1
    assert torch.equal(encode(merged_dense), dense_by_hand(private))
    assert torch.equal(encode(pruned[0]), by_hand(pixart_clip(seed=0)))
    assert torch.equal(encode(pruned[1]), by_hand(pixart_clip(seed=1)))


def test_a_merge_before_apply(prune):
    dense = [pixart_clip(seed=seed) for seed in (0, 1)]
    merged = merge_node("CLIPMergeSimple")(*dense, 0.3)
    encode(merged)
    pruned = prune(merged, SKIP, REUSE).clip
    private = mixed(pixart_clip(seed=0), pixart_clip(seed=1), 0.3, 0.7)
    assert torch.equal(encode(pruned), by_hand(private))


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("layer", [-1, -2, -3])
def test_clip_skip_counts_dense_layers(prune, when, layer):
    """Also where the layer that clip skip reads behind was cut."""
    import nodes

    def skipped(clip):
        return nodes.CLIPSetLastLayer().set_last_layer(clip, layer)[0]

    skip, reuse = (7, 6, 4, 0), {4: 2}
    dense, private = sd1_clip(), sd1_clip()
    if when == "before":
        pruned = prune(skipped(dense), skip, reuse, "clip_l").clip
    else:
        pruned = skipped(prune(dense, skip, reuse, "clip_l").clip)
    transformer = private.cond_stage_model.clip_l.transformer
    read = clip_forward(transformer, steps.token_ids(private), skip, reuse, -layer)[0]
    assert torch.equal(encode(pruned), transformer.text_model.final_layer_norm(read))


# --- clones and repeated applying --------------------------------------------------------------------------


def test_clones_of_clones_share_the_pruned_tree(prune, pack):
    dense = pixart_clip()
    lora = make_lora(dense, ALL)
    pruned = prune(dense, SKIP, REUSE).clip
    clone = pruned.clone().clone()
    styled = with_lora(clone, lora).clone()
    assert clone.patcher.model is pruned.patcher.model is pruned.cond_stage_model
    assert clone.patcher.model_size() == pruned.patcher.model_size()
    assert clone.patcher.get_attachment("skrr") == pruned.patcher.get_attachment("skrr")
    assert pruned.patcher.clone_has_same_weights(clone.patcher)
    assert not pruned.patcher.is_clone(dense.patcher)
    del pruned
    assert torch.equal(encode(styled), by_hand(edit(pixart_clip(), lora)))
    assert torch.equal(encode(clone), by_hand(pixart_clip()))


@pytest.mark.parametrize("loaded", [False, True])
def test_a_second_plan_makes_the_union_and_leaves_the_first_result_alone(prune, loaded):
    dense = pixart_clip()
    first = prune(dense, *FIRST)
    if loaded:
        encode(first.clip)
    both, at_once = prune(first.clip, *SECOND), prune(pixart_clip(), *UNION)
    assert torch.equal(encode(both.clip), by_hand(pixart_clip(), *UNION))
    assert torch.equal(encode(first.clip), by_hand(pixart_clip(), *FIRST))
    assert torch.equal(encode(dense), dense_by_hand(pixart_clip()))
    assert both.clip.patcher.model_size() == at_once.clip.patcher.model_size()
    assert set(both.clip.cond_stage_model.state_dict()) == set(at_once.clip.cond_stage_model.state_dict())
    assert both.clip_bytes[0] == first.clip_bytes[1]


def test_a_later_plan_decides_on_the_places_it_names(prune):
    first = prune(pixart_clip(), [1, 4], {4: 2}).clip
    assert torch.equal(encode(prune(first, [4], {4: 6}).clip), by_hand(pixart_clip(), [1, 4], {4: 6}))
    assert torch.equal(encode(prune(first, [4]).clip), by_hand(pixart_clip(), [1, 4], {}))


def test_a_second_plan_for_the_other_encoder(prune):
    dense = flux_clip()
    pooled_alone = encode_pooled(prune(dense, [5, 0], {5: 3}, "clip_l").clip)
    both = prune(prune(dense, *FIRST).clip, [5, 0], {5: 3}, "clip_l").clip
    assert torch.equal(encode(both), by_hand(flux_clip(), *FIRST))
    assert torch.equal(encode_pooled(both), pooled_alone)
    assert not torch.equal(pooled_alone, encode_pooled(dense))


def encode_pooled(clip):
    return clip.encode_from_tokens_scheduled(clip.tokenize(steps.TEXT))[0][1]["pooled_output"].clone()


def test_a_plan_that_contradicts_an_earlier_one_is_refused(prune, pack):
    """2 runs in place 4 by the first plan: it cannot be skipped by the second."""
    first = prune(pixart_clip(), [4], {4: 2}).clip
    with pytest.raises(pack("skrr_engine.errors").PlanError, match="together with the earlier SkrrApply.*4.*2"):
        prune(first, [2])
    with pytest.raises(pack("skrr_engine.errors").PlanError, match="together with the earlier SkrrApply"):
        prune(first, [6], {6: 4})
    assert torch.equal(encode(first), by_hand(pixart_clip(), [4], {4: 2}))


def test_two_plans_from_one_dense_side_by_side(prune):
    dense = pixart_clip()
    clips = [dense, prune(dense, *FIRST).clip, prune(dense, *SECOND).clip]
    rights = [by_hand(pixart_clip(), *cut) for cut in (((), {}), FIRST, SECOND)]
    for n in (1, 2, 0, 2, 1, 0):
        assert torch.equal(encode(clips[n]), rights[n])


def test_dropping_the_dense_frees_the_skipped_weights(prune):
    dense = pixart_clip()
    blocks = dense.cond_stage_model.t5xxl.transformer.encoder.block
    skipped, kept = weakref.ref(blocks[2].layer[1].DenseReluDense.wo.weight), blocks[1].layer[0].SelfAttention.q.weight
    storage = weakref.ref(blocks[1].layer[1].DenseReluDense.wo.weight.untyped_storage())
    encode(dense)
    pruned = prune(dense, SKIP, REUSE).clip
    encode(pruned)
    del dense, blocks, kept
    gc.collect()
    assert skipped() is None and storage() is None
    assert torch.equal(encode(pruned), by_hand(pixart_clip()))
    assert torch.equal(encode(with_lora(pruned, make_lora(pixart_clip(), [2]))), by_hand(edit(pixart_clip(), make_lora(pixart_clip(), [2]))))


def test_a_deep_copy_re_uses_its_own_sources(prune):
    """Zeroing a source in the copy must silence both places there, and neither in the original."""
    pruned = prune(pixart_clip(), SKIP, REUSE).clip
    copied, private = copy.deepcopy(pruned.cond_stage_model), pixart_clip()
    for tree in (copied, private.cond_stage_model):
        tree.t5xxl.transformer.encoder.block[3].layer[1].DenseReluDense.wo.weight.data.zero_()
    tokens = pruned.tokenize(steps.TEXT)
    assert torch.equal(copied.encode_token_weights(tokens)[0], by_hand(private))
    assert torch.equal(encode(pruned), by_hand(pixart_clip()))
