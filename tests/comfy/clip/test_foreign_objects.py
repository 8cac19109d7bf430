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
