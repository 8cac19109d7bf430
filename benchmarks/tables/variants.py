"""What can be done to the small pipeline before it draws: skip and re-use, move matrices, set weights to zero."""

import copy
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace

from skrr_engine.baselines.laco import merged_state
from skrr_engine.baselines.magnitude import prune_magnitude
from skrr_engine.baselines.rebuilt import rebuild, state_of
from skrr_engine.demo.pipeline import Pipeline
from skrr_engine.measure.execute import Assignment, assign

__all__ = ["Variant", "vary"]


@dataclass(frozen=True)
class Variant:
    """One encoder (or pipeline) to measure. `order` and `reuse` (place, source) as in a plan; `sources` are LaCo's
    moved blocks; `encoder_zeros` and `denoiser_zeros` the fractions of magnitude pruning. `empty` draws the null
    caption in place of every caption, `other_noise` draws with other seeds: both are floors to compare with."""

    order: tuple[int, ...] = ()
    reuse: tuple[tuple[int, int], ...] = ()
    sources: tuple[int, ...] = ()
    encoder_zeros: float = 0.0
    denoiser_zeros: float = 0.0
    empty: bool = False
    other_noise: bool = False

    def to_json(self) -> dict:
        """The fields that say something."""
        usual = Variant()
        found = {name: value for name, value in asdict(self).items() if value != getattr(usual, name)}
        return {name: _lists(value) for name, value in found.items()}

    @classmethod
    def from_json(cls, found: Mapping) -> "Variant":
        """The variant of `to_json`, also behind JSON."""
        known = {field.name for field in fields(cls)}
        return cls(**{name: _tuples(value) for name, value in found.items() if name in known})


def _lists(value):
    return [_lists(part) for part in value] if isinstance(value, tuple | list) else value


def _tuples(value):
    return tuple(_tuples(part) for part in value) if isinstance(value, tuple | list) else value


def vary(pipeline: Pipeline, variant: Variant) -> tuple[Pipeline, Assignment]:
    """`pipeline` with other weights where the variant asks for them (a shallow copy, nothing is written into), and
    what runs in each place of its encoder."""
    stack = pipeline.encoder.stack
    changed = copy.copy(pipeline)
    if variant.sources:
        stack = rebuild(stack, merged_state(state_of(stack), stack.architecture, variant.sources))
    if variant.encoder_zeros:
        stack = rebuild(stack, prune_magnitude(state_of(stack), variant.encoder_zeros).state)
    if variant.denoiser_zeros:
        changed.denoiser = copy.deepcopy(pipeline.denoiser)
        pruned = prune_magnitude(pipeline.denoiser.state_dict(), variant.denoiser_zeros)
        changed.denoiser.load_state_dict(pruned.state)
    changed.encoder = replace(pipeline.encoder, stack=stack)
    return changed, assign(len(stack.subblocks), variant.order, dict(variant.reuse))
