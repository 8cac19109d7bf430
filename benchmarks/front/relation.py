"""What a change of the features costs in pictures: the relation that the engine's words about quality rest on.

lost = factor x turned ^ power, where lost is the share of the dense encoder's score that is gone, over every encoder
that was drawn here or by benchmarks.tables: pruned by any method, corrected, with small weights set to zero, stored in
few bits. Least squares, weighted by pictures and by 1 / turned², because what strays grows about as `turned` does; the
band is twice the root of the mean square of what strays, as a share of `turned`: sampling is in it.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from benchmarks.front.points import Point, dense_of
from benchmarks.tables.cells import Cells

__all__ = ["TABLES", "Drawn", "Relation", "drawn_encoders", "relation"]

TABLES = Path(__file__).resolve().parents[2] / "docs" / "results" / "tables.json"
POWERS = [n / 20 for n in range(20, 101)]
FEWEST = 6
# Features that turned farther are no longer near each other at all: the curve ends there.
FARTHEST = 1.15
# Variants of tables that change something else than the encoder.
OTHER = {"denoiser_zeros", "empty", "other_noise"}


@dataclass(frozen=True)
class Drawn:
    """One encoder: how far its features moved (by D) and turned (by the cosine), and the share of the score that it
    lost, over so many pictures."""

    name: str
    moved: float
    turned: float
    lost: float
    pictures: int


@dataclass(frozen=True)
class Relation:
    """`strays` is the root of the mean square of what is left, in shares of the score."""

    factor: float
    power: float
    band: float
    strays: float
    farthest: float
    count: int

    def lost(self, changed: float) -> float:
        """The curve."""
        return self.factor * changed**self.power


def drawn_encoders(found: list[Point], tables: Cells | None) -> list[Drawn]:
    """Of the front's cells those that know how far the features turned, and all of the tables'."""
    dense = dense_of(found)
    if dense is None or not dense.score:
        return []
    drawn = [
        Drawn(one.case.name, one.moved, one.found["turned"], 1 - one.score / dense.score, len(one.found["right"]))
        for one in found
        if one.score is not None and "turned" in one.found and one is not dense
    ]
    return drawn + ([] if tables is None else _of_tables(tables, dense.found["power"]))


def _of_tables(tables: Cells, power: float) -> list[Drawn]:
    drawn, dense = [], tables["dense"]["right"]
    for name, cell in tables.cells.items():
        value = cell["value"]
        if not (isinstance(value, dict) and "discrepancy" in value and value.get("right")):
            continue
        if name == "dense" or OTHER & value["variant"].keys():
            continue
        projected, right = value["discrepancy"]["projected"], value["right"]
        score, whole = (_score(part, len(right[0])) for part in (right, dense))
        moved, turned = (projected["value"] / power) ** 0.5, (2 * projected["cosine"]) ** 0.5
        drawn.append(Drawn(f"tables: {name}", moved, turned, 1 - score / whole, sum(map(len, right))))
    return drawn


def _score(right: list[str], each: int) -> float:
    return sum(part[:each].count("1") / each for part in right) / len(right)


def relation(drawn: list[Drawn], by: Callable[[Drawn], float] = lambda one: one.turned) -> Relation | None:
    """Of encoders whose features changed, up to FARTHEST; None where there are too few."""
    drawn = [one for one in drawn if 0 < one.turned <= FARTHEST]
    if len(drawn) < FEWEST:
        return None
    _, factor, power = min((*_factor(drawn, by, power), power) for power in POWERS)
    whole = sum(one.pictures for one in drawn)
    left = [(one, one.lost - factor * by(one) ** power) for one in drawn]
    spread = sum(one.pictures * (stray / by(one)) ** 2 for one, stray in left) / whole
    strays = sum(one.pictures * stray**2 for one, stray in left) / whole
    return Relation(factor, power, 2 * spread**0.5, strays**0.5, max(map(by, drawn)), len(drawn))


def _factor(drawn: list[Drawn], by: Callable[[Drawn], float], power: float) -> tuple[float, float]:
    """The weighted sum of squares, and the factor that makes it least."""
    parts = [(one.pictures / by(one) ** 2, by(one) ** power, one.lost) for one in drawn]
    factor = sum(w * r * lost for w, r, lost in parts) / sum(w * r * r for w, r, _ in parts)
    return sum(w * (lost - factor * r) ** 2 for w, r, lost in parts), factor
