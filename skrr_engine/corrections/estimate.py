"""What a fit will take, told before it starts: counted from shapes and prompts, nothing is run."""

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch

from ..encoders.stack import TextStack
from ..errors import SkrrError
from ..measure.execute import Assignment, advance, source_of
from ..measure.objective import Objective
from ..precision import STREAM, SUM
from .sites import Settings, places_of
from .statistics import ROWS
from .streams import positions_read

__all__ = ["FitEstimate", "check_budget", "estimate_fit", "measured_rates"]

# Multiply-adds of an eigenvalue decomposition with its vectors, over n³: about nine.
EIGENVECTORS = 9
# The side of the square matrices by which float64 is timed, and how long a timing takes at least, in seconds.
SIDE, LEAST = 512, 0.05
UNITS = (("GiB", 2**30), ("MiB", 2**20), ("KiB", 2**10), ("bytes", 1))


@dataclass(frozen=True)
class FitEstimate:
    """`places` are fitted, from `positions` positions of `prompts` prompts, with at most `inputs` inputs each.
    `runs` and `sums` are multiply-adds: of sub-blocks, in the stream's dtype, and of sums and equations, in float64.
    `stream_bytes` are held from the first place to the last, `sum_bytes` at the largest place."""

    places: int
    prompts: int
    positions: int
    inputs: int
    runs: int
    sums: int
    stream_bytes: int
    sum_bytes: int

    @property
    def bytes(self) -> int:
        """The peak beside the encoder itself."""
        return self.stream_bytes + self.sum_bytes

    def seconds(self, run_rate: float, sum_rate: float) -> float:
        """How long it takes at so many multiply-adds a second in the stream's dtype, and in float64."""
        return self.runs / run_rate + self.sums / sum_rate

    def describe(self) -> str:
        """One line for people."""
        return (
            f"{self.places} places from {self.positions:,} positions of {self.prompts:,} prompts: {self.runs:.2g} "
            f"multiply-adds in the encoder, {self.sums:.2g} in float64, {_size(self.bytes)} beside the encoder"
        )


def estimate_fit(
    fit: Objective, selection: Objective, assignment: Assignment, settings: Settings | None = None
) -> FitEstimate:
    """What `fit_corrections` with the same arguments will take."""
    settings, stack = settings or Settings(), fit.stack
    places, width = places_of(stack, assignment, settings), stack.architecture.width
    read, judged = (sum(positions_read(one).sum().item() for one in o.portions) for o in (fit, selection))
    sizes = {place: _inputs(stack, place, kind) for place, kind in places.items()}
    sums = 0
    for place, kind in places.items():
        inputs, ridges = sizes[place], len(settings.ridges)
        sums += read * inputs * (inputs + width)
        sums += ridges * (inputs**3 // 3 + inputs**2 * width + judged * inputs * width)
        if kind == "bridge":
            sums += ridges * (EIGENVECTORS * width**3 + inputs * width * width)
    most = max(sizes.values(), default=0)
    # Gram matrix and its factor; cross sums, the solution and the best one so far; rows on their way into them.
    numbers = 2 * most**2 + 3 * most * width + 2 * ROWS * (most + width)
    return FitEstimate(
        len(places), len(fit.calibration.prompts), read, most, _runs(fit, selection, assignment, settings), sums,
        3 * (fit.tokens + 2 * selection.tokens) * width * STREAM.itemsize, numbers * SUM.itemsize,
    )  # fmt: skip


def measured_rates(fit: Objective) -> tuple[float, float]:
    """Multiply-adds a second where `fit` runs, right now: of sub-blocks, and in float64. Takes a few calls."""
    fit.prepare()
    portion = fit.portions[-1]
    hidden, context = fit.stack.embed(portion.batch)
    home = "cpu" if hidden.device.type == "mps" else hidden.device
    square = torch.ones(SIDE, SIDE, dtype=SUM, device=home)
    runs = _calls_a_second(lambda: advance(fit.stack, 0, hidden, context)) * fit.stack.subblocks[0].parameters
    return runs * portion.tokens, _calls_a_second(lambda: square @ square) * SIDE**3


def _calls_a_second(call: Callable[[], torch.Tensor]) -> float:
    """The first call is not timed: it may have to bring something."""
    count, began = -1, time.perf_counter()
    while count < 1 or time.perf_counter() - began < LEAST:
        call().reshape(-1)[0].item()  # waits for a card
        count += 1
        began = time.perf_counter() if count == 0 else began
    return count / (time.perf_counter() - began)


def check_budget(estimate: FitEstimate, budget: int) -> None:
    """Raises SkrrError if the fit takes more than `budget` bytes beside the encoder."""
    if estimate.bytes <= budget:
        return
    left = budget - estimate.sum_bytes
    each = estimate.stream_bytes / max(1, estimate.prompts)
    cure = f"Give it at most {int(left / each)} prompts, or more memory." if left > each else "Give it more memory."
    raise SkrrError(f"The fit takes {_size(estimate.bytes)} beside the encoder; {_size(budget)} are there. {cure}")


def _size(count: int) -> str:
    name, size = next((name, size) for name, size in UNITS if count >= size or size == 1)
    return f"{count / size:.3g} {name}"


def _inputs(stack: TextStack, place: int, kind: str) -> int:
    if kind == "matrix":
        return stack.output_shape(place)[1]
    return 1 if kind == "bias" else stack.architecture.width + 1


def _runs(fit: Objective, selection: Objective, assignment: Assignment, settings: Settings) -> int:
    """Multiply-adds in sub-blocks: their parameters for every token, place by place as `fit` goes."""
    stack = fit.stack
    places = places_of(stack, assignment, settings)
    judged = selection.tokens
    all_sets = fit.tokens + judged + (judged if settings.noise else 0)

    def through(entries: Iterable) -> int:
        return sum(stack.subblocks[source_of(one)].parameters for one in entries if source_of(one) is not None)

    last = max(places, default=-1)
    # The plain plan over the selection, once; then what lies behind the last place.
    total = judged * (through(assignment) + through(assignment[last + 1 :]))
    parted = False
    for place in range(last + 1):
        parted = parted or assignment[place] != place
        own = through([assignment[place]])
        total += all_sets * (stack.subblocks[place].parameters + (own if parted else 0))
        if place in places:
            total += (fit.tokens + judged * (1 + len(settings.ridges))) * own
    return total
