"""FinerCut (arXiv 2405.18218), on an encoder: remove the one sub-block whose removal moves the output least,
again and again, each time measured with everything removed so far.

The published method works on a language model's logits. Skrr's FinerCut (tables 1, A2 and A14) has one order for
all denoisers, so its distance is taken on the encoder's own output: no projection, no null prompt. That is Skrr
with beam 1, a test holds it. Distances, over the positions that the denoiser reads, each with the same weight
within its prompt, prompts averaged:

    mse      mean over the features of the squared difference       (the order of table A2)
    cosine   1 - cos

Where the authors' code differs: its "norm" is a mean of Frobenius norms, so long prompts weigh more, and its
"angular" is arccos of a cosine clamped to 0 to 1; Skrr names neither, table A14 compares cosine and MSE. Its
default, a divergence of token probabilities, needs logits, which an encoder has not. It breaks ties by the *name*
of a module ("layers.10" before "layers.2"); here the lower index goes first. It shields the first layers for a
while (-x 0.4); Skrr's published order begins 46, 5, 11, so that is not done.
"""

import math

from ..encoders.stack import TextStack
from ..errors import SkrrError
from ..events import LevelDone, Phase, Report, silent
from ..measure.calibration import Calibration
from ..measure.discrepancy import Discrepancy
from ..measure.execute import assign
from ..measure.objective import Objective
from ..measure.projection import no_projection
from ..measure.sweep import measure_many
from .ladder import Rung, check_sparsity

__all__ = ["finercut"]

DISTANCES = {"mse": lambda found: found.conditional, "cosine": lambda found: found.cosine}


def finercut(
    stack: TextStack,
    calibration: Calibration,
    sparsity: float,
    metric: str = "mse",
    *,
    outputs: tuple[str, ...] = ("sequence",),
    report: Report = silent,
) -> tuple[Rung, ...]:
    """The ladder of single sub-blocks up to the first rung that reaches `sparsity`. `metric` is "mse" or "cosine",
    taken over `outputs` (a CLIP of which the pooled output is read too has "pooled" as well). A rung takes as many
    evaluations as sub-blocks are left."""
    if metric not in DISTANCES:
        raise SkrrError(
            f"FinerCut's metric is {metric!r}; expected {' or '.join(DISTANCES)}. Divergences of token probabilities "
            "do not apply: an encoder has no logits."
        )
    architecture = stack.architecture
    check_sparsity(architecture, sparsity)
    objective = Objective(stack, calibration, no_projection(outputs), null_weight=0.0, report=report)
    count = architecture.sub_blocks
    levels = math.ceil(count * sparsity / architecture.sparsity(range(count)))
    report(Phase("FinerCut", sum(count - n for n in range(levels))))  # about: kinds differ in size
    order: tuple[int, ...] = ()
    rungs: list[Rung] = []
    while not rungs or rungs[-1].sparsity < sparsity:
        rest = {i: assign(count, (*order, i)) for i in range(count) if i not in order}
        found = measure_many(objective, rest.values())
        least = _least(rest, found, metric)
        order = (*order, least)
        rungs.append(Rung(order, architecture.sparsity(order)))
        report(LevelDone(len(order), rungs[-1].sparsity, DISTANCES[metric](found[rest[least]])))
    return tuple(rungs)


def _least(rest: dict, found: dict[tuple, Discrepancy], metric: str) -> int:
    """The sub-block whose removal moves the output least; of equal ones the lowest index."""
    return min(rest, key=lambda i: (DISTANCES[metric](found[rest[i]]), i))
