"""What a movement of the features costs in pictures: the relation that the engine's words about quality rest on.

lost = factor x moved ^ power, where lost is the share of the dense encoder's score that is gone; weighted least squares
over every encoder that was drawn, pruned, corrected or stored in few bits. The band is twice the root of the mean
square of what is left: what one encoder's score of these pictures strays by, sampling included.
"""

from dataclasses import dataclass

from benchmarks.front.points import Point, dense_of

__all__ = ["Relation", "relation"]

POWERS = [n / 20 for n in range(20, 101)]
FEWEST = 6


@dataclass(frozen=True)
class Relation:
    """`farthest` is the largest movement among the `count` encoders, `strays` what each lost less the curve."""

    factor: float
    power: float
    band: float
    farthest: float
    count: int
    strays: tuple[float, ...]

    def lost(self, moved: float) -> float:
        """The curve."""
        return self.factor * moved**self.power


def relation(found: list[Point]) -> Relation | None:
    """Of all drawn encoders but the dense one; None where there are too few."""
    dense = dense_of(found)
    drawn = [] if dense is None else [point for point in found if point.score is not None and point is not dense]
    if len(drawn) < FEWEST:
        return None
    pairs = [(point.moved, 1 - point.score / dense.score) for point in drawn]
    fits = [(*_factor(pairs, power), power) for power in POWERS]
    _, factor, power = min(fits)
    strays = tuple(lost - factor * moved**power for moved, lost in pairs)
    band = 2 * (sum(one * one for one in strays) / (len(strays) - 2)) ** 0.5
    return Relation(factor, power, band, max(moved for moved, _ in pairs), len(pairs), strays)


def _factor(pairs: list[tuple[float, float]], power: float) -> tuple[float, float]:
    """The sum of squares, and the factor that makes it least."""
    raised = [moved**power for moved, _ in pairs]
    factor = sum(r * lost for r, (_, lost) in zip(raised, pairs, strict=True)) / sum(r * r for r in raised)
    return sum((lost - factor * r) ** 2 for r, (_, lost) in zip(raised, pairs, strict=True)), factor
