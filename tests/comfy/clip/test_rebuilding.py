"""An encoder rebuilt from its file, as ComfyUI does under dynamic VRAM (simulated, see dynamic_vram) for hooks, for
torch.compile and for several GPUs: rebuilt from a pruned CLIP it must be pruned."""

import copy
import functools
import inspect

import pytest
import torch
from comfy.model_patcher import ModelPatcher

from .. import steps
from ..dynamic_vram import simulate, use_plain_patchers, wide_clip, wide_wanted
from ..steps import REUSE, SKIP, encode, hook, make_lora, with_hooks, with_lora

ALL = range(12)


@pytest.fixture(scope="module")
def prune(pack):
    return functools.partial(steps.prune, pack)


# What newer releases know beside this: an index into a loader's results, and several GPUs.
INDEX = "force_deepcopy" in inspect.signature(ModelPatcher.clone).parameters
SEVERAL_GPUS = hasattr(ModelPatcher, "deepclone_multigpu")


@pytest.fixture(params=["patcher", "list of results"] if INDEX else ["patcher"])
def from_file(request, monkeypatch):
    """A dynamic CLIP with the factory that ComfyUI's loaders leave on it: for CLIP files (fn, args), for parts of a
    checkpoint in newer releases (fn, args, index)."""
    simulate(monkeypatch, 1 << 30)
    listed = request.param == "list of results"

    def load(seed, disable_dynamic=False):
        with monkeypatch.context() as patch:
            if disable_dynamic:
                use_plain_patchers(patch)
            patcher = wide_clip(seed=seed).patcher
        return ["model", patcher] if listed else patcher

    dense = wide_clip()
    dense.patcher.cached_patcher_init = (load, (0,), 1) if listed else (load, (0,))
    return dense


def delegate_of(clip):
    """What `clone(disable_dynamic=True)` makes, run on the tree that its patcher manages: ComfyUI forgets to."""
    clone = clip.clone(disable_dynamic=True)
    assert not clone.patcher.is_dynamic() and clone.patcher.model is not clip.patcher.model
    clone.cond_stage_model = clone.patcher.model
    return clone


def test_the_delegate_is_pruned(prune, from_file):
    import comfy.model_management as mm

    pruned = prune(from_file, SKIP, REUSE).clip
    delegate = delegate_of(pruned)
    assert delegate.patcher.model_size() == pruned.patcher.model_size() == mm.module_size(delegate.patcher.model)
    assert set(delegate.patcher.model.state_dict()) == set(pruned.patcher.model.state_dict())
    assert delegate.patcher.get_attachment("skrr") == pruned.patcher.get_attachment("skrr")
    assert torch.equal(encode(delegate), wide_wanted())
    dense = delegate_of(from_file)
    assert torch.equal(encode(dense), wide_wanted(skip=(), reuse={}))


def test_the_delegate_of_a_pruned_clip_with_a_lora(prune, from_file):
    lora = make_lora(from_file, ALL)
    pruned = prune(with_lora(from_file, lora), SKIP, REUSE).clip
    assert torch.equal(encode(delegate_of(pruned)), wide_wanted(lora))
    assert torch.equal(encode(delegate_of(with_lora(prune(from_file, SKIP, REUSE).clip, lora))), wide_wanted(lora))


def test_the_delegate_after_two_plans(prune, from_file):
    pruned = prune(prune(from_file, (1, 4), {4: 2}).clip, (9, 6), {6: 8}).clip
    delegate = delegate_of(pruned)
    assert delegate.patcher.model_size() == pruned.patcher.model_size()
    assert torch.equal(encode(delegate), wide_wanted(skip=(1, 4, 9, 6), reuse={4: 2, 6: 8}))


def test_hooks_on_the_pruned(prune, from_file):
    lora = make_lora(from_file, ALL)
    pruned = prune(from_file, SKIP, REUSE).clip
    hooked = with_hooks(pruned, hook(lora))
    assert hooked.patcher.model_size() == pruned.patcher.model_size()
    hooked.cond_stage_model = hooked.patcher.model
    for _ in range(2):
        assert torch.equal(encode(hooked), wide_wanted(lora))
        assert torch.equal(encode(pruned), wide_wanted())
        assert torch.equal(encode(from_file), wide_wanted(skip=(), reuse={}))


def test_hooks_set_before_apply(prune, from_file):
    """Their CLIP's cond_stage_model is not the tree that its patcher manages; ours is."""
    lora = make_lora(from_file, ALL)
    hooked = with_hooks(from_file, hook(lora))
    assert hooked.cond_stage_model is not hooked.patcher.model
    assert torch.equal(encode(prune(hooked, SKIP, REUSE).clip), wide_wanted(lora))


def check_the_clone_for_another_gpu(prune, from_file):
    import comfy.model_management as mm

    pruned = prune(from_file, SKIP, REUSE).clip
    encode(from_file)
    elsewhere = copy.copy(pruned)
    elsewhere.patcher = pruned.patcher.deepclone_multigpu()
    elsewhere.cond_stage_model = elsewhere.patcher.model
    assert any(loaded.model is from_file.patcher for loaded in mm.current_loaded_models)  # the dense is another model
    assert elsewhere.patcher.is_dynamic() and elsewhere.patcher.model is not pruned.patcher.model
    assert set(elsewhere.patcher.model.state_dict()) == set(pruned.patcher.model.state_dict())
    assert torch.equal(encode(elsewhere), wide_wanted())
    assert torch.equal(encode(pruned), wide_wanted())


if SEVERAL_GPUS:
    test_the_clone_for_another_gpu = check_the_clone_for_another_gpu
