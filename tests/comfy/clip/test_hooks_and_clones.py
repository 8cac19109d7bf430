"""Hooks, merges, clones and repeated applying: dense and pruned must never see what is done to the other."""

import copy
import functools
import gc
import weakref

import pytest
import torch

from .. import steps
from ..steps import REUSE, SKIP, by_hand, dense_wanted, encode, hook, make_lora, wanted, with_hooks, with_lora
from ..tiny_models import flux_clip, pixart_clip

ALL = range(12)
FIRST, SECOND = {"skip": (1, 4), "reuse": {4: 2}}, {"skip": (9, 6), "reuse": {6: 8}}
UNION = {"skip": (1, 4, 9, 6), "reuse": {4: 2, 6: 8}}


@pytest.fixture(scope="module")
def prune(pack):
    return functools.partial(steps.prune, pack)


# --- hooks -------------------------------------------------------------------------------------------------


def test_hooks_on_the_pruned_leave_the_dense_alone(prune):
    """Hooks write into weights in place; on the CPU that is the memory a model rests in."""
    dense = pixart_clip()
    lora = make_lora(dense, ALL)
    pruned = prune(dense, SKIP, REUSE).clip
    hooked = with_hooks(pruned, hook(lora))
    for _ in range(2):
        assert torch.equal(encode(hooked), wanted(lora))
        assert torch.equal(encode(dense), dense_wanted())
        assert torch.equal(encode(pruned), wanted())


def test_hooks_on_the_dense_leave_the_pruned_alone(prune):
    dense = pixart_clip()
    lora = make_lora(dense, ALL)
    pruned = prune(dense, SKIP, REUSE).clip
    hooked = with_hooks(dense, hook(lora))
    for _ in range(2):
        assert torch.equal(encode(hooked), dense_wanted(lora))
        assert torch.equal(encode(pruned), wanted())
        assert torch.equal(encode(dense), dense_wanted())


@pytest.mark.parametrize("loaded", [False, True])
def test_hooks_set_before_apply_come_along(prune, loaded):
    dense = pixart_clip()
    lora = make_lora(dense, ALL)
    hooked = with_hooks(dense, hook(lora))
    if loaded:
        encode(hooked)
    pruned = prune(hooked, SKIP, REUSE).clip
    assert torch.equal(encode(pruned), wanted(lora))
    assert torch.equal(encode(dense), dense_wanted())
    assert torch.equal(encode(hooked), dense_wanted(lora))


def test_scheduled_hooks_with_keyframes(prune):
    """Each keyframe's conditioning, its range and the hooks it carries on to the sampler."""
    dense = pixart_clip()
    lora = make_lora(dense, ALL)
    hooks = hook(lora, 1.0, 0.4)
    hooked = with_hooks(prune(dense, SKIP, REUSE).clip, hooks, schedule=True)
    conds = hooked.encode_from_tokens_scheduled(hooked.tokenize(steps.TEXT))
    assert [(c["clip_start_percent"], c["clip_end_percent"]) for _, c in conds] == [(0.0, 0.5), (0.5, 1.0)]
    for (cond, extras), part in zip(conds, (1.0, 0.4), strict=True):
        assert torch.equal(cond, wanted(lora, strength=steps.STRENGTH * part))
        assert extras["hooks"] is hooks
    assert torch.equal(encode(dense), dense_wanted())


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
    assert torch.equal(encode(styled), wanted(lora))
    assert torch.equal(encode(clone), wanted())


@pytest.mark.parametrize("loaded", [False, True])
def test_a_second_plan_makes_the_union_and_leaves_the_first_result_alone(prune, loaded):
    dense = pixart_clip()
    first = prune(dense, **FIRST)
    if loaded:
        encode(first.clip)
    both, at_once = prune(first.clip, **SECOND), prune(pixart_clip(), **UNION)
    assert torch.equal(encode(both.clip), wanted(**UNION))
    assert torch.equal(encode(first.clip), wanted(**FIRST))
    assert torch.equal(encode(dense), dense_wanted())
    assert both.clip.patcher.model_size() == at_once.clip.patcher.model_size()
    assert set(both.clip.cond_stage_model.state_dict()) == set(at_once.clip.cond_stage_model.state_dict())
    assert both.clip_bytes[0] == first.clip_bytes[1]


