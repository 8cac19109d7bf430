"""Which cells there are, and in what order they are measured: what matters most comes first."""

from dataclasses import dataclass, replace

from benchmarks.tables.plans import key_of

__all__ = ["BOUND", "CURVE", "DRAWS", "FITTED", "TARGETS", "WAYS", "Case", "cases"]

DRAWS = 3
TARGETS = (0.42, 0.62, 0.50, 0.33, 0.25, 0.55)
# A plan alone, made better, or with Re-use on top; plans without a name before the colon are the fast search's.
FITTED = ("bias", "bridge", "next", "all", "bridge, all", "stand-ins: bridge, all", "random: bridge, all")
WAYS = ("plain", "re-use", *FITTED, "random: plain")
# Captions to fit on, of the curve that shows overfitting.
CURVE = (50, 100, 200, 600, 1500, 5000)
CURVE_AT = (0.42, "bridge, all")


@dataclass(frozen=True)
class Case:
    """A plan of a draw near `target`, taken in one of WAYS; `fit` captions where not as usual."""

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

    @property
    def plan(self) -> str:
        """Whose plan: "search", "stand-ins" or "random"."""
        return self.way.partition(": ")[0] if ": " in self.way else "search"

    @property
    def kind(self) -> str:
        """What is done to it: "plain", "re-use" or a kind of correction."""
        return self.way.rpartition(": ")[2]


# Measured first. Pictures are drawn where True stands; what 33 % is as published is one of the targets' references.
FIRST = (
    Case(0, 0.42, "plain", True), Case(0, 0.42, "bridge, all", True), Case(0, 0.62, "plain", True),
    Case(0, 0.62, "bridge, all", True), Case(0, 0.33, "plain", True), Case(0, 0.50, "bridge, all", True),
    Case(0, 0.50, "plain"), Case(0, 0.33, "bridge, all"), Case(0, 0.42, "all"), Case(0, 0.42, "next"),
    Case(0, 0.42, "bridge"), Case(1, 0.42, "bridge, all", True), Case(1, 0.42, "plain"),
    Case(2, 0.42, "bridge, all", True), Case(2, 0.42, "plain"), Case(0, 0.55, "plain"), Case(0, 0.55, "bridge, all"),
    *(Case(draw, *one) for draw in (1, 2) for one in ((0.33, "plain", True), (0.62, "bridge, all", True))),
    *(Case(draw, 0.50, "bridge, all", True) for draw in (1, 2)),
    *(Case(0, target, "stand-ins: bridge, all", True) for target in (0.50, 0.62)), Case(0, 0.42, "re-use"),
    *(Case(0, 0.42, f"random: {kind}") for kind in ("plain", "bridge, all")),
)  # fmt: skip


# Where the paper's condition for Re-use is held against what Re-use does.
BOUND = Case(0, 0.42, "re-use")


def cases(targets=TARGETS, draws: int = DRAWS, pictures: bool = True, curve: bool = True) -> list[Case]:
    """All cells but the dense pipeline's, what matters most first."""
    everything = [Case(draw, target, way) for draw in range(draws) for target in targets for way in WAYS]
    names = {one.name for one in everything}
    first = [replace(one, pictures=one.pictures and pictures) for one in FIRST if one.name in names]
    done = {one.name for one in first}
    target, way = CURVE_AT
    counts = CURVE if curve and target in targets else ()
    rest = [one for one in everything if one.name not in done]
    return first + rest + [Case(0, target, way, fit=count) for count in counts]
