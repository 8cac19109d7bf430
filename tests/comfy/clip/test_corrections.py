"""Corrections on a CLIP: what it gives is what the engine computes, and nothing is ever half applied."""

import functools

import pytest
import torch

from .. import steps
from ..corrected import REUSE, corrected_clip, corrected_plan, made_up, other_weights, wanted_with
from ..dynamic_vram import simulate, use_plain_patchers, wide_clip
from ..formats import FORMATS, PLAIN, make_clip, pointers
from ..steps import SKIP, encode, hook, make_lora, with_hooks, with_lora
from ..tiny_models import flux_clip, pixart_clip, sd1_clip

ALL = range(12)
GPU = {"load_device": torch.device("cpu:0"), "offload_device": torch.device("cpu")}


@pytest.fixture(scope="module")
def correct(pack):
    return functools.partial(corrected_clip, pack)


@pytest.fixture(scope="module")
def corrections(pack):
    return functools.partial(made_up, pack)


def near(found, wanted, most=1e-4):
    """Equal up to rounding: the engine adds in another order."""
    return (found - wanted).norm() <= most * wanted.norm()


@pytest.mark.parametrize("name, where", [("fp16", {}), *((name, GPU) for name in FORMATS)])
def test_every_format_gives_what_the_engine_computes(correct, corrections, pack, tmp_path, name, where):
    dense = make_clip(name, tmp_path, **where)[0]
    one, before = corrections(dense), encode(dense)
    wanted = wanted_with(pack, dense, one)["sequence"]
    patched = correct(dense, one)
    check_storages(patched, dense, one, name)
    plain = steps.prune(pack, dense, SKIP, REUSE).clip
    grown = patched.clip_bytes[1] - plain.patcher.model_size() - one.extra_bytes
    assert grown == 0 if name in ("fp16", "bf16", "fp32") else grown > 0
    for _ in range(2):
        # bfloat16 has fewer digits than the half precision of the side file.
        assert near(encode(patched.clip), wanted, 1e-2 if name == "bf16" else 1e-4)
        assert torch.equal(encode(dense), before)
    assert not near(wanted, encode(plain), 0.1) and not near(wanted, before, 0.1)


def check_storages(patched, dense, one, name):
    """Only re-fitted matrices are stored anew, in the width of the file or, of quantised ones, in half precision."""
    import comfy.model_management as mm

    ours, theirs = pointers(patched.clip.patcher.model), pointers(dense.patcher.model)
    fitted = {steps.place_of(key) for key in ours if key in theirs and ours[key] != theirs[key]}
    if patched.shared:
        assert fitted - {None} == set(one.matrices)
    tree = patched.clip.patcher.model
    added = sum(p.nbytes for key, p in tree.named_parameters() if ".added." in key)
    assert added == one.extra_bytes
    widths = {
        steps.weight_of(tree, key).dtype
        for key in steps.matrices(tree, one.matrices)
        if key.endswith((".o.weight", ".wo.weight"))
    }
    assert widths == {PLAIN[name] if name in PLAIN and name != "fp8" else torch.float16}
    assert patched.clip_bytes[1] == mm.module_size(tree) == patched.clip.patcher.model_size()


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("name", ["fp16", "fp32"])
def test_a_lora_adds_to_what_was_fitted(correct, corrections, pack, name, when):
    make = functools.partial(pixart_clip, dtype=PLAIN[name])
    dense = make()
    one, lora = corrections(dense), make_lora(dense, ALL)
    if when == "after":
        styled = with_lora(correct(dense, one).clip, lora)
    else:
        source = with_lora(dense, lora)
        encode(source)  # Skrr Apply finds it loaded, with the LoRA in its weights
        styled = correct(source, one).clip
    private = correct(make(), one).clip
    steps.edit(private, lora)
    wanted = encode(private)
    assert torch.equal(encode(styled), wanted)
    assert not near(wanted, encode(correct(make(), one).clip), 0.05)


@pytest.mark.parametrize("skip, reuse", [((5, 0, 3), {0: 2}), ((2,), {})])
def test_a_clip_text_model(correct, corrections, pack, skip, reuse):
    dense = sd1_clip()
    one = corrections(dense, "clip_l", skip, reuse, matrices=(4, 6, 7))
    wanted = wanted_with(pack, sd1_clip(), one, "clip_l")["sequence"]
    before = encode(dense)
    found = encode(correct(dense, one, "clip_l").clip)
    assert near(found, wanted) and not near(found, before, 0.05)
    assert not near(found, encode(steps.prune(pack, sd1_clip(), skip, reuse, "clip_l").clip), 0.05)
    assert torch.equal(encode(dense), before)


def test_encoder_after_encoder(correct, corrections, pack):
    """FLUX's pair, each with a plan and corrections of its own: two Skrr Apply one behind the other."""
    one = corrections(flux_clip())
    other = corrections(flux_clip(), "clip_l", (5, 3), {}, matrices=(4, 6))
    for first, second in ((("t5xxl", one), ("clip_l", other)), (("clip_l", other), ("t5xxl", one))):
        half = correct(flux_clip(), first[1], first[0]).clip
        both = correct(half, second[1], second[0]).clip
        ((sequence, more),) = both.encode_from_tokens_scheduled(both.tokenize(steps.TEXT))
        assert near(sequence, wanted_with(pack, flux_clip(), one)["sequence"])
        assert near(more["pooled_output"], wanted_with(pack, flux_clip(), other, "clip_l")["pooled"])


