"""Text encoders inside ComfyUI's CLIP objects: one adapter file a kind, found by `kind_of_encoder`.

An adapter module offers:
- `matches(transformer)`: whether this is the class it knows,
- `architecture(transformer)`: the Architecture, read from modules and shapes of an uncut encoder,
- `norms(transformer)`: the norm weight of every sub-block, None where it was cut,
- `parts(transformer, index)`: the modules of sub-block `index` that removing it drops,
- `cut(transformer, skip, reuse)`: replaces skipped sub-blocks by stubs, in place, layer shells kept,
- `stack(encoder)`: the encoder as a TextStack for searching (its base: `running`).

Read `t5.py` first.
"""

from . import clip, t5

__all__ = ["ADAPTERS", "adapter_of"]

ADAPTERS = (t5, clip)


def adapter_of(transformer):
    """The adapter module that knows `transformer`, or None."""
    return next((adapter for adapter in ADAPTERS if adapter.matches(transformer)), None)
