"""Memory modes without a GPU: `cpu:0` as a device of its own beside `cpu`, with as much memory as a test gives it.

PyTorch copies a tensor that goes from cpu to cpu:0, so weights really move, and storages really part.
"""

import functools
import re

import pytest
import torch

from .. import steps
from ..formats import pointers
from ..steps import REUSE, SKIP, dense_wanted, encode, hook, make_lora, wanted, with_hooks, with_lora
from ..tiny_models import pixart_clip, sd1_clip

ALL = range(12)
CPU, GPU = torch.device("cpu"), torch.device("cpu:0")
KB = 1024


@pytest.fixture(scope="module")
def prune(pack):
    return functools.partial(steps.prune, pack)


@pytest.fixture
def card(monkeypatch):
    """card(bytes, state) puts in a card with that much memory: ComfyUI's own manager then decides what to load."""
    import comfy.model_management as mm

    def put_in(size, state="NORMAL_VRAM"):
        def free(device=None, torch_free_too=False):
            used = sum(loaded.model_loaded_memory() for loaded in mm.current_loaded_models if loaded.device == device)
            left = max(0, (size if device == GPU else 1 << 40) - used)
            return (left, left) if torch_free_too else left

        monkeypatch.setattr(mm, "get_free_memory", free)
        monkeypatch.setattr(mm, "is_device_cpu", lambda device: device == CPU)
        monkeypatch.setattr(mm, "vram_state", mm.VRAMState[state])
        for name in ("minimum_inference_memory", "extra_reserved_memory"):
            monkeypatch.setattr(mm, name, lambda: 0)
        monkeypatch.setattr(mm, "MIN_WEIGHT_MEMORY_RATIO", 0.0)

    yield put_in
    mm.free_memory(1e30, GPU)


def on_card(make=pixart_clip, **options):
    return make(load_device=GPU, offload_device=CPU, **options)


# --- the accounting rule -----------------------------------------------------------------------------------


