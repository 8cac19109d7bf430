"""Text encoders inside ComfyUI's CLIP objects: one adapter file a kind, found by `adapter_of`.

An adapter module offers:
- `matches(transformer)`: whether this is the class it knows,
- `architecture(transformer)`: the Architecture, read from modules and shapes of an uncut encoder,
- `norms(transformer)`: the norm weight of every sub-block, None where it was cut,
- `parts(transformer, index)`: the modules of sub-block `index` that removing it drops,
- `owned(transformer, index)`: the modules of sub-block `index` with all that it computes with,
- `output(transformer, index)`: where its output matrix is, as (module, name of its linear layer),
- `cut(transformer, skip, reuse, added)`: replaces skipped sub-blocks by stubs, in place, layer shells kept,
- `stack(encoder)`: the encoder as a TextStack for searching (its base: `running`),
- `anatomy(transformer)`: where its parts stand, for taking out what no model reads.

A kind of which only free parts are taken offers `matches` and `anatomy` alone, and says in `WHY_NOT` what it is.
Read `anatomy.py` and `t5.py` first.
"""

from . import clip, gemma4, llama, qwen35, t5, t5gemma

__all__ = ["ADAPTERS", "adapter_of", "anatomy_of", "has_layer", "unknown_kind"]

ADAPTERS = (t5, clip, llama)
KINDS = (*ADAPTERS, qwen35, gemma4, t5gemma)


def adapter_of(transformer):
    """The adapter module that knows `transformer`, or None."""
    return next((adapter for adapter in ADAPTERS if adapter.matches(transformer)), None)


def anatomy_of(transformer):
    """Where the parts of `transformer` stand, or None where no adapter knows it."""
    return next((kind.anatomy(transformer) for kind in KINDS if kind.matches(transformer)), None)


def unknown_kind(transformer) -> str:
    """What an encoder is that no adapter knows, for sentences."""
    known = next((kind for kind in KINDS if kind.matches(transformer)), None)
    return getattr(known, "WHY_NOT", f"a {type(transformer).__name__}, which this pack does not know")


def has_layer(transformer, layer: int) -> bool:
    """Whether `layer` was not taken out whole."""
    anatomy = anatomy_of(transformer)
    return not isinstance(transformer.get_submodule(anatomy.layers)[layer], anatomy.stub)
