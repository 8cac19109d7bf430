"""LoRA and SkrrApply in every order: against a private CLIP whose weights were edited by hand, bit for bit."""

import functools
import logging

import pytest
import torch

from .. import steps
from ..oracle import clip_forward
from ..steps import REUSE, SKIP, dense_wanted, edit, encode, make_lora, wanted, with_lora
from ..tiny_models import pixart_clip, sd1_clip

ALL = range(12)


@pytest.fixture(scope="module")
def prune(pack):
    return functools.partial(steps.prune, pack)


def test_lora_before_apply(prune):
    dense = pixart_clip()
    lora = make_lora(dense, ALL)
    styled = with_lora(dense, lora)
    patched = prune(styled, SKIP, REUSE)
    assert torch.equal(encode(patched.clip), wanted(lora))
    assert torch.equal(encode(styled), dense_wanted(lora))
    assert torch.equal(encode(dense), dense_wanted())
    assert torch.equal(encode(patched.clip), wanted(lora))


def test_patches_for_skipped_places_are_dropped_and_reported(prune, pack):
    dense = pixart_clip()
    styled = with_lora(dense, make_lora(dense, ALL))
    patched = prune(styled, SKIP, REUSE)
    gone = steps.matrices(dense.cond_stage_model, SKIP)
    report = pack("nodes.apply").SkrrApply.execute(styled, steps.plan_for(pack, dense, SKIP, REUSE), 0.01).result[1]
    assert f"{len(gone)} LoRA or merge patches were for removed parts" in report and min(gone) in report
    assert patched.dropped_patches == tuple(sorted(gone))
    assert set(patched.clip.patcher.patches) == set(steps.matrices(dense.cond_stage_model, set(ALL) - set(SKIP)))


def test_lora_on_the_pruned(prune, caplog):
    """Keys of skipped places have no module any more: ComfyUI names each of them in its log and takes the rest."""
    dense = pixart_clip()
    lora = make_lora(dense, ALL)
    pruned = prune(dense, SKIP, REUSE).clip
    with caplog.at_level(logging.WARNING):
        styled = with_lora(pruned, lora)
    gone = {steps.lora_name(key) for key in steps.matrices(dense.cond_stage_model, SKIP)}
    named = {record.getMessage().split()[-1].split(".")[0] for record in caplog.records if "lora key" in record.msg}
    assert named == gone
    assert torch.equal(encode(styled), wanted(lora))
    assert torch.equal(encode(pruned), wanted())
    assert torch.equal(encode(dense), dense_wanted())


def test_dense_takes_every_key_while_the_pruned_is_loaded(prune):
    """The trap of object patches: there, LoRA keys of the dense vanish while the pruned structure is loaded."""
    dense = pixart_clip()
    lora = make_lora(dense, ALL)
    pruned = prune(dense, SKIP, REUSE).clip
    encode(pruned)
    styled = with_lora(dense, lora)
    assert set(styled.patcher.patches) == set(steps.matrices(dense.cond_stage_model, ALL))
    assert torch.equal(encode(styled), dense_wanted(lora))
    assert torch.equal(encode(pruned), wanted())


def test_different_loras_on_both_branches_used_in_turn(prune):
    dense = pixart_clip()
    first, second = make_lora(dense, ALL, seed=1), make_lora(dense, ALL, seed=2)
    pruned = prune(dense, SKIP, REUSE).clip
    branches = [
        (with_lora(dense, first), dense_wanted(first)),
        (with_lora(pruned, second), wanted(second)),
        (dense, dense_wanted()),
        (pruned, wanted()),
        (with_lora(dense, second), dense_wanted(second)),
    ]
    for order in (0, 1, 2, 3, 4, 3, 1, 4, 0, 1):
        clip, right = branches[order]
        assert torch.equal(encode(clip), right), order


