"""A search's results on disk: JSON entries of a checkpoint on one side, candidates and estimates on the other.

Entries keep their keys, so that files of earlier versions stay readable: `outlook` is a candidate's prior, `behind` the
better set that a look back has found, `parts` are relative gaps.
"""

from collections.abc import Callable, Mapping
from typing import NamedTuple

from ..measure.discrepancy import Discrepancy
from ..running.checkpoint import Checkpoint, packed, unpacked
from ..running.prior import Estimate, Prior
from ..search.candidate import Candidate, Order
from ..search.reuse import Pair, Reuse

__all__ = ["Saved", "SavedReuse"]


class SavedReuse(NamedTuple):
    """Re-use for one level: place -> source, and the discrepancy with these pairs as plans record it."""

    pairs: dict[int, int]
    discrepancy: dict


class Saved:
    """The finished levels of one search, numbered from 0, and the re-use found for them."""

    def __init__(self, checkpoint: Checkpoint):
        self.checkpoint = checkpoint

    @property
    def levels(self) -> int:
        """How many levels are finished."""
        return len(self.checkpoint.levels)

    @property
    def over(self) -> bool:
        """Whether the search has ended for good, which one with a limit of time does, at its target or not."""
        return self.checkpoint.over is not None

    def finish(self, prompts: int) -> None:
        """The search has ended for good, on `prompts` prompts: asked again, it is not to go on."""
        self.checkpoint.finish({"prompts": prompts})

    def add_level(
        self, beams: list[Candidate], behind: Candidate | None, gaps: Mapping[int, Estimate], prompts: int
    ) -> None:
        """The next level has kept `beams`, using `prompts` prompts. `behind` is a set of the level before that is
        better than all it kept, if a look back has found one, and `gaps` are the relative gaps it has estimated."""
        entry = {"beams": [_entry(candidate) for candidate in beams], "behind": behind and _entry(behind)}
        self.checkpoint.add_level(entry | {"parts": sorted(gaps.items()), "prompts": prompts})

    def beams(self, level: int) -> list[Candidate]:
        """The sets that `level` has kept, best first."""
        return [_candidate(entry) for entry in self.checkpoint.levels[level]["beams"]]

    def prompts(self, level: int) -> int:
        """How many prompts `level` has used."""
        return self.checkpoint.levels[level]["prompts"]

    def look_back_gaps(self, level: int) -> dict[int, Estimate]:
        """The relative gaps that the look back from `level` has estimated, by the sub-block that was left out."""
        return {out: Estimate(*gap) for out, gap in self.checkpoint.levels[level]["parts"]}

    def rungs(self, reached: Callable[[Order], bool]) -> list[Candidate]:
        """The best set of every level up to the first one whose beam has `reached` the target."""
        rungs: list[Candidate] = []
        for level in range(self.levels):
            best = self.beams(level)[0]
            if reached(best.order):
                return [*rungs, best]
            behind = self.checkpoint.levels[level + 1]["behind"] if level + 1 < self.levels else None
            rungs.append(_candidate(behind) if behind else best)
        return rungs

    def add_reuse(self, level: int, order: Order, found: Reuse) -> None:
        """Re-use for the set `order` of `level` is `found`."""
        entry = {"order": order, "pairs": sorted(found.pairs.items()), "parts": sorted(found.gaps.items())}
        self.checkpoint.add_reuse(level, entry | {"discrepancy": found.discrepancy.to_json()})

    @property
    def levels_with_reuse(self) -> int:
        """For how many levels re-use has been found."""
        return len(self.checkpoint.reuse)

    def reuse(self, level: int, order: Order) -> SavedReuse | None:
        """Re-use for `level`, None if there is none yet. A longer search can have replaced the set that it was found
        for: it counts for the set `order` alone."""
        entry = self.checkpoint.reuse.get(str(level))
        if not entry or tuple(entry["order"]) != order:
            return None
        return SavedReuse(dict(entry["pairs"]), entry["discrepancy"])

    def reuse_gaps(self, level: int) -> dict[Pair, Estimate]:
        """The relative gaps that re-use for `level` has estimated."""
        return {tuple(pair): Estimate(*gap) for pair, gap in self.checkpoint.reuse[str(level)]["parts"]}


def _entry(candidate: Candidate) -> dict:
    errors, prior = candidate.errors, candidate.prior
    return {
        "order": candidate.order,
        "discrepancy": candidate.discrepancy.to_json(),
        "errors": None if errors is None else packed(errors),
        "outlook": None if prior is None else {"gap": prior.gap, "children": packed(prior.children)},
    }


def _candidate(entry: dict) -> Candidate:
    fields = {name: entry["discrepancy"][name] for name in Discrepancy.__dataclass_fields__}
    errors = None if entry["errors"] is None else unpacked(entry["errors"])
    prior = entry["outlook"] and Prior(entry["outlook"]["gap"], unpacked(entry["outlook"]["children"]))
    return Candidate(tuple(entry["order"]), Discrepancy(**fields), errors, prior)
