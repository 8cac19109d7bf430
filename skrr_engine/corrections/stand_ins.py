"""Stand-ins: bridges for every sub-block, fitted once on the dense stream, so that a search can compare candidates as
if each had been corrected."""

from collections.abc import Mapping

import torch

from ..events import Phase, Step
from ..measure.execute import Correction, advance
from ..measure.objective import Objective
from .added import Bridge, bridge_inputs
from .sites import RANK
from .solve import SingularError, low_rank
from .statistics import Positions, Sums, token_weights
from .streams import start

__all__ = ["fit_stand_ins"]

RIDGE = 0.1
NULL_SHARE = 0.1


def fit_stand_ins(fit: Objective, rank: int = RANK, ridge: float = RIDGE) -> Mapping[int, Correction]:
    """place -> the map of `rank` from the normalised dense stream to what its sub-block adds, for every sub-block that
    `fit` can see. One pass of the prompts through the dense encoder; reports a Phase "stand-ins" and a Step a place. A
    sub-block whose map cannot be fitted has none."""
    stack = fit.stack
    fit.report(Phase("stand-ins", fit.dead.start))
    fit.prepare()
    streams, width, found = start(fit), stack.architecture.width, {}
    for place in range(fit.dead.start):
        sums = Sums.empty(width + 1, width, streams[0].device)
        behind = [advance(stack, place, one.near(one.dense), one.context, fit.report).cpu() for one in streams]
        weights = [token_weights(after[one.read]) for one, after in zip(streams, behind, strict=True)]
        total = {null: sum(w.sum().item() for one, w in zip(streams, weights, strict=True) if one.portion.null == null)
                 for null in (True, False)}  # fmt: skip
        for one, after, weight in zip(streams, behind, weights, strict=True):
            share = NULL_SHARE if one.portion.null else 1 - NULL_SHARE
            inputs = bridge_inputs(one.dense)[one.read]
            scaled = weight * (share / (total[one.portion.null] or 1.0))
            sums.add(Positions(inputs, (after - one.dense)[one.read], scaled, 0.0))
            one.dense = after
        try:
            down, up = low_rank(sums, ridge, rank)
        except SingularError:
            continue
        parts = (part.T.contiguous().to("cpu", torch.float32) for part in (down, up))
        found[place] = Bridge(*parts).correction()
        fit.report(Step(1))
    return found
