"""Whatever of a CLIP is bound to the dense encoder: never the dense output behind a report of savings."""

import functools

import pytest

from .. import steps
from ..tiny_models import flux_clip


def bound_partial(clip, inner):
    clip.patcher.add_object_patch(
        "t5xxl.encode_token_weights", functools.partial(type(inner).encode_token_weights, inner)
    )


def bound_method(clip, inner):
    clip.patcher.add_object_patch("t5xxl.encode_token_weights", inner.encode_token_weights)


def closure(clip, inner):
    clip.patcher.add_object_patch("t5xxl.encode_token_weights", lambda tokens: inner.encode_token_weights(tokens))


def callable_object(clip, inner):
    class Runs:
        def __init__(self, module):
            self.module = module

        def __call__(self, tokens):
            return self.module.encode_token_weights(tokens)

    clip.patcher.add_object_patch("t5xxl.encode_token_weights", Runs(inner))


def attribute_of_the_clip(clip, inner):
    clip.own_encoder = inner


def option_of_the_patcher(clip, inner):
    clip.patcher.model_options["run_first"] = [inner.encode_token_weights]


@pytest.mark.parametrize(
    "bind", [bound_partial, bound_method, closure, callable_object, attribute_of_the_clip, option_of_the_patcher]
)
def test_a_reference_into_the_dense_tree_is_refused(pack, bind):
    clip = flux_clip()
    bind(clip, clip.patcher.model.t5xxl)
    error = pack("skrr_engine.errors").SkrrError
    with pytest.raises(error, match=r"bound to the dense encoder.*Put Skrr Apply before"):
        steps.prune(pack, clip)


def test_a_patch_of_its_own_is_kept(pack):
    """A patch that holds no module goes along, and the pruned CLIP runs it."""
    clip, calls = flux_clip(), []
    original = type(clip.patcher.model.t5xxl).encode_token_weights

    def counted(module, tokens):
        calls.append(module)
        return original(module, tokens)

    clip.patcher.add_object_patch("t5xxl.counted", counted)
    pruned = steps.prune(pack, clip)
    assert pruned.clip.patcher.object_patches["t5xxl.counted"] is counted
