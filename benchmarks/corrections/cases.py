"""Which cells there are, and in what order they are measured: what matters most comes first."""

from dataclasses import dataclass, replace

from benchmarks.tables.plans import key_of

__all__ = ["CURVE", "DRAWS", "PICTURED", "TARGETS", "WAYS", "Case", "cases"]

DRAWS = 3
TARGETS = (0.42, 0.62, 0.50, 0.33, 0.25, 0.55)
WAYS = ("plain", "bias", "bridge", "next", "all", "bridge, all")
# Where pictures are drawn, and of what: by draw. What 33 % is as published is one of the targets' references.
PICTURED = {
    0: ((0.42, "plain"), (0.42, "bridge, all"), (0.62, "plain"), (0.62, "bridge, all"), (0.50, "bridge, all"),
        (0.33, "plain")),
    **dict.fromkeys((1, 2), ((0.42, "bridge, all"), (0.62, "bridge, all"), (0.50, "bridge, all"), (0.33, "plain"))),
}  # fmt: skip
# Captions to fit on, of the curve that shows overfitting.
CURVE = (50, 100, 200, 600, 1500, 5000)
CURVE_AT = (0.42, "bridge, all")


@dataclass(frozen=True)
class Case:
    """The plan of a draw's search near `target`, made better in one of WAYS; `fit` captions where not as usual."""

    draw: int
    target: float
    way: str
    pictures: bool = False
    fit: int | None = None

    @property
    def name(self) -> str:
        """Of its cell."""
        curve = "" if self.fit is None else f"/{self.fit}"
        return f"{self.draw}/{key_of(self.target)}/{self.way}{curve}"


def cases(targets=TARGETS, draws: int = DRAWS, pictures: bool = True, curve: bool = True) -> list[Case]:
    """All cells but the dense pipeline's: those with pictures, then those without, then the curve."""
    everything = [Case(draw, target, way) for draw in range(draws) for target in targets for way in WAYS]
    wanted = [Case(draw, target, way) for draw, some in PICTURED.items() for target, way in some] if pictures else []
    drawn = [one for one in wanted if one in everything]
    rest = [one for one in everything if one not in drawn]
    target, way = CURVE_AT
    counts = CURVE if curve and target in targets else ()
    return [replace(one, pictures=True) for one in drawn] + rest + [Case(0, target, way, fit=one) for one in counts]