def test_a_later_plan_decides_on_the_places_it_names(prune):
    first = prune(pixart_clip(), [1, 4], {4: 2}).clip
    assert torch.equal(encode(prune(first, [4], {4: 6}).clip), wanted(skip=[1, 4], reuse={4: 6}))
    assert torch.equal(encode(prune(first, [4]).clip), wanted(skip=[1, 4], reuse={}))


def test_a_second_plan_for_the_other_encoder(prune):
    dense = flux_clip()
    pooled_alone = encode_pooled(prune(dense, [5, 0], {5: 3}, "clip_l").clip)
    both = prune(prune(dense, **FIRST).clip, [5, 0], {5: 3}, "clip_l").clip
    assert torch.equal(encode(both), by_hand(flux_clip(), **FIRST))
    assert torch.equal(encode_pooled(both), pooled_alone)
    assert not torch.equal(pooled_alone, encode_pooled(dense))


def encode_pooled(clip):
    return clip.encode_from_tokens_scheduled(clip.tokenize(steps.TEXT))[0][1]["pooled_output"].clone()


def test_a_plan_that_contradicts_an_earlier_one_is_refused(prune, pack):
    """2 runs in place 4 by the first plan: it cannot be skipped by the second."""
    first = prune(pixart_clip(), [4], {4: 2}).clip
    with pytest.raises(pack("skrr_engine.errors").PlanError, match=r"together with the earlier Skrr Apply.*4.*2"):
        prune(first, [2])
    with pytest.raises(pack("skrr_engine.errors").PlanError, match="together with the earlier Skrr Apply"):
        prune(first, [6], {6: 4})
    assert torch.equal(encode(first), wanted(skip=[4], reuse={4: 2}))


def test_two_plans_from_one_dense_side_by_side(prune):
    dense = pixart_clip()
    clips = [dense, prune(dense, **FIRST).clip, prune(dense, **SECOND).clip]
    rights = [dense_wanted(), wanted(**FIRST), wanted(**SECOND)]
    for n in (1, 2, 0, 2, 1, 0):
        assert torch.equal(encode(clips[n]), rights[n])


def test_dropping_the_dense_frees_the_skipped_weights(prune):
    dense = pixart_clip()
    feed_forward = dense.cond_stage_model.t5xxl.transformer.encoder.block[2].layer[1].DenseReluDense
    skipped = weakref.ref(feed_forward.wo.weight), weakref.ref(feed_forward.wo.weight.untyped_storage())
    del feed_forward
    encode(dense)
    pruned = prune(dense, SKIP, REUSE).clip
    encode(pruned)
    assert None not in [reference() for reference in skipped]
    del dense
    gc.collect()
    assert [reference() for reference in skipped] == [None, None]
    assert torch.equal(encode(pruned), wanted())
    lora = make_lora(pruned, ALL)
    assert torch.equal(encode(with_lora(pruned, lora)), wanted(lora))


def test_a_deep_copy_re_uses_its_own_sources(prune):
    """Zeroing a source in the copy must silence both places there, and neither in the original."""
    pruned = prune(pixart_clip(), SKIP, REUSE).clip
    copied, private = copy.deepcopy(pruned.cond_stage_model), pixart_clip()
    for tree in (copied, private.cond_stage_model):
        tree.t5xxl.transformer.encoder.block[3].layer[1].DenseReluDense.wo.weight.data.zero_()
    tokens = pruned.tokenize(steps.TEXT)
    assert torch.equal(copied.encode_token_weights(tokens)[0], by_hand(private))
    assert torch.equal(encode(pruned), wanted())
