"""Merging CLIPs and clip skip, before and after SkrrApply."""

import functools

import pytest
import torch

from .. import steps
from ..oracle import clip_forward
from ..steps import REUSE, SKIP, by_hand, encode
from ..tiny_models import pixart_clip, sd1_clip


@pytest.fixture(scope="module")
def prune(pack):
    return functools.partial(steps.prune, pack)


def merge(node, *arguments):
    import comfy_extras.nodes_model_merging as nodes

    return getattr(nodes, node)().merge(*arguments)[0]


def mixed(first, second, own, other):
    """`first` with weights own * W1 + other * W2 put in by hand, but for the scalar that merges leave out."""
    theirs = dict(second.cond_stage_model.named_parameters())
    for name, parameter in first.cond_stage_model.named_parameters():
        if not name.endswith("logit_scale"):
            value = parameter.data.float()
            value *= own
            parameter.data = (value + other * theirs[name].data.float()).to(parameter.dtype)
    return first


MERGES = [("CLIPMergeSimple", (0.3,), 0.3, 0.7), ("CLIPAdd", (), 1, 1), ("CLIPSubtract", (0.5,), 0.5, -0.5)]


@pytest.mark.parametrize("node, arguments, own, other", MERGES)
def test_merges_of_pruned_and_of_dense_clips(prune, node, arguments, own, other):
    """Of two pruned ones, and of their two dense ones while a pruned one is loaded."""
    dense = [pixart_clip(seed=seed) for seed in (0, 1)]
    pruned = [prune(clip, SKIP, REUSE).clip for clip in dense]
    private = mixed(pixart_clip(seed=0), pixart_clip(seed=1), own, other)
    merged = merge(node, *pruned, *arguments)
    assert torch.equal(encode(merged), by_hand(private))
    merged_dense = merge(node, *dense, *arguments)
    assert len(merged_dense.patcher.patches) == len(dense[0].cond_stage_model.state_dict()) - 1
    assert torch.equal(encode(merged_dense), by_hand(private, (), {}))
    assert torch.equal(encode(pruned[0]), by_hand(pixart_clip(seed=0)))
    assert torch.equal(encode(pruned[1]), by_hand(pixart_clip(seed=1)))


def test_a_merge_before_apply(prune):
    dense = [pixart_clip(seed=seed) for seed in (0, 1)]
    merged = merge("CLIPMergeSimple", *dense, 0.3)
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
