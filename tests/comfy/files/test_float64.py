"""A T5 file in float64, which ComfyUI casts to no device: Skrr CLIP Loader opens it as float32."""

import pytest
import torch
from safetensors.torch import load_file, save_file

from .. import narrow_files
from ..dynamic_vram import simulate
from ..steps import encode, plan_for

SKIP, REUSE = (0, 3, 10, 46, 47, 21), {0: 2, 3: 1, 47: 45}


@pytest.fixture(autouse=True)
def narrow(monkeypatch):
    narrow_files.narrow(monkeypatch)


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """The same weights in float32 and in float64."""
    folder = tmp_path_factory.mktemp("models")
    single, double = narrow_files.write_t5(folder / "single.safetensors", "fp32"), folder / "double.safetensors"
    save_file({name: tensor.double() for name, tensor in load_file(single).items()}, double)
    return single, double


@pytest.mark.parametrize("dynamic", [False, True])
def test_as_the_float32_file(pack, files, monkeypatch, dynamic):
    import comfy.sd

    single, double = files
    dense = comfy.sd.load_clip([str(single)], clip_type=comfy.sd.CLIPType.PIXART)
    plan = plan_for(pack, dense, SKIP, REUSE)
    if dynamic:
        simulate(monkeypatch, 1 << 30)
    load = pack("nodes.comfy_host.files.loading").load_kept
    found, wanted = (load([file], "pixart", plan, plan.levels[0]).clip for file in (double, single))
    first, second = found.patcher.model.state_dict(), wanted.patcher.model.state_dict()
    assert first.keys() == second.keys()
    assert all(first[name].dtype == t.dtype and torch.equal(first[name], t) for name, t in second.items())
    assert found.patcher.load_device == wanted.patcher.load_device
    assert torch.equal(encode(found), encode(wanted))
