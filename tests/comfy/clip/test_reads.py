"""What a CLIP would read of its encoder, whatever another CLIP on the same tree has read before."""

import pytest

from ..tiny_models import sd1_clip


@pytest.fixture
def read(pack):
    """read(clip) -> (layer, layer_idx, projected pooled) as its own encode would set them."""
    options = pack("nodes.comfy_host.clip.reads").encode_options
    return lambda clip: options(clip, clip.patcher.model.clip_l)


def test_what_the_clip_before_has_set_does_not_count(read):
    """ComfyUI resets a tree when it begins to encode and leaves it as set."""
    clip = sd1_clip()
    usual = read(clip)
    clip.patcher.model.set_clip_options({"layer": -2, "projected_pooled": not usual[2]})
    assert read(clip) == usual


def test_the_tree_is_left_as_it_would_be_reset(read):
    clip = sd1_clip()
    usual, skipping = read(clip), clip.clone()
    skipping.clip_layer(-3)
    layer, index, projected = read(skipping)
    assert (layer, index, projected) == ("hidden", -3, usual[2])
    encoder = clip.patcher.model.clip_l
    assert (encoder.layer, encoder.layer_idx, encoder.return_projected_pooled) == usual
