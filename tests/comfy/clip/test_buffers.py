"""Weights that another pack's quantised layers keep in buffers are shared and dropped like parameters."""

import torch

from ..steps import SKIP
from ..tiny_models import pixart_clip


def test_a_clone_shares_buffers_unless_told_to_copy(pack):
    clone = pack("nodes.comfy_host.clip.cloning").structural_clone
    tree = torch.nn.Linear(2, 2)
    tree.register_buffer("qweight", torch.ones(4, dtype=torch.int32))
    shared, copied = clone(tree), clone(tree, lambda tensor: True)
    assert shared.qweight.data_ptr() == tree.qweight.data_ptr()
    assert copied.qweight.data_ptr() != tree.qweight.data_ptr()
    assert torch.equal(copied.qweight, tree.qweight)


def test_every_tensor_of_a_tree_is_asked_for_and_copied_once(pack):
    """Not once more for every module that it is below: weights of an encoder are many gigabytes."""
    clone, asked = pack("nodes.comfy_host.clip.cloning").structural_clone, []
    tree = torch.nn.Sequential(torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.BatchNorm1d(2)))
    clone(tree, lambda tensor: asked.append(id(tensor)) or False)
    assert sorted(asked) == sorted(id(tensor) for tensor in (*tree.parameters(), *tree.buffers()))


def test_buffers_of_skipped_places_are_not_copied(pack):
    patching, plans = pack("nodes.comfy_host.clip.patching"), pack("skrr_engine.plans.plan")
    dense = pixart_clip()
    blocks = dense.cond_stage_model.t5xxl.transformer.encoder.block
    buffers = []
    for block in blocks:
        projection = block.layer[1].DenseReluDense.wo
        projection.register_buffer("qweight", torch.ones(4, dtype=torch.int32))
        buffers.append(projection.qweight)
    cut = plans.make_cut(SKIP, {})
    level = type("Level", (), {"cuts": {"t5xxl": cut}})
    removed = patching._removed_parameters(dense, level)
    gone = [i for i, buffer in enumerate(buffers) if id(buffer) in removed]
    assert gone == [place // 2 for place in sorted(SKIP) if place % 2]
