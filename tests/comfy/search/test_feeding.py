"""Sub-blocks brought out of ComfyUI's layers: what they compute is what the layers do, in every format, with LoRA and
under dynamic VRAM; and the layers stay as they were."""

import pytest
import torch

from ..dynamic_vram import CARD, simulate, wide_clip
from ..formats import FORMATS, ODD, make_clip, make_odd
from ..steps import REUSE, SKIP, TEXT, make_lora, with_lora
from ..tiny_models import pixart_clip, pixart_model, sd1_clip

CPU = torch.device("cpu")
PROMPTS = ("a red fox", "two blue lanterns above a wooden boat, seen from the shore", "fog")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("files")


@pytest.fixture
def walk(pack):
    """walk(clip, feed, dtype) -> the sequence under SKIP and REUSE, and the stack."""
    run = pack("skrr_engine.measure.execute")

    def outputs(clip, feed=False, dtype=None, slot="t5xxl", device=CPU):
        encoder = pack("nodes.comfy_host.clip.trees").choose_encoder(clip, slot)
        pack("nodes.comfy_host.weights.memory").rest(clip.patcher)
        stack = encoder.adapter.stack(encoder)
        if feed:
            stack.feeder = pack("nodes.comfy_host.search.feeding").HostFeeder(stack, device, torch.bfloat16)
            stack.feeder.dtype = dtype
        stack.prepare()
        rows = clip.tokenize(TEXT)[slot.removeprefix("clip_")]
        tokens = torch.tensor([[token for token, _ in row] for row in rows])
        batch = pack("skrr_engine.encoders.stack").TokenBatch(tokens, tuple(range(len(rows))), tokens.shape[1], {})
        found = run.encode(stack, run.assign(len(stack.subblocks), SKIP, REUSE), batch)["sequence"]
        assert not any("forward" in module.__dict__ for module in stack.transformer.modules())
        return found, stack

    return outputs


def apart(found, expected):
    return ((found - expected).norm() / expected.norm()).item()


@pytest.mark.parametrize("lora", [False, True], ids=["plain", "lora"])
@pytest.mark.parametrize("name", FORMATS)
def test_every_format(walk, folder, name, lora):
    """Bit for bit; narrow products are off by their rounding, which this LoRA on a random encoder amplifies."""
    clip = make_clip(name, folder)[0]
    if lora:
        clip = with_lora(clip, make_lora(pixart_clip(), range(12)))
    expected, _ = walk(clip)
    found, stack = walk(clip, feed=True)
    assert torch.equal(found, expected)
    bound = 0.4 if lora else 0.03
    for dtype, tolerance in ((torch.bfloat16, bound), (torch.float16, bound / 6)):
        narrow, _ = walk(clip, feed=True, dtype=dtype)
        assert narrow.dtype == torch.float32
        assert 0 < apart(narrow, found) < tolerance
    assert stack.working_bytes > 0


@pytest.mark.parametrize("what", ODD)
def test_layers_that_change_their_input(walk, what):
    """Up to rounding: the change is in the matrix here."""
    expected, found = walk(make_odd(what))[0], walk(make_odd(what), feed=True)[0]
    assert apart(found, expected) < 0.03


@pytest.mark.parametrize("dtype", [None, torch.bfloat16, torch.float16], ids=str)
def test_a_clip_text_model(walk, dtype):
    clip = sd1_clip()
    expected, found = walk(clip, slot="clip_l")[0], walk(clip, True, dtype, "clip_l")[0]
    assert apart(found, expected) <= {None: 0, torch.bfloat16: 0.03, torch.float16: 0.003}[dtype]


@pytest.mark.parametrize("room", [0, 4400 * 1024, 1 << 30], ids=["no room", "some room", "all fits"])
def test_under_dynamic_vram(walk, monkeypatch, room):
    simulate(monkeypatch, room)
    clip = wide_clip()
    expected = walk(clip)[0]
    found, stack = walk(clip, feed=True, device=CARD)
    assert torch.equal(found, expected)
    assert stack.feeder.copied_bytes > 0


def test_a_whole_search_states_float32(pack, monkeypatch, tmp_path):
    """Sets are chosen in bf16; what the plan states is what a search without a feeder measures."""
    monkeypatch.setattr("folder_paths.get_user_directory", lambda: str(tmp_path))
    searching, feeding = pack("nodes.comfy_host.search.searching"), pack("nodes.comfy_host.search.feeding")
    made = []

    def feeder(stack, device):
        made.append(feeding.HostFeeder(stack, device, torch.bfloat16))
        return made[-1]

    monkeypatch.setattr(searching, "_feeder", feeder)
    clip, model = pixart_clip(layers=3), pixart_model()
    encoder = pack("nodes.comfy_host.clip.trees").choose_encoder(clip)
    calibrating = pack("nodes.comfy_host.search.calibrating")
    tokenized = calibrating.tokenize(clip, PROMPTS)
    settings = pack("skrr_engine.jobs.search").Settings("t5xxl", sparsity=0.05, beam=2)
    plan, _ = searching.run_search(encoder, model, tokenized, settings)
    assert made[0].copied_bytes == 0  # on a CPU everything is where it runs
    projection, _ = pack("nodes.comfy_host.denoiser.projections").find_projection(model, encoder)
    stack = encoder.adapter.stack(encoder)
    calibration = calibrating.calibration_for(encoder, tokenized)
    objective = pack("skrr_engine.measure.objective").Objective(stack, calibration, projection)
    assign = pack("skrr_engine.measure.execute").assign
    for level in plan.levels:
        cut = level.cuts["t5xxl"]
        expected = objective.measure(assign(6, cut.skip, cut.reuse_map)).to_json()
        assert level.discrepancy == pytest.approx(expected, rel=1e-4, abs=1e-7)
