"""Objects that other packs leave on modules and that cannot be copied: shared where right, else one sentence."""

import io
import json
import threading
import types

import pytest
import torch

from ..steps import encode, plan_for
from ..tiny_models import pixart_clip


@pytest.fixture
def cut(pack):
    """clip -> the CLIP that Skrr Apply makes of it."""

    def prune(clip):
        plan = plan_for(pack, clip, (3, 5))
        return pack("nodes.comfy_host.clip.patching").apply_level(clip, plan, plan.levels[0]).clip

    return prune


def generator():
    yield 1


class Holder:
    def __init__(self, inside):
        self.inside = inside


class Refuses:
    """As a handle of a library's own."""

    def __reduce_ex__(self, protocol):
        raise TypeError("cannot pickle 'Refuses' object")


def test_what_cannot_be_copied_is_shared(cut, tmp_path):
    opened = open(tmp_path / "open", "w")
    given = [threading.Lock(), threading.RLock(), threading.Event(), threading.Condition(), threading.local()]
    given += [generator(), types, json, io.StringIO("x"), opened]
    clip = pixart_clip()
    module = clip.cond_stage_model.t5xxl.transformer.encoder.block[0].layer[1].DenseReluDense.wo
    wanted = encode(cut(clip))
    for value in given:
        module.straight, module.inside = value, [{"a": (Holder(value),)}]
        pruned = cut(clip)
        twin = pruned.cond_stage_model.t5xxl.transformer.encoder.block[0].layer[1].DenseReluDense.wo
        assert twin is not module and twin.straight is value
        assert twin.inside is not module.inside and twin.inside[0]["a"][0].inside is value
    assert torch.equal(encode(pruned), wanted)
    opened.close()


def test_what_must_not_be_shared_unseen_is_a_sentence(pack, cut):
    clip = pixart_clip()
    clip.cond_stage_model.t5xxl.transformer.encoder.block[2].handle = [Refuses()]
    with pytest.raises(pack("skrr_engine.errors").SkrrError, match="cannot be made smaller") as caught:
        cut(clip)
    assert "its attribute 't5xxl.transformer.encoder.block.2.handle' (a list) cannot be copied" in str(caught.value)
    assert "before the node that adds it." in str(caught.value)


class Callable:
    """As a hook of another pack's: what it holds is not looked through."""

    def __init__(self, inside):
        self.inside = inside

    def __call__(self):
        return self.inside


def test_a_result_of_an_operation_goes_along_without_its_history(cut):
    """PyTorch copies no tensor that remembers how it was computed."""
    clip = pixart_clip()
    module = clip.cond_stage_model.t5xxl.transformer.encoder.block[0].layer[1].DenseReluDense.wo
    wanted = encode(cut(clip))
    with torch.inference_mode(False), torch.enable_grad():
        result = torch.ones(3, requires_grad=True) * 2
    assert not result.is_leaf
    module.straight, module.inside = result, [{"a": (Holder(result),)}]
    pruned = cut(clip)
    twin = pruned.cond_stage_model.t5xxl.transformer.encoder.block[0].layer[1].DenseReluDense.wo
    for found in (twin.straight, twin.inside[0]["a"][0].inside):
        assert found is not result and not found.requires_grad and torch.equal(found, result.detach())
        assert found.untyped_storage().data_ptr() != result.untyped_storage().data_ptr()
    assert torch.equal(encode(pruned), wanted) and module.straight is result and result.grad_fn is not None


def test_where_such_a_result_is_not_seen_it_is_a_sentence(pack, cut):
    clip = pixart_clip()
    with torch.inference_mode(False), torch.enable_grad():
        result = torch.ones(3, requires_grad=True) * 2
    clip.cond_stage_model.t5xxl.transformer.encoder.block[2].handle = Callable(result)
    with pytest.raises(pack("skrr_engine.errors").SkrrError, match="cannot be made smaller") as caught:
        cut(clip)
    assert "its attribute 't5xxl.transformer.encoder.block.2.handle' (a Callable) cannot be copied" in str(caught.value)


def test_too_little_memory_is_told_as_what_it_is(pack, cut, monkeypatch):
    clip = pixart_clip()

    class Large:
        def __deepcopy__(self, memo):
            raise torch.OutOfMemoryError("no memory")

    clip.cond_stage_model.t5xxl.transformer.encoder.block[2].handle = Large()
    with pytest.raises(torch.OutOfMemoryError, match="no memory"):
        cut(clip)
