"""The published FLUX plan on a T5-XXL of real size: random fp16 weights, 9.5 GB, bytes counted from the tensors."""

import os

import pytest
import torch

from .tiny_models import flux_clip

big = pytest.mark.skipif(not os.environ.get("SKRR_BIG_TESTS"), reason="needs 12 GB of memory: SKRR_BIG_TESTS=1")

XXL = {"num_layers": 24, "d_model": 4096, "d_ff": 10240, "d_kv": 64, "num_heads": 64}
DENSE = 9_524_621_312
# sub-blocks skipped -> (sparsity in %, bytes of the T5 in fp16)
LEVELS = {20: ("40.52", 5_665_697_792), 21: ("43.16", 5_414_031_360)}


@pytest.fixture(scope="module")
def flux():
    """A FLUX CLIP whose T5 has its real size, on two device names, so that storages are shared as on a GPU."""
    devices = {"load_device": torch.device("cpu:0"), "offload_device": torch.device("cpu")}
    return flux_clip(t5xxl_model_config=XXL, **devices)


@big
@pytest.mark.parametrize("skipped", LEVELS)
def test_flux_preset_takes_the_bytes_it_says(pack, flux, skipped):
    presets, patching = pack("skrr_engine.plans.presets"), pack("nodes.comfy_host.clip.patching")
    percent, wanted = LEVELS[skipped]
    plan = presets.load_preset("flux1-dev")
    level = next(level for level in plan.levels if len(level.cuts["t5xxl"].skip) == skipped)
    assert f"{100 * level.sparsity:.2f}" == percent
    dense = flux.cond_stage_model.t5xxl.transformer
    assert storage_bytes(dense) == DENSE
    patched = patching.apply_level(flux, plan, level)
    pruned = patched.clip.cond_stage_model.t5xxl.transformer
    assert storage_bytes(pruned) == wanted == patched.encoder_bytes["t5xxl"][1]
    assert patched.encoder_bytes["t5xxl"][0] == DENSE
    # Everything kept lies in the dense encoder's own memory, and nothing skipped is reachable any more.
    assert pointers(pruned) < pointers(dense)
    gone = {f"encoder.block.{i // 2}.layer.{i % 2}." for i in level.cuts["t5xxl"].skip}
    assert not any(key.startswith(tuple(gone)) for key in pruned.state_dict())
    report = pack("nodes.comfy_host.report.reporting").report_of(patched, 0.4)
    assert f"({DENSE:,} bytes) before" in report and f"({wanted:,} bytes) after" in report
    assert torch.isfinite(pruned.encoder.final_layer_norm.weight).all()


def storage_bytes(module) -> int:
    """Bytes of the distinct storages under a module's parameters."""
    return sum({p.data_ptr(): p.untyped_storage().nbytes() for p in module.parameters()}.values())


def pointers(module) -> set[int]:
    return {p.data_ptr() for p in module.parameters()}