def test_clones_and_hooks(correct, corrections):
    dense = pixart_clip()
    one, lora = corrections(dense), make_lora(dense, ALL)
    pruned = correct(dense, one).clip
    found, before = encode(pruned), encode(dense)
    assert torch.equal(encode(pruned.clone()), found)
    styled, wanted = with_hooks(pruned, hook(lora)), encode(with_lora(pruned, lora))
    assert near(encode(styled), wanted, 1e-3) and not near(wanted, found, 0.05)
    assert torch.equal(encode(pruned), found) and torch.equal(encode(dense), before)


def test_what_is_read_of_nothing_may_go_too(correct, corrections, pack):
    """Free parts are taken out of a corrected CLIP as of any other."""
    pruned = correct(pixart_clip(), corrections(pixart_clip())).clip
    found = encode(pruned)
    free = pack("nodes.comfy_host.clip.free").find_free(pruned, pictures=False, text_generation=False)
    assert torch.equal(encode(pack("nodes.comfy_host.clip.patching").make_smaller(pruned, free=free).clip), found)


@pytest.mark.parametrize("room", [0, 1 << 30])
def test_dynamic_vram(correct, corrections, pack, monkeypatch, room):
    one = corrections(wide_clip())
    wanted = wanted_with(pack, wide_clip(), one)["sequence"]
    simulate(monkeypatch, room)
    dense = wide_clip()
    before, patched = encode(dense), correct(dense, one)
    assert patched.clip.patcher.is_dynamic() and patched.shared
    for _ in range(2):
        assert near(encode(patched.clip), wanted)
        assert torch.equal(encode(dense), before)


def test_built_anew_it_is_corrected(correct, corrections, monkeypatch):
    """As ComfyUI does it for hooks, torch.compile and several GPUs."""
    simulate(monkeypatch, 1 << 30)

    def load(seed, disable_dynamic=False):
        with monkeypatch.context() as patch:
            if disable_dynamic:
                use_plain_patchers(patch)
            return wide_clip(seed=seed).patcher

    dense = wide_clip()
    dense.patcher.cached_patcher_init = (load, (0,))
    pruned = correct(dense, corrections(dense)).clip
    found, delegate = encode(pruned), pruned.clone(disable_dynamic=True)
    assert not delegate.patcher.is_dynamic()
    delegate.cond_stage_model = delegate.patcher.model
    assert torch.equal(encode(delegate), found)
    assert delegate.patcher.model_size() == pruned.patcher.model_size()


# --- what is refused, and leaves everything as it was --------------------------------------------------------


def test_never_without_its_corrections(correct, corrections, pack):
    dense, errors = pixart_clip(), pack("skrr_engine.errors")
    one = corrections(dense)
    plan = corrected_plan(pack, one)
    apply = pack("nodes.comfy_host.clip.patching").apply_level
    with pytest.raises(errors.PlanError, match="needs corrections of t5xxl, and those given are of none"):
        apply(dense, plan, plan.levels[0])
    plain = steps.plan_for(pack, dense, SKIP, REUSE)
    with pytest.raises(errors.PlanError, match="needs corrections of no encoder"):
        apply(dense, plain, plain.levels[0], {"t5xxl": one})


def test_other_weights_are_refused(correct, corrections, pack):
    one, other = corrections(pixart_clip()), pixart_clip(seed=3)
    before, error = encode(other), pack("skrr_engine.errors").PlanError
    with pytest.raises(error, match="t5xxl: These corrections were fitted on other weights than"):
        correct(other, one)
    assert torch.equal(encode(other), before)
    with pytest.raises(error, match="fitted on other weights"):
        correct(pixart_clip(), other_weights(one))
    with pytest.raises(error, match="fitted on other weights"):
        correct(pixart_clip(dtype=torch.float8_e4m3fn), one)


def test_corrections_hold_for_one_plan(correct, corrections, pack):
    dense, error = pixart_clip(), pack("skrr_engine.errors").PlanError
    one = corrections(dense)
    with pytest.raises(error, match=r"plan 'corrected', and corrections hold for one plan alone"):
        steps.prune(pack, correct(dense, one).clip, (8,))
    with pytest.raises(error, match=r"plan 'test', and corrections hold for one plan alone"):
        correct(steps.prune(pack, dense, (8,)).clip, one)


def test_the_digest_is_the_engines(pack, corrections):
    """A side file that the command line fitted serves here, where the same file is opened."""
    import transformers

    dense = pixart_clip(dtype=torch.float32)
    tree = dense.cond_stage_model.t5xxl.transformer
    config = transformers.T5Config(
        d_model=64, d_ff=128, d_kv=16, num_heads=4, num_layers=6, vocab_size=32128, is_gated_act=True,
        dense_act_fn="gelu_new", feed_forward_proj="gated-gelu",
    )  # fmt: skip
    model = transformers.T5EncoderModel(config).eval()
    model.load_state_dict(tree.state_dict(), strict=False)
    stack = pack("skrr_engine.encoders.t5").T5Stack(model)
    one = corrections(dense)
    assert one.applied(stack).assignment == one.applied(stack).assignment
