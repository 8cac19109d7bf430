"""What the baselines hand out: a ladder of skipped sub-blocks, whose rungs plans, Re-use and measurements take.

    rungs = finercut(stack, calibration, 0.5)
    rung = nearest(rungs, 0.42)
    level = measured_level(objective, "t5xxl", rung.order, reuse=True)
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from ..encoders.stack import TextStack
from ..errors import SkrrError
from ..measure.execute import assign
from ..measure.objective import Objective
from ..measure.sweep import measure_many
from ..plans.architecture import Architecture
from ..plans.plan import EncoderInfo, Level, Plan, make_cut, make_level
from ..search.reuse import find_reuse

__all__ = ["Rung", "check_sparsity", "make_ladder", "make_plan", "measured_level", "nearest"]

# "Matched sparsity": a whole block of T5-XXL is 4.05 %, so the nearest rung is never further than half of that.
MATCHED = 0.05


@dataclass(frozen=True)
class Rung:
    """The sub-blocks skipped so far in the order of removal, and the sparsity that this is (0 to 1)."""

    order: tuple[int, ...]
    sparsity: float


AnyRung = TypeVar("AnyRung", bound=Rung)


def check_sparsity(architecture: Architecture, sparsity: float) -> None:
    """Raises SkrrError unless `sparsity` can be reached by skipping sub-blocks."""
    most = architecture.sparsity(range(architecture.sub_blocks))
    if not (math.isfinite(sparsity) and 0 < sparsity <= most):
        raise SkrrError(
            f"The sparsity is {sparsity}; expected more than 0 and at most {most:.4f}, which is every sub-block of "
            "this encoder: the rest is embedding and final norm."
        )


def make_ladder(
    architecture: Architecture, steps: Iterable[Sequence[int]], sparsity: float | None = None
) -> tuple[Rung, ...]:
    """One rung a step, each with all sub-blocks of the steps before it; up to the first rung that reaches
    `sparsity`, if one is given. A step is what a method removes at a time: a sub-block, or both of a block."""
    rungs: list[Rung] = []
    order: tuple[int, ...] = ()
    for step in steps:
        order = (*order, *step)
        rungs.append(Rung(order, architecture.sparsity(order)))
        if sparsity is not None and rungs[-1].sparsity >= sparsity:
            break
    return tuple(rungs)


def nearest(rungs: Sequence[AnyRung], sparsity: float, within: float = MATCHED) -> AnyRung:
    """The rung whose sparsity is nearest to `sparsity`; of two equally near ones the smaller. Raises SkrrError
    when none is `within` of it: a table would compare what cannot be compared."""
    if not rungs:
        raise SkrrError("The ladder is empty: the method removed nothing. Give it another threshold or target.")
    best = min(rungs, key=lambda rung: (abs(rung.sparsity - sparsity), rung.sparsity))
    if not abs(best.sparsity - sparsity) <= within:
        raise SkrrError(
            f"No rung is within {100 * within:.2f} points of a sparsity of {100 * sparsity:.2f} %: the nearest of "
            f"{len(rungs)} has {100 * best.sparsity:.2f} %. Ask for another sparsity, or build a longer ladder."
        )
    return best


def measured_level(objective: Objective, slot: str, order: Sequence[int], *, reuse: bool) -> Level:
    """The level that skips `order`, with its discrepancy under `objective`; with `reuse`, Algorithm 2 goes on top
    (the paper's ablation puts it on ShortGPT and FinerCut too)."""
    order = tuple(order)
    encoders = {slot: EncoderInfo(objective.stack.architecture, objective.stack.sketch)}
    make_cut(order).check(len(objective.stack.subblocks))
    if reuse:
        pairs, found = find_reuse(objective, order)
    else:
        pairs, plain = {}, assign(len(objective.stack.subblocks), order)
        found = measure_many(objective, [plain])[plain]
    return make_level(encoders, {slot: make_cut(order, pairs)}, found.to_json())


def make_plan(stack: TextStack, slot: str, name: str, rungs: Iterable[Rung], **record) -> Plan:
    """The rungs as a plan for encoder `slot`, not measured; `record` are further fields of Plan."""
    encoders = {slot: EncoderInfo(stack.architecture, stack.sketch)}
    levels = tuple(make_level(encoders, {slot: make_cut(rung.order)}) for rung in rungs)
    return Plan(name, encoders, levels, **record)
