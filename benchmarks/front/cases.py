"""Which cells there are, and in what order they are measured: what matters most comes first."""

from dataclasses import dataclass, replace

from benchmarks.corrections.cases import DRAWS
from benchmarks.front.formats import FORMATS
from benchmarks.tables.plans import key_of

__all__ = ["BEST", "DENSE", "TARGETS", "WAYS", "Case", "cases", "drawn_elsewhere"]

TARGETS = (0.25, 0.33, 0.42, 0.50, 0.62)
# The corrections of most use, and those that need not a byte beside the encoder.
BEST, REFIT = "bridge, all", "all"
WAYS = ("plain", BEST, REFIT)


@dataclass(frozen=True)
class Case:
    """The encoder stored as `stored`: dense where there is no target, else under the plan of a draw's search near
    `target`, corrected in one of WAYS."""

    stored: str
    target: float | None = None
    way: str = "plain"
    draw: int = 0
    pictures: bool = False

    @property
    def name(self) -> str:
        """Of its cell."""
        return f"dense/{self.stored}" if self.target is None else f"{self.draw}/{self.plan}/{self.stored}"

    @property
    def plan(self) -> str:
        """What is done to the encoder before it is stored."""
        return "dense" if self.target is None else f"{key_of(self.target)}/{self.way}"


DENSE = Case("fp16", pictures=True)
# With pictures, and measured first.
FIRST = (
    DENSE, Case("Q4_0"), Case("Q4_0", 0.42, BEST), Case("3 bit"), Case("2 bit"),
    Case("fp16", 0.42), Case("fp16", 0.42, BEST), Case("3 bit", 0.42, BEST), Case("Q4_0", 0.62, BEST),
    Case("Q4_0", 0.42), Case("Q4_0", 0.25, BEST), Case("2 bit", 0.42, BEST), Case("Q8_0"), Case("fp8 scaled"),
    Case("2 bit", 0.25, BEST), Case("Q4_0", 0.50, BEST), Case("Q4_0", 0.33, BEST), Case("Q4_0", 0.25),
    Case("3 bit", 0.25, BEST), Case("Q4_0", 0.42, REFIT), Case("fp8 scaled", 0.42, BEST), Case("3 bit", 0.42),
    Case("Q4_0", 0.62), Case("3 bit", 0.62, BEST), Case("4 bit"), Case("nvfp4"), Case("Q5_0"), Case("int8"),
)  # fmt: skip


def cases(targets=TARGETS, formats=tuple(FORMATS), pictures: bool = True) -> list[Case]:
    """All cells, what matters most first: those with pictures, then those of one fit together."""
    first = [replace(case, pictures=pictures) for case in FIRST]
    first = [one for one in first if one.stored in formats and (one.target is None or one.target in targets)]
    done = {one.name for one in first}
    rest = [Case(stored) for stored in formats]
    rest += [Case(stored, target, way) for target in targets for way in WAYS for stored in formats]
    return first + [one for one in rest if one.name not in done]


def drawn_elsewhere() -> list[Case]:
    """All that benchmarks.corrections may have drawn: fp16, every draw."""
    return [Case("fp16", target, way, draw) for draw in range(DRAWS) for target in TARGETS for way in WAYS]
