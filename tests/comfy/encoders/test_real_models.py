"""Two trained language models that nobody here made, in ComfyUI's own classes: what they hand on is what transformers
hands on, and neither free parts nor the walk change a bit of it."""

import pytest
import torch

from ..free_clips import assert_same, freed
from ..real_models import IDS, MODELS, encoded, models, real_clip


@pytest.fixture(params=MODELS)
def slot(request):
    """One of the models."""
    return request.param


@pytest.fixture
def clip_of(slot):
    """clip_of(**options) -> a CLIP of it."""
    return lambda **more: real_clip(slot, **more)


def test_states_are_those_of_transformers(clip_of, slot):
    clip = clip_of()
    want = transformers_states(slot)
    for tap in (-2, -5, -9):
        chosen = clip.clone()
        chosen.clip_layer(tap)
        found = encoded(chosen, slot)["cond"][0]
        # A token's own length: the first one's is far above all others.
        apart = (found - want[tap]).norm(dim=1) / want[tap].norm(dim=1)
        assert apart.max() < 1e-4, f"state {tap}"
    assert torch.equal(encoded(clip, slot)["attention_mask"], torch.ones(1, len(IDS), dtype=torch.long))


def transformers_states(slot):
    """Every state of transformers' own model, read by its own reader from the same file."""
    from transformers import AutoConfig, AutoModelForCausalLM
    from transformers.modeling_gguf_pytorch_utils import load_gguf_checkpoint

    model = MODELS[slot]
    kind = "llama" if model.names is models.LLAMA else "gemma3_text"
    outside = {"rope_theta", "base"}
    shape = {name: value for name, value in model.config.items() if name not in outside}
    shape |= {"head_dim": model.head_width, "tie_word_embeddings": True}
    if kind == "llama":
        shape["rope_parameters"] = {"rope_theta": model.config["rope_theta"], "rope_type": "default"}
    else:
        shape["sliding_window"] = models.GEMMA_270M["sliding_attention"][0]
    reference = AutoModelForCausalLM.from_config(AutoConfig.for_model(kind, **shape), dtype=torch.float32).eval()
    read = load_gguf_checkpoint(models.find_file(model), return_tensors=True, model_to_load=reference)
    for name, value in read["config"].items():  # what the file says of the model's shape
        if name in model.config or name in shape:
            assert value == pytest.approx({**model.config, **shape}[name], rel=1e-6), name
    missing, unexpected = reference.load_state_dict(read["tensors"], strict=False)
    assert set(missing) <= {"lm_head.weight"} and not unexpected
    reference.tie_weights()
    with torch.inference_mode():
        return [state[0] for state in reference(torch.tensor([IDS]), output_hidden_states=True).hidden_states]


@pytest.mark.parametrize("head", [False, True], ids=["", "head"])
def test_free_parts_change_no_bit(pack, clip_of, slot, head):
    clip = clip_of(lm_head=head)
    dense, patched = encoded(clip, slot), freed(pack, clip, tables=True)
    assert_same(encoded(patched.clip, slot), dense)
    assert_same(encoded(clip, slot), dense)
    assert_same(encoded(patched.clip, slot), dense)
    layers = MODELS[slot].config["num_hidden_layers"]
    parts = {part.kind: part for part in patched.free}
    assert set(parts) == {"layers", "norm", "table", *(["head"] if head else [])}
    assert parts["layers"].kept[:2] == (layers, layers - 1)
    before, after = patched.clip_bytes
    assert before - after == sum(part.size for part in patched.free)


def test_every_tap_stays_when_what_is_behind_it_goes(pack, clip_of, slot):
    clip = clip_of()
    for tap in (-1, -3, -8):
        chosen = clip.clone()
        chosen.clip_layer(tap)
        dense = encoded(chosen, slot)
        patched = freed(pack, chosen)
        assert_same(encoded(patched.clip, slot), dense)
        gone = [len(part.paths) for part in patched.free if part.kind == "layers"]
        assert gone == ([] if tap == -1 else [-tap - 1])


def stack_of(pack, clip, slot):
    """The encoder as the search walks it."""
    pack("nodes.comfy_host.weights.memory").rest(clip.patcher)
    encoder = pack("nodes.comfy_host.clip.trees").text_encoders(clip)[slot]
    return encoder.adapter.stack(encoder)


def walked(pack, stack, skip=(), reuse=None):
    """What that hands out for one row under a plan."""
    execute = pack("skrr_engine.measure.execute")
    stack.prepare()
    batch = pack("skrr_engine.encoders.stack").TokenBatch(torch.tensor([IDS]), (0,), len(IDS), {})
    with torch.inference_mode():
        return execute.encode(stack, execute.assign(len(stack.subblocks), skip, reuse), batch)["sequence"]


@pytest.mark.parametrize("tap", [-2, -1])
def test_the_walk_is_the_models_own(pack, clip_of, slot, tap):
    clip = clip_of()
    clip.clip_layer(tap)
    assert torch.equal(walked(pack, stack_of(pack, clip, slot)), encoded(clip, slot)["cond"])


# Sub-block 10, the attention of layer 5, is Gemma's first global one: in the place of a local one, and the other way.
SKIP, REUSE = (9, 22, 4, 1, 0, 25, 12, 10, 16), {4: 2, 12: 14, 10: 8, 1: 3}


def test_a_plan_runs_as_the_walk_says(pack, clip_of, slot):
    clip = clip_of()
    stack, dense = stack_of(pack, clip, slot), encoded(clip, slot)
    planned = walked(pack, stack, SKIP, REUSE)
    assert not torch.equal(planned, dense["cond"])
    plans = pack("skrr_engine.plans.plan")
    info = {slot: plans.EncoderInfo(stack.architecture, stack.sketch)}
    level = plans.make_level(info, {slot: plans.make_cut(SKIP, REUSE)})
    plan = plans.Plan("made up", info, (level,))
    patched = pack("nodes.comfy_host.clip.patching").apply_level(clip, plan, level)
    assert torch.equal(encoded(patched.clip, slot)["cond"], planned)
    before, after = patched.encoder_bytes[slot]
    assert before - after == sum(stack.subblocks[index].bytes for index in SKIP)
    assert_same(encoded(clip, slot), dense)