@pytest.mark.parametrize("loaded", ["the same clip", "a clone with a LoRA", "a LoRA on a LoRA"])
def test_a_loaded_lora_is_not_baked_in(prune, loaded):
    """SkrrApply while LoRA weights are patched into the shared tree: the clone must start from pristine weights."""
    dense = pixart_clip()
    first, second = make_lora(dense, ALL, seed=1), make_lora(dense, ALL, seed=2)
    styled = with_lora(dense, first)
    source, right = {
        "the same clip": (styled, wanted(first)),
        "a clone with a LoRA": (dense, wanted()),
        "a LoRA on a LoRA": (with_lora(styled, second), wanted(first, second)),
    }[loaded]
    encode(styled)
    pruned = prune(source, SKIP, REUSE).clip
    assert torch.equal(encode(pruned), right)
    assert torch.equal(encode(styled), dense_wanted(first))


def test_a_loaded_lora_whose_clip_is_gone_is_not_baked_in(prune):
    dense = pixart_clip()
    encode(with_lora(dense, make_lora(dense, ALL)))
    assert torch.equal(encode(prune(dense, SKIP, REUSE).clip), wanted())
    assert torch.equal(encode(dense), dense_wanted())


def test_loras_before_and_after_add_up(prune):
    dense = pixart_clip()
    first, second = make_lora(dense, ALL, seed=1), make_lora(dense, ALL, seed=2)
    pruned = prune(with_lora(dense, first), SKIP, REUSE).clip
    assert torch.equal(encode(with_lora(pruned, second)), wanted(first, second))
    assert torch.equal(encode(pruned), wanted(first))


@pytest.mark.parametrize("when", ["before", "after"])
def test_lora_on_a_source_works_in_both_places(prune, when):
    """Only sub-block 7 is patched, which also runs in place 5; then 5, which is gone, so that nothing changes."""
    dense = pixart_clip()
    on_source, on_gone = make_lora(dense, [7]), make_lora(dense, [5])

    def styled(lora):
        if when == "before":
            return prune(with_lora(dense, lora), SKIP, REUSE).clip
        return with_lora(prune(dense, SKIP, REUSE).clip, lora)

    assert torch.equal(encode(styled(on_source)), wanted(on_source))
    assert not torch.equal(wanted(on_source), wanted())
    assert torch.equal(encode(styled(on_gone)), wanted())


@pytest.mark.parametrize("when", ["before", "after"])
def test_lora_on_a_clip_text_model(prune, when):
    skip, reuse = (5, 0, 3), {5: 7, 0: 2}
    dense, private = sd1_clip(), sd1_clip()
    lora = make_lora(dense, range(8))
    transformer = edit(private, lora).cond_stage_model.clip_l.transformer
    right = clip_forward(transformer, steps.token_ids(private), skip, reuse, 1)[0]
    right = transformer.text_model.final_layer_norm(right)
    if when == "before":
        styled = prune(with_lora(dense, lora), skip, reuse, "clip_l").clip
    else:
        styled = with_lora(prune(dense, skip, reuse, "clip_l").clip, lora)
    before = encode(dense)
    assert torch.equal(encode(styled), right)
    assert torch.equal(encode(dense), before)


def test_a_bypass_lora_is_refused_before_and_works_after(prune, pack):
    import comfy.sd

    dense = pixart_clip()
    lora = make_lora(dense, ALL)
    bypassed = comfy.sd.load_bypass_lora_for_models(None, dense, lora, 0, 1.0)[1]
    with pytest.raises(pack("skrr_engine.errors").SkrrError, match=r"bypass LoRA.*Put Skrr Apply before"):
        prune(bypassed, SKIP, REUSE)
    pruned = prune(dense, SKIP, REUSE).clip
    hung = comfy.sd.load_bypass_lora_for_models(None, pruned, lora, 0, 1.0)[1]
    private = comfy.sd.load_bypass_lora_for_models(None, pixart_clip(), lora, 0, 1.0)[1]
    assert torch.equal(encode(hung), steps.while_loaded(private))
    assert not torch.allclose(encode(hung), wanted(), atol=0.1)
    assert torch.equal(encode(pruned), wanted())
