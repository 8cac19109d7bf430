"""Which cells there are, and in what order they are measured: what matters most comes first."""

from dataclasses import dataclass

__all__ = ["RANDOM", "TARGETS", "WAYS", "Case", "cases"]

TARGETS = (0.3, 0.2, 0.4, 0.1)
RANDOM = 3
# How a plan is made better: (which kept output matrices are re-fitted, what stands at removed places).
WAYS = {
    "plain": None,
    "bias": ("none", "bias"),
    "bridge": ("none", "bridge"),
    "next": ("next", "nothing"),
    "all": ("all", "nothing"),
    "bridge, next": ("next", "bridge"),
    "bridge, all": ("all", "bridge"),
}
# (where the plan comes from, how it is corrected), most important first.
PAIRS = (
    ("paper", "plain"), ("stand-ins", "bridge, next"), ("paper", "bridge, next"), ("stand-ins", "bridge, all"),
    ("paper", "next"), ("paper", "bridge"), ("paper", "bias"), ("shortgpt", "plain"),
    *((f"random {seed}", "plain") for seed in range(RANDOM)), ("paper", "all"), ("paper", "bridge, all"),
    ("stand-ins", "plain"), ("stand-ins", "bridge"), ("shortgpt", "bridge, next"), ("random 0", "bridge, next"),
)  # fmt: skip
# Of the other sizes only what the comparison needs.
SHORT = 8


@dataclass(frozen=True)
class Case:
    """The plan of `source` near `target` of the live layers' parameters, in one of WAYS, on the model in `slot`."""

    slot: str
    target: float
    source: str
    way: str

    @property
    def name(self) -> str:
        """Of its cell."""
        return f"{self.slot}/{100 * self.target:.0f}/{self.source}/{self.way}"


def cases(slots, targets=TARGETS) -> list[Case]:
    """All cells: the largest of what is to be shown on every model, then the rest of that size, then other sizes."""
    first, *others = targets
    found = []
    for pairs in (PAIRS[:SHORT], PAIRS[SHORT:]):
        found += [Case(slot, first, *pair) for slot in slots for pair in pairs]
    found += [Case(slot, target, *pair) for target in others for slot in slots for pair in PAIRS[:SHORT]]
    return found
