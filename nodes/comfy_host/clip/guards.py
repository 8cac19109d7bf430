"""What lost parts says so where they would be used: one sentence, never another picture.

All of it are plain functions and data on the modules: copies of a CLIP carry them along.
"""

import inspect

from ....skrr_engine.errors import SkrrError
from ..encoders.anatomy import deepest_read, reads_last

__all__ = ["guard_projection", "guard_states", "refuse_pictures", "refuse_text"]

# The attribute that holds what a guarded module still has.
KEPT = "skrr_kept"
CURE = "Put this setting before Skrr Apply, so that Skrr sees it."


def guard_states(core, layers: int, kept: int, norm: bool) -> None:
    """From now on `core` (see `Anatomy`) refuses to hand out states behind layer `kept`, or normed ones without the
    last norm. Changes `core` in place; may be called again."""
    if not hasattr(core, KEPT):
        core.register_forward_pre_hook(_check_states, with_kwargs=True)
    setattr(core, KEPT, (layers, kept, norm))


def _check_states(core, args, kwargs):
    layers, kept, norm = getattr(core, KEPT)
    asked = inspect.signature(core.forward).bind(*args, **kwargs)
    asked.apply_defaults()
    request = asked.arguments.get("intermediate_output")
    deepest = deepest_read(request, layers)
    if deepest > kept:
        raise SkrrError(
            f"This needs layer {deepest} of the text encoder, and Skrr Apply left {kept} of {layers}: the rest was "
            f"not read when it ran. {CURE}"
        )
    if not norm and (reads_last(request, layers) or asked.arguments.get("final_layer_norm_intermediate", True)):
        raise SkrrError(f"This needs the text encoder's last norm, which was not read when Skrr Apply ran. {CURE}")


def guard_projection(sd_model) -> None:
    """From now on `sd_model` refuses to hand out the projected pooled output. In place; may be called again."""
    if not hasattr(sd_model, KEPT):
        sd_model.register_forward_pre_hook(_check_projection)
        setattr(sd_model, KEPT, True)


def _check_projection(sd_model, args):
    if sd_model.return_projected_pooled and sd_model.options_default[2] is not sd_model.return_projected_pooled:
        raise SkrrError(
            f"This needs the pooled output behind the text encoder's projection, which was not read when Skrr Apply "
            f"ran. {CURE}"
        )


def refuse_text(*args, **kwargs):
    """In the place of an encoder's `generate`."""
    raise SkrrError(
        "This CLIP cannot write text any more: Skrr took out what only that needs. Switch on text_generation in Skrr "
        "Apply or Skrr CLIP Loader."
    )


def refuse_pictures(*args, **kwargs):
    """In the place of an encoder's `preprocess_embed`."""
    raise SkrrError(
        "This CLIP cannot look at pictures any more: Skrr took out the part that only they use. Switch on pictures in "
        "Skrr Apply or Skrr CLIP Loader."
    )