def reference(skip, load_device):
    """A patcher of ComfyUI's around a dense tree from which modules were simply deleted. For counting only."""
    clip = pixart_clip(load_device=load_device, offload_device=CPU)
    for place in skip:
        layers = clip.cond_stage_model.t5xxl.transformer.encoder.block[place // 2].layer
        if place:
            layers[place % 2] = torch.nn.Module()
        else:
            del layers[0].layer_norm
            for name in "qkvo":
                delattr(layers[0].SelfAttention, name)
    clip.patcher.size = 0
    return clip.patcher


def resident(patcher):
    """Paths of the modules whose weights are on the device; on meta, whose weights really have no data left."""
    paths = {path for path, module in patcher.model.named_modules() if getattr(module, "comfy_patched_weights", False)}
    if patcher.load_device.type == "meta":
        assert paths == {name.rpartition(".")[0] for name, p in patcher.model.named_parameters() if p.is_meta}
    return paths


@pytest.mark.parametrize("device", [GPU, torch.device("meta")], ids=str)
@pytest.mark.parametrize("budget", [0.1, 60 * KB, 120 * KB, 4250 * KB])
def test_partial_loads_and_unloads_count_the_kept_modules(prune, device, budget):
    """The same as a tree that never had the skipped modules: bytes, modules, and what an unload frees of them."""
    dense = pixart_clip(load_device=device, offload_device=CPU)
    patcher, right = prune(dense, SKIP, REUSE).clip.patcher, reference(SKIP, device)
    assert patcher.model_size() == right.model_size()
    for step in (budget, 50 * KB) if device != GPU else (budget, 50 * KB, -90 * KB, 1e32, -90 * KB):
        assert patcher.partially_load(device, step) == right.partially_load(device, step)
        assert patcher.loaded_size() == right.loaded_size()
        assert resident(patcher) == resident(right)
    if device == GPU:
        assert patcher.partially_unload(CPU, 70 * KB) == right.partially_unload(CPU, 70 * KB) > 0
        assert patcher.loaded_size() == right.loaded_size() < patcher.model_size()
        patcher.detach()
        assert patcher.loaded_size() == 0
    else:
        assert sum(p.nbytes for p in patcher.model.parameters() if p.is_meta) == patcher.loaded_size()
    assert torch.equal(steps.by_hand(dense, (), {}), dense_wanted())


# --- encoding under each mode ------------------------------------------------------------------------------

MODES = {
    "novram": (1 << 30, "NO_VRAM"),
    "full card": (30 * KB, "NORMAL_VRAM"),
    "lowvram": (4250 * KB, "LOW_VRAM"),
    "one fits": (4600 * KB, "NORMAL_VRAM"),
    "both fit": (1 << 30, "NORMAL_VRAM"),
}


@pytest.mark.parametrize("mode", MODES)
def test_dense_and_pruned_in_turn(prune, card, mode):
    import comfy.model_management as mm

    size, state = MODES[mode]
    card(size, state)
    dense = on_card()
    pruned = prune(dense, SKIP, REUSE).clip
    for clip, right in [(dense, dense_wanted()), (pruned, wanted())] * 3:
        assert torch.equal(encode(clip), right)
        assert sum(loaded.model_loaded_memory() for loaded in mm.current_loaded_models) <= size
    whole = [clip.patcher.loaded_size() == clip.patcher.model_size() for clip in (dense, pruned)]
    assert whole == {"one fits": [False, True], "both fit": [True, True]}.get(mode, [False, False])
    assert pruned.patcher.model.model_lowvram == (not whole[1])


@pytest.mark.parametrize("mode", MODES)
def test_lora_in_turn(prune, card, mode):
    """Weights are patched and rounded while loaded, or, where they stay behind, patched at each use, unrounded."""
    card(*MODES[mode])
    rounded = mode in ("one fits", "both fit")
    dense = on_card()
    first, second = make_lora(dense, ALL, seed=1), make_lora(dense, ALL, seed=2)
    pruned = prune(with_lora(dense, first), SKIP, REUSE).clip
    clips = [
        (pruned, wanted(first, rounded=rounded)),
        (with_lora(dense, second), dense_wanted(second, rounded=rounded)),
        (with_lora(pruned, second), wanted(first, second, rounded=rounded)),
        (dense, dense_wanted()),
    ]
    for clip, right in clips * 2:
        assert torch.allclose(encode(clip), right, rtol=0, atol=0 if rounded else 2e-4)


def test_lora_per_use_is_that_of_the_dense(prune, card):
    """With no memory at all, each weight is patched when it is used, dense and pruned alike."""
    card(*MODES["novram"])
    dense = on_card()
    lora = make_lora(dense, ALL)
    right = steps.while_loaded(with_lora(on_card(), lora))
    assert torch.equal(encode(prune(with_lora(dense, lora), SKIP, REUSE).clip), right)
    assert torch.equal(encode(with_lora(prune(dense, SKIP, REUSE).clip, lora)), right)
    assert not torch.equal(right, wanted(lora))


@pytest.mark.parametrize("mode", ["novram", "lowvram", "both fit"])
def test_a_clip_text_model(prune, card, mode):
    card(*MODES[mode])
    dense, cut = on_card(sd1_clip), ((5, 0, 3), {5: 7, 0: 2}, "clip_l")
    before, right = encode(sd1_clip()), encode(prune(sd1_clip(), *cut).clip)
    pruned = prune(dense, *cut).clip
    for _ in range(2):
        assert torch.equal(encode(pruned), right)
        assert torch.equal(encode(dense), before)


# --- storages ----------------------------------------------------------------------------------------------


def common(first, second):
    """Names of the parameters that two CLIPs hold in the same memory."""
    ours, theirs = pointers(first.patcher.model), pointers(second.patcher.model)
    return {name for name in ours if ours[name] == theirs.get(name)}


@pytest.mark.parametrize(
    "load, offload, hooked, shared",
    [
        (GPU, CPU, False, True),
        (GPU, CPU, True, False),
        (CPU, CPU, False, False),  # --cpu, or a loader with device: cpu
        (CPU, CPU, True, False),
        (GPU, GPU, False, False),  # --gpu-only
    ],
)
def test_storages_are_shared_only_where_nothing_is_written_in_place(prune, load, offload, hooked, shared):
    dense = pixart_clip(load_device=load, offload_device=offload)
    source = with_hooks(dense, hook(make_lora(dense, ALL))) if hooked else dense
    patched = prune(source, SKIP, REUSE)
    assert patched.shared == shared
    assert common(patched.clip, dense) == (set(pointers(patched.clip.patcher.model)) if shared else set())
    assert torch.equal(encode(dense), dense_wanted())


@pytest.mark.parametrize(
    "load, words",
    [
        (CPU, "kept weights are copies, because this encoder runs where it is stored. While .*both take {} GB"),
        (GPU, "share their storages until the pruned one has been on the GPU once; .*RAM holds up to {} GB"),
    ],
)
def test_the_report_says_how_much_both_take(prune, pack, load, words):
    """The dense and the kept bytes together, counted in the tensors of both once nothing is shared any more."""
    dense = pixart_clip(load_device=load, offload_device=CPU)
    patched = prune(dense, SKIP, REUSE)
    pruned = patched.clip
    encode(pruned)
    pruned.patcher.detach()
    assert not common(pruned, dense)
    both = sum(t.nbytes for clip in (dense, pruned) for t in clip.patcher.model.state_dict().values())
    report = pack("nodes.comfy_host.report.reporting").report_of(patched, 0.01)
    assert re.search(words.format(f"{both / 1e9:.3f}") + rf" \({both:,} bytes\)", report), report


def test_storages_part_after_a_round_trip_to_the_card(prune, card):
    card(*MODES["both fit"])
    dense = on_card()
    pruned = prune(dense, SKIP, REUSE).clip
    assert common(pruned, dense)
    encode(pruned)
    pruned.patcher.detach()
    assert not common(pruned, dense)
    assert torch.equal(encode(dense), dense_wanted())
    assert torch.equal(encode(pruned), wanted())


@pytest.mark.parametrize("gone", ["dense", "pruned"])
def test_unloading_one_leaves_the_other(prune, card, gone):
    card(*MODES["both fit"])
    dense = on_card()
    pruned = prune(dense, SKIP, REUSE).clip
    encode(dense), encode(pruned)
    (dense if gone == "dense" else pruned).patcher.detach()
    for _ in range(2):
        assert torch.equal(encode(dense), dense_wanted())
        assert torch.equal(encode(pruned), wanted())


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("on", ["dense", "pruned"])
def test_hooks_under_every_mode(prune, card, mode, on):
    """Where weights stay behind, hooks write into memory that dense and pruned may both use."""
    card(*MODES[mode])
    dense = on_card()
    lora = make_lora(dense, ALL)
    pruned = prune(dense, SKIP, REUSE).clip
    hooked = with_hooks(dense if on == "dense" else pruned, hook(lora))
    right = dense_wanted(lora) if on == "dense" else wanted(lora)
    for _ in range(2):
        assert torch.equal(encode(hooked), right)
        assert torch.equal(encode(pruned), wanted())
        assert torch.equal(encode(hooked), right)
        assert torch.equal(encode(dense), dense_wanted())


def test_hooks_set_on_the_dense_before_the_storages_are_shared(prune, card):
    card(*MODES["novram"])
    dense = on_card()
    lora = make_lora(dense, ALL)
    hooked = with_hooks(dense, hook(lora))
    pruned = prune(dense, SKIP, REUSE).clip
    for _ in range(2):
        assert torch.equal(encode(hooked), dense_wanted(lora))
        assert torch.equal(encode(pruned), wanted())
