"""What a node was given is known to the page after it ran, whatever way the plan came: every node that takes one."""

import pytest

from ..steps import plan_for
from ..tiny_models import pixart_clip


@pytest.fixture
def state(pack, monkeypatch):
    """Runs a node as the server's node 7 of workflow w; returns what the server then knows of it."""
    nodes, page = pack("nodes").NODE_CLASS_MAPPINGS, pack("nodes.comfy_host.page.pages_state")
    told = []
    monkeypatch.setattr(page, "NODES", page.Bounded(4))
    monkeypatch.setattr(page, "place", lambda: page.Place("w", "7", "p"))
    monkeypatch.setattr(page, "tell", lambda event, data: told.append((event, data)))

    def run(kind, *arguments, **inputs):
        nodes[kind].execute(*arguments, **inputs)
        assert told == [("skrr.node", {"workflow": "w", "node": "7"})]
        return page.NODES.get(("w", "7"))

    return run


def test_skrr_save_plan(pack, state, tmp_path, monkeypatch):
    monkeypatch.setattr("folder_paths.models_dir", str(tmp_path))
    plan = pack("skrr_engine.plans.presets").load_preset("sd3")
    found = state("SkrrSavePlan", plan, "mine", False)
    assert found.plan == plan and found.page()["plan"]["name"] == plan.name


def test_a_plan_that_cannot_be_saved_is_known_too(pack, state, tmp_path, monkeypatch):
    (tmp_path / "skrr").write_text("in the way")
    monkeypatch.setattr("folder_paths.models_dir", str(tmp_path))
    plan = pack("skrr_engine.plans.presets").load_preset("sd3")
    with pytest.raises(pack("skrr_engine.errors").SkrrError):
        state("SkrrSavePlan", plan, "mine", False)
    assert pack("nodes.comfy_host.page.pages_state").NODES.get(("w", "7")).plan == plan


def test_skrr_clip_loader(pack, state, monkeypatch):
    load = pack("nodes.load")
    clip = pixart_clip()
    plan = plan_for(pack, clip, (3, 5))
    patched = pack("nodes.comfy_host.clip.patching").apply_level(clip, plan, plan.levels[0])
    monkeypatch.setattr(load, "model_file", lambda kind, name: name)
    monkeypatch.setattr(load, "load_kept", lambda *_, **__: patched)
    monkeypatch.setattr(load, "report_of", lambda *_: "Kept.\nWarning: of another file.")
    found = state("SkrrCLIPLoader", "a", "none", "none", "none", "pixart", 0.01, "default", plan)
    assert (found.plan, found.exact, found.warnings) == (plan, {}, ["of another file."])
    assert (found.free["parts"], found.free["sparsity"]) == ([], plan.levels[0].sparsity)


def test_skrr_apply(pack, state):
    clip = pixart_clip()
    plan = plan_for(pack, clip, (3, 5))
    found = state("SkrrApply", clip, plan, 0.01)
    assert found.plan == plan and found.exact["t5xxl"]["total"] > 0
