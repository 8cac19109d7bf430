"""The fit of Skrr Search on encoders in every storage format and on CLIP text models: better on prompts that nothing
was fitted on, in the CLIP that Skrr Apply makes; what was fitted is stored wider, and counted, and nothing else."""

import itertools

import pytest
import torch

from .. import steps
from ..corrected import stack_of
from ..formats import FORMATS, ODD, PLAIN, make_clip, make_odd
from ..tiny_models import flux_clip, flux_model, pixart_model, sd3_clip, sd3_model
from .test_search_corrections import PROMPTS

OTHERS = tuple(
    f"{where} {what} waits"
    for where, what in itertools.product(("at noon a", "by the sea one"), ("horse", "drum", "pie"))
)


@pytest.fixture(autouse=True)
def as_in_a_workflow():
    """ComfyUI runs all nodes so, loaders too; quantised weights that were made outside cannot be loaded inside."""
    with torch.inference_mode():
        yield


@pytest.fixture
def search(pack, tmp_path, monkeypatch):
    """search(clip, model, skip, slot) -> plan of Skrr Search with corrections, on a plan that skips that."""
    monkeypatch.setattr("folder_paths.get_user_directory", lambda: str(tmp_path))
    monkeypatch.setattr("folder_paths.models_dir", str(tmp_path / "models"))
    sites, fitting = pack("skrr_engine.corrections.sites"), pack("nodes.comfy_host.search.correcting")
    monkeypatch.setattr(fitting, "KINDS", {"bridge, all": sites.Settings("all", "bridge", rank=4, ridges=(0.1, 1.0))})

    def run(clip, model, skip, slot="t5xxl"):
        plan = steps.plan_for(pack, clip, skip, slot=slot)
        tokens = pack("nodes.comfy_host.search.calibrating").tokenize(clip, PROMPTS)
        return pack("nodes.search").SkrrSearch.execute(
            encoder=slot, beam=1, sparsity=0.001, plan=plan, saved_gb=0.0, null_weight=1.0, reuse=False, name="fox",
            pinned="", clip=clip, model=model, calibration=tokens, corrections=True,
        ).args[0]  # fmt: skip

    return run


def held_out(pack, clip, model, plan, slot="t5xxl"):
    """(D of the plan alone, D with its corrections) over prompts that the search has not seen."""
    host, stack = "nodes.comfy_host.", stack_of(pack, clip, slot)
    calibrating, encoder = pack(host + "search.calibrating"), stack.encoder
    projection = pack(host + "denoiser.projections").find_projection(model, encoder)[0]
    rows = calibrating.calibration_for(encoder, calibrating.tokenize(clip, OTHERS))
    make = pack("skrr_engine.measure.objective").Objective
    one = pack(host + "files.side_files").corrections_for(plan.levels[0])[slot]
    plain = pack("skrr_engine.measure.execute").assign(len(stack.subblocks), one.cut.skip, one.cut.reuse_map)
    fixed, run = one.applied(stack), pack("skrr_engine.measure.execute")
    stack.prepare()
    objective, found = make(stack, rows, projection), []
    for runs, assignment in ((stack, plain), (fixed.stack, fixed.assignment)):
        tally = pack("skrr_engine.measure.objective").Tally(objective)
        for batch in objective.batches:
            tally.add(batch, run.encode(runs, assignment, batch))
        found.append(tally.total().value)
    return one, *found


@pytest.mark.parametrize("name", FORMATS)
def test_every_format(pack, search, tmp_path, name):
    clip, sizes = make_clip(name, tmp_path)
    model = pixart_model()
    plan = search(clip, model, (3, 6))
    one, before, after = held_out(pack, clip, model, plan)
    assert one.matrices and one.added and after < 0.9 * before
    width = PLAIN[name] if name in ("fp32", "fp16", "bf16") else torch.float16
    assert {matrix.dtype for matrix in one.matrices.values()} == {width}

    small = pack("nodes.apply").SkrrApply.execute(clip, plan, 0.001).args[0]
    plain = steps.prune(pack, clip, (3, 6)).clip
    ends = (".o.weight", ".wo.weight")
    keys = [key for key in steps.matrices(clip.patcher.model, one.matrices) if key.endswith(ends)]
    assert len(keys) == len(one.matrices)
    grown = sum(width.itemsize * steps.weight_of(small.patcher.model, key).numel() for key in keys) + one.extra_bytes
    grown -= sum(sizes[key.partition(".transformer.")[2]] for key in keys)
    assert small.patcher.model_size() - plain.patcher.model_size() == grown
    ours, theirs = content(small), content(plain)
    for key, values in theirs.items():  # nothing else is stored anew
        assert key in keys or all(map(torch.equal, ours[key], values)), key
    dense = steps.encode(clip)
    assert (steps.encode(small) - dense).norm() < (steps.encode(plain) - dense).norm()


def content(clip):
    """parameter -> what it is stored in."""
    raw = {}
    for name, parameter in clip.patcher.model.named_parameters():
        parts = [parameter.as_subclass(torch.Tensor)]
        if hasattr(parameter, "_qdata"):
            parts = [parameter._qdata, *(v for v in vars(parameter._params).values() if torch.is_tensor(v))]
        raw[name] = [part.detach().reshape(-1).view(torch.uint8) for part in parts]
    return raw


@pytest.mark.parametrize("family, slot", [("flux", "clip_l"), ("flux", "t5xxl"), ("sd3", "clip_l"), ("sd3", "clip_g")])
def test_encoders_of_several(pack, search, family, slot):
    """CLIP text models, of which FLUX reads the pooled output alone, and a T5 beside one."""
    make, model = {"flux": (flux_clip, flux_model()), "sd3": (sd3_clip, sd3_model())}[family]
    clip = make()
    plan = search(clip, model, (3,), slot)
    one, before, after = held_out(pack, clip, model, plan, slot)
    assert (one.matrices or one.added) and after < 0.9 * before
    small = pack("nodes.apply").SkrrApply.execute(clip, plan, 0.001).args[0]
    dense, plain = conditioning(clip), conditioning(steps.prune(pack, clip, (3,), slot=slot).clip)
    found = conditioning(small)
    assert (found - dense).norm() < (plain - dense).norm()


def conditioning(clip):
    """Everything that the denoiser gets, in one row."""
    ((sequence, more),) = clip.encode_from_tokens_scheduled(clip.tokenize(steps.TEXT))
    return torch.cat([sequence.flatten(), more["pooled_output"].flatten()])


@pytest.mark.parametrize("what", ODD)
def test_a_layer_that_changes_its_input(pack, search, what):
    """Weights that are stored turned (ConvRot), or for an input that the layer scales first (AWQ): what the fit takes
    for the matrix is what comes out in the end, and a fitted layer gets its input as it is."""
    clip, model = make_odd(what), pixart_model()
    stack = stack_of(pack, clip)
    stack.prepare()
    for index in (2, 3):
        matrix, layer = stack.output_matrix(index), stack.subblocks[index].output
        found = layer(torch.eye(matrix.shape[1]))
        assert (found - matrix.T).norm() < 0.02 * matrix.norm()
    plan = search(clip, model, (3, 6))
    _, before, after = held_out(pack, clip, model, plan)
    assert after < 0.9 * before
    small = pack("nodes.apply").SkrrApply.execute(clip, plan, 0.001).args[0]
    dense, plain = steps.encode(clip), steps.encode(steps.prune(pack, clip, (3, 6)).clip)
    assert (steps.encode(small) - dense).norm() < (plain - dense).norm()
