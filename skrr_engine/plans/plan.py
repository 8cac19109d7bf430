"""Plans as data: what to skip and re-use, as a ladder of levels. Immutable; `plan_json` reads and writes them."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType

from ..errors import PlanError
from .architecture import Architecture, kind_of

__all__ = ["Cut", "EncoderInfo", "Level", "Plan", "SideFileNote", "make_cut", "make_level"]

ROUNDING = 5e-5
# A card that says "42 % smaller" of 41.92 %: half a percentage point, what rounding to whole ones adds at most.
WHOLE_PERCENT = 5e-3


@dataclass(frozen=True)
class Cut:
    """What one level does to one encoder: `skip` in the order of removal (Algorithm 2 depends on it) and
    `reuse` as (place, source) pairs in ascending order of place."""

    skip: tuple[int, ...]
    reuse: tuple[tuple[int, int], ...] = ()

    @property
    def reuse_map(self) -> dict[int, int]:
        """place -> source."""
        return dict(self.reuse)

    def check(self, count: int) -> None:
        """Raises PlanError unless the cut is sound for an encoder of `count` sub-blocks."""
        for i in self.skip:
            if not 0 <= i < count:
                raise PlanError(f"Skips sub-block {i}, but the encoder has sub-blocks 0 to {count - 1}.")
        if len(set(self.skip)) != len(self.skip):
            raise PlanError(f"Skips a sub-block twice: {list(self.skip)}; each index may stand once.")
        skipped = set(self.skip)
        if len(dict(self.reuse)) != len(self.reuse):
            raise PlanError("Re-uses two sub-blocks in one place; each place takes one source.")
        for place, source in self.reuse:
            if not 0 <= source < count:
                raise PlanError(f"Re-uses sub-block {source}, but the encoder has sub-blocks 0 to {count - 1}.")
            if place not in skipped:
                raise PlanError(f"Re-uses {source} in place {place}, but {place} is not skipped.")
            if source in skipped:
                raise PlanError(f"Re-uses {source} in place {place}, but {source} is itself skipped.")
            if kind_of(place) != kind_of(source):
                raise PlanError(
                    f"Re-uses {source} ({kind_of(source)}) in place {place} ({kind_of(place)}); "
                    "a source must be of the same kind (both even or both odd)."
                )


def make_cut(skip, reuse: Mapping[int, int] | None = None) -> Cut:
    """A Cut from any iterables."""
    return Cut(tuple(skip), tuple(sorted((reuse or {}).items())))


@dataclass(frozen=True)
class EncoderInfo:
    """The encoder a plan is for: its architecture and, where known, a sketch of its weights (see `sketch`)."""

    architecture: Architecture
    weights_sketch: tuple[float, ...] = ()


@dataclass(frozen=True)
class SideFileNote:
    """The corrections that a level cannot do without: the SHA-256 of their side file, and by slot the digest of the
    weights that they were fitted on (see `corrections/`)."""

    file: str
    weights: Mapping[str, str]


@dataclass(frozen=True)
class Level:
    """One rung: a cut for each encoder slot, its size, and its discrepancy if it was measured.

    With `corrections` the level is never to be applied without them: what `discrepancy` says holds with them alone.
    `sparsity` is `removed_parameters` ÷ all parameters of the plan's encoders. `discrepancy` is the dict of
    `Discrepancy.to_json()`, or None ("not measured", as for published orders).
    """

    cuts: Mapping[str, Cut]
    removed_parameters: int
    sparsity: float
    discrepancy: Mapping[str, float] | None = None
    corrections: SideFileNote | None = None


def make_level(
    encoders: Mapping[str, EncoderInfo],
    cuts: Mapping[str, Cut],
    discrepancy=None,
    corrections: SideFileNote | None = None,
) -> Level:
    """The level of `cuts`, checked against the encoders' shapes, its size computed from them."""
    for slot, cut in cuts.items():
        if slot not in encoders:
            raise PlanError(f"A level cuts encoder {slot!r}, but the plan is for {', '.join(sorted(encoders))}.")
        cut.check(encoders[slot].architecture.sub_blocks)
    for slot in corrections.weights if corrections else ():
        if slot not in cuts:
            raise PlanError(f"A level corrects encoder {slot!r}, but cuts {', '.join(sorted(cuts)) or 'none'}.")
    removed = sum(encoders[slot].architecture.parameters_of(cut.skip) for slot, cut in cuts.items())
    total = sum(info.architecture.total_parameters for info in encoders.values())
    return Level(MappingProxyType(dict(cuts)), removed, removed / total, discrepancy, corrections)


@dataclass(frozen=True)
class Plan:
    """A ladder of levels for one or more encoders, in ascending order of sparsity.

    `denoiser`, `calibration` and `search` are flat records of where the plan comes from, for people and for
    warnings. `notes` are sentences for people.
    """

    name: str
    encoders: Mapping[str, EncoderInfo]
    levels: tuple[Level, ...]
    notes: tuple[str, ...] = ()
    denoiser: Mapping = field(default_factory=dict)
    calibration: Mapping = field(default_factory=dict)
    search: Mapping = field(default_factory=dict)

    def __post_init__(self):
        if not self.levels:
            raise PlanError(f"Plan {self.name!r} has no levels; a plan needs at least one.")
        ordered = tuple(sorted(self.levels, key=lambda level: level.sparsity))
        object.__setattr__(self, "levels", ordered)

    def level_for(self, sparsity: float) -> Level:
        """The smallest level with at least `sparsity` (0 to 1); among equals the lowest discrepancy.

        A target beyond the largest level by what rounding to whole percentages adds gets that level: see
        `reaches`. Raises PlanError naming the most the plan offers when no level reaches it.
        """
        # People read and type rounded percentages: 43.16 % is the level of 43.158 %.
        reached = [level for level in self.levels if self.reaches(level, sparsity)]
        if not reached and sparsity <= self.levels[-1].sparsity + WHOLE_PERCENT + 1e-9:
            reached = [level for level in self.levels if level.sparsity == self.levels[-1].sparsity]
        if not reached:
            raise PlanError(
                f"A sparsity of {100 * sparsity:.2f} % cannot be reached with plan {self.name!r}: "
                f"its largest level is {100 * self.levels[-1].sparsity:.2f} %. Ask for that or less."
            )
        return min(reached, key=lambda level: (level.sparsity, (level.discrepancy or {}).get("value", 0.0)))

    @staticmethod
    def reaches(level: Level, sparsity: float) -> bool:
        """Whether `level` is what people mean by `sparsity`, in hundredths of a percent."""
        return level.sparsity >= sparsity - ROUNDING

    def with_levels(self, levels, **changes) -> "Plan":
        """This plan with other levels and fields."""
        return replace(self, levels=tuple(levels), **changes)
