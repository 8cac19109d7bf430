"""SkrrApply's contract: outputs against the computation written out, accounting against the tensors."""

import pytest
import torch

from ..oracle import clip_forward, clip_prefixes, kept_bytes, t5_forward, t5_prefixes
from ..tiny_models import flux_clip, pixart_clip, sd1_clip, sd3_clip

TEXT = "a red fox reading a map beside two blue lanterns"


@pytest.fixture(scope="session")
def prune(pack):
    """prune(clip, slot, skip, reuse) -> Patched."""
    plan = pack("skrr_engine.plans.plan")
    patching, trees = pack("nodes.comfy_host.clip.patching"), pack("nodes.comfy_host.clip.trees")

    def make(clip, slot, skip, reuse=None):
        info = plan.EncoderInfo(trees.choose_encoder(clip, slot).architecture)
        level = plan.make_level({slot: info}, {slot: plan.make_cut(skip, reuse or {})})
        return patching.apply_level(clip, plan.Plan("test", {slot: info}, (level,)), level)

    return make


def encode(clip, text=TEXT):
    cond, pooled = clip.encode_from_tokens(clip.tokenize(text), return_pooled=True)
    return cond.clone(), None if pooled is None else pooled.clone()


def ids(clip, key, text=TEXT):
    return [token for token, _ in clip.tokenize(text)[key][0]]


T5_CUTS = [([3], {}), ([5, 2, 7], {5: 3, 2: 4}), ([0], {}), ([0, 1], {0: 2}), (list(range(12)), {})]


@pytest.mark.parametrize("skip, reuse", T5_CUTS)
def test_t5_output_equals_the_computation_written_out(prune, skip, reuse):
    """Bit for bit, also with sub-block 0 (which owns the position table) skipped or re-used from elsewhere."""
    dense = pixart_clip()
    wanted = t5_forward(dense.cond_stage_model.t5xxl.transformer, ids(dense, "t5xxl"), skip, reuse)
    before = encode(dense)[0]
    pruned = prune(dense, "t5xxl", skip, reuse).clip
    assert torch.equal(encode(pruned)[0], wanted)
    assert torch.equal(encode(dense)[0], before)
    assert torch.equal(encode(pruned)[0], wanted)


@pytest.mark.parametrize("make, key", [(sd1_clip, "l"), (sd3_clip, "l"), (sd3_clip, "g")])
@pytest.mark.parametrize("skip, reuse", [([2], {}), ([5, 0, 3], {5: 7, 0: 2})])
def test_clip_output_equals_the_computation_written_out(prune, make, key, skip, reuse):
    dense, slot = make(), f"clip_{key}"
    inner = getattr(dense.cond_stage_model, slot)
    layer = 1 if make is sd1_clip else 2
    read, projected, unprojected = clip_forward(inner.transformer, ids(dense, key), skip, reuse, layer)
    if make is sd1_clip:
        read = inner.transformer.text_model.final_layer_norm(read)
    pruned = prune(dense, slot, skip, reuse).clip
    cond, pooled = encode(pruned)
    width = read.shape[-1]
    first = width if key == "g" else 0
    assert torch.equal(cond[:, :77, first : first + width], read)
    pooled_wanted = projected if inner.return_projected_pooled else unprojected
    assert torch.equal(pooled[:, first : first + width], pooled_wanted)


def test_flux_tree_keeps_its_other_encoder(prune):
    dense = flux_clip()
    _, pooled = encode(dense)
    patched = prune(dense, "t5xxl", [1, 4], {4: 2})
    cond, same = encode(patched.clip)
    assert torch.equal(same, pooled)
    wanted = t5_forward(dense.cond_stage_model.t5xxl.transformer, ids(dense, "t5xxl"), [1, 4], {4: 2})
    assert torch.equal(cond, wanted)
    assert type(patched.clip) is type(dense)
    assert type(patched.clip.patcher) is type(dense.patcher)


@pytest.mark.parametrize(
    "make, slot, path, prefixes",
    [
        (flux_clip, "t5xxl", "t5xxl.transformer.", t5_prefixes),
        (flux_clip, "clip_l", "clip_l.transformer.", clip_prefixes),
        (pixart_clip, "t5xxl", "t5xxl.transformer.", t5_prefixes),
        (sd3_clip, "clip_g", "clip_g.transformer.", clip_prefixes),
    ],
)
def test_sizes_are_the_kept_bytes_exactly(prune, make, slot, path, prefixes):
    """model_size, loaded_size, the load list and the report, against the state dict; a source counts once."""
    import comfy.model_management as mm

    dense, skip, reuse = make(), [0, 3, 5], {5: 7}
    wanted = kept_bytes(dense.cond_stage_model, path, prefixes(skip))
    patched = prune(dense, slot, skip, reuse)
    patcher = patched.clip.patcher
    assert patcher.model_size() == wanted == mm.module_size(patcher.model)
    assert patched.clip_bytes == (mm.module_size(dense.cond_stage_model), wanted)
    assert sum(entry[-4] for entry in patcher._load_list()) + loose(patcher) == wanted
    mm.load_models_gpu([patcher])
    assert patcher.loaded_size() == wanted
    gone = tuple(path + prefix for prefix in prefixes(skip))
    kept = {key for key in dense.cond_stage_model.state_dict() if not key.startswith(gone)}
    assert set(patcher.model.state_dict()) == kept


def loose(patcher):
    """Bytes of parameters on modules that hold other modules too, which ComfyUI's load list leaves out."""
    listed = {id(m) for *_, m, _ in patcher._load_list()}
    return sum(
        p.nbytes
        for m in patcher.model.modules()
        if id(m) not in listed
        for p in m.parameters(recurse=False)
    )
