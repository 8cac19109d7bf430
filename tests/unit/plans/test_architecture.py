"""An encoder's shape: what counts as another one, and what its parts come to."""

from dataclasses import fields, replace

import pytest

from skrr_engine.errors import PlanError
from skrr_engine.plans.architecture import LANGUAGE_FIELDS, T5_XXL, Architecture

QWEN3 = Architecture(
    "llama", 36, 2560, 9728, 32, 128, 151936, "silu", True, "rotary", 0, key_heads=8, head_norms=True, beside=2560
)
GEMMA = replace(QWEN3, activation="gelu_tanh", head_norms=False, post_norms=True)
CLIP = replace(T5_XXL, family="clip", position_bias="absolute", positions=77, gated=False, projection=768)


OF_ALL = [field.name for field in fields(T5_XXL) if field.name not in ("projection", *LANGUAGE_FIELDS)]


@pytest.mark.parametrize("name", OF_ALL)
def test_every_field_makes_a_difference_that_is_named(name):
    value = getattr(T5_XXL, name)
    others = {"family": "clip", "activation": "relu", "position_bias": "every", "gated": False}
    other = replace(T5_XXL, **{name: others[name] if name in others else value + 1})
    (said,) = T5_XXL.differences(other)
    assert said == f"{name.replace('_', ' ')} {value} -> {getattr(other, name)}"


def test_the_projection_behind_the_encoder_makes_none():
    """A file may lack it: a plan removes nothing of it."""
    assert CLIP.differences(replace(CLIP, projection=0)) == [] == CLIP.differences(CLIP)


@pytest.mark.parametrize("name, other", [("key_heads", 4), ("attention_bias", True), ("head_norms", False),
                                         ("post_norms", True)])  # fmt: skip
def test_what_only_language_models_have_makes_a_difference_too(name, other):
    (said,) = QWEN3.differences(replace(QWEN3, **{name: other}))
    assert said == f"{name.replace('_', ' ')} {getattr(QWEN3, name)} -> {other}"
    assert QWEN3.differences(replace(QWEN3, beside=0)) == []  # files differ in heads and towers


def test_parameters_of_a_language_model():
    """Qwen3-4B has 4,022,468,096 parameters; a layer of Qwen2.5-7B has biases, one of Gemma two norms a sub-block."""
    assert QWEN3.total_parameters == 4_022_468_096
    assert QWEN3.attention_parameters == 2560 * 128 * (2 * 32 + 2 * 8) + 2 * 128 + 2560
    assert replace(QWEN3, attention_bias=True).attention_parameters - QWEN3.attention_parameters == 128 * 48
    assert GEMMA.feed_forward_parameters == 3 * 2560 * 9728 + 2 * 2560


def test_a_plan_for_another_kind_says_nothing_of_language_models():
    assert not set(LANGUAGE_FIELDS) & set(T5_XXL.to_json()) and set(LANGUAGE_FIELDS) <= set(QWEN3.to_json())


WRONG = {
    "a table": ({"positions": 32}, "positions is 32; expected 0"),
    "a bias of T5": ({"position_bias": "first"}, "that of a language model is 'rotary'"),
    "no gate": ({"gated": False}, "gated is false"),
    "groups that are not whole": ({"key_heads": 5}, "key_heads is 5, which 32 heads cannot share"),
    "no key heads": ({"key_heads": 0}, "key_heads is 0; expected 1 to 32"),
    "more beside than there can be": ({"beside": 1 << 41}, "beside is .*; expected 0 to"),
}


@pytest.mark.parametrize("change, sentence", WRONG.values(), ids=WRONG.keys())
def test_a_language_model_that_cannot_be_is_refused(change, sentence):
    with pytest.raises(PlanError, match=sentence):
        replace(QWEN3, **change)


@pytest.mark.parametrize("shape, name", [
    (QWEN3, "Qwen3 "), (GEMMA, "Gemma 2 "), (replace(GEMMA, head_norms=True), "Gemma 3 "),
    (replace(QWEN3, head_norms=False), "Llama or Mistral "),
    (replace(QWEN3, head_norms=False, attention_bias=True), "Qwen2.5 "), (T5_XXL, "T5 "), (CLIP, "CLIP "),
])  # fmt: skip
def test_people_read_a_name_they_know(shape, name):
    assert shape.describe().startswith(name)
    assert ("32 heads over 8" in shape.describe()) == (shape.family == "llama")
