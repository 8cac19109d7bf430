"""A cancel in the middle: ComfyUI's own exception passes through unchanged, nothing is written by half, and what was
given goes on as before. It is raised at calls made by the pack, spread over a whole run of a node."""

import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from .steps import encode, plan_for
from .tiny_models import pixart_clip, pixart_model

TIMES = 8
WRITES = ("disk.py", "tensor_writing.py")
# Putting back what was changed may be cancelled by no one: ComfyUI cancels between steps of work.
TIDYING = {"__exit__", "__del__", "close", "rest", "_remove", "finish", "detach"}


class Cancelled:
    """Within, the pack's call numbered `at` (from 0) raises ComfyUI's exception; None: all are counted in `calls`.
    `files`: only calls in files of these names."""

    def __init__(self, pack, at=None, files=".py"):
        import comfy.model_management as mm

        self.at, self.files, self.calls, self.error = at, files, 0, mm.InterruptProcessingException()
        self.folders = tuple(str(Path(pack("nodes").__file__).parents[1] / part) for part in ("nodes", "skrr_engine"))

    def _profile(self, frame, event, argument):
        name = frame.f_code.co_filename
        if event not in ("call", "c_call") or not (name.startswith(self.folders) and name.endswith(self.files)):
            return
        self.calls += 1
        if self.at is not None and self.calls > self.at and not self._tidying(frame):
            raise self.error

    @staticmethod
    def _tidying(frame):
        while frame is not None:
            if frame.f_code.co_name in TIDYING:
                return True
            frame = frame.f_back
        return False

    def __enter__(self):
        sys.setprofile(self._profile)
        return self

    def __exit__(self, *error):
        sys.setprofile(None)


@pytest.fixture
def folders(tmp_path, monkeypatch):
    """All of ComfyUI's folders that the pack writes into."""
    monkeypatch.setattr("folder_paths.get_user_directory", lambda: str(tmp_path / "user"))
    monkeypatch.setattr("folder_paths.models_dir", str(tmp_path / "models"))
    monkeypatch.setattr("folder_paths.get_folder_paths", lambda kind: [str(tmp_path / "models" / kind)])
    return tmp_path


def cancel_everywhere(pack, folders, operation, intact, files=".py"):
    """Runs `operation` whole, then cancelled at TIMES calls (all in WRITES). `intact()` is asked after each."""
    with Cancelled(pack, files=files) as counted:
        operation()
    for at in range(0, counted.calls, 1 if files == WRITES else counted.calls // TIMES):
        cancelled = Cancelled(pack, at, files)
        try:
            with cancelled:
                operation()
            ended = None
        except type(counted.error) as error:
            ended = error
        assert ended is cancelled.error or cancelled.calls <= at + 8, at  # the last calls only tidy up
        assert not list(folders.rglob("*.part")), at
        intact()
    operation()
    intact()


def test_apply(pack, folders):
    nodes = pack("nodes").NODE_CLASS_MAPPINGS
    clip = pixart_clip()
    plan, dense = plan_for(pack, clip), encode(clip)
    before = {name: tensor.clone() for name, tensor in clip.patcher.model.state_dict().items()}
    small = []

    def intact():
        assert torch.equal(encode(clip), dense)
        after = clip.patcher.model.state_dict()
        assert after.keys() == before.keys() and all(torch.equal(after[name], before[name]) for name in before)

    cancel_everywhere(pack, folders, lambda: small.append(nodes["SkrrApply"].execute(clip, plan, 0.01)[0]), intact)
    assert len(small) == 2 and torch.equal(encode(small[0]), encode(small[1]))


def test_calibrate(pack, folders):
    nodes, clip = pack("nodes").NODE_CLASS_MAPPINGS, pixart_clip()
    dense, found = encode(clip), []

    def intact():
        assert torch.equal(encode(clip), dense)

    def calibrate():
        found.append(nodes["SkrrCalibrate"].execute(clip, "text", "\n".join(f"fox {n}" for n in range(9)), 9)[0])

    cancel_everywhere(pack, folders, calibrate, intact)
    assert len(found) == 2 and found[0] == found[1]


def test_save(pack, folders):
    nodes, clip = pack("nodes").NODE_CLASS_MAPPINGS, pixart_clip()
    (small, *_) = nodes["SkrrApply"].execute(clip, plan_for(pack, clip), 0.01)
    target, before = folders / "models" / "text_encoders" / "mine.safetensors", []

    def save():
        nodes["SkrrSaveEncoder"].execute(small, "t5xxl", "mine", False, True)

    right = encode(small)

    def intact():
        before.append(load_file(target))
        assert all(torch.equal(before[0][name], before[-1][name]) for name in before[0].keys() | before[-1].keys())
        assert torch.equal(encode(small), right)

    cancel_everywhere(pack, folders, save, intact, WRITES)


def test_save_plan(pack, folders):
    nodes, plan = pack("nodes").NODE_CLASS_MAPPINGS, pack("skrr_engine.plans.presets").load_preset("sd3")

    def intact():
        assert nodes["SkrrLoadPlan"].execute("mine.json", "")[0] == plan

    cancel_everywhere(pack, folders, lambda: nodes["SkrrSavePlan"].execute(plan, "mine", True), intact, WRITES)


def test_search(pack, folders):
    """Cancelled again and again it still goes on, and ends in the plan of a search that nobody cancelled."""
    import comfy.model_management as mm

    nodes, clip, model = pack("nodes").NODE_CLASS_MAPPINGS, pixart_clip(layers=3), pixart_model()
    dense = encode(clip)
    (calibration,) = nodes["SkrrCalibrate"].execute(clip, "text", "a fox\na hen\nfog over a lake", 3).args

    def search(name):
        arguments = ("t5xxl", 1, 0.05, 0.0, 1.0, True, name, "")
        return nodes["SkrrSearch"].execute(*arguments, clip=clip, model=model, calibration=calibration, mode="exact")[0]

    with Cancelled(pack) as counted:
        whole = search("fox")
    for cached in (folders / "user").rglob("*.json"):
        cached.unlink()
    for share in (1, 2, 3, 4):
        cancelled = Cancelled(pack, counted.calls * share // 10)
        try:
            with cancelled:
                found = search("fox")
        except mm.InterruptProcessingException as error:
            assert error is cancelled.error
        assert not list(folders.rglob("*.part"))
        assert torch.equal(encode(clip), dense)
    found = search("fox")
    assert [level.cuts for level in found.levels] == [level.cuts for level in whole.levels]
    errors = [[level.discrepancy["value"] for level in plan.levels] for plan in (found, whole)]
    assert errors[0] == pytest.approx(errors[1])
