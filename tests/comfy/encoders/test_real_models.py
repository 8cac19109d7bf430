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
