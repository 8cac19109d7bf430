"""An encoder's shape: what counts as another one, and what its parts come to."""

from dataclasses import fields, replace

import pytest

from skrr_engine.plans.architecture import T5_XXL

CLIP = replace(T5_XXL, family="clip", position_bias="absolute", positions=77, gated=False, projection=768)


@pytest.mark.parametrize("name", [field.name for field in fields(T5_XXL) if field.name != "projection"])
def test_every_field_makes_a_difference_that_is_named(name):
    value = getattr(T5_XXL, name)
    others = {"family": "clip", "activation": "relu", "position_bias": "every", "gated": False}
    other = replace(T5_XXL, **{name: others[name] if name in others else value + 1})
    (said,) = T5_XXL.differences(other)
    assert said == f"{name.replace('_', ' ')} {value} -> {getattr(other, name)}"


def test_the_projection_behind_the_encoder_makes_none():
    """A file may lack it: a plan removes nothing of it."""
    assert CLIP.differences(replace(CLIP, projection=0)) == [] == CLIP.differences(CLIP)
