"""What choices carry from one level to the next: priors of D for races, hard rows for exact choices."""

from collections.abc import Mapping, Sequence

from ..running.prior import Prior, additive_prior
from ..running.run import Run
from ..running.trial import Trial
from .candidate import Candidate, Order

__all__ = ["apply_priors", "next_priors"]


def apply_priors(run: Run, beams: Sequence[Candidate], trials: Mapping[Order, Trial]) -> None:
    """Before a choice among `trials`, which were grown from `beams`: each gets the D that its parent's prior expects,
    and the run the squared errors of the best of `beams`, row by row."""
    priors = {parent.order: parent.prior for parent in beams}
    for order, trial in trials.items():
        prior = priors.get(order[:-1])
        trial.expected = None if prior is None else prior.of(order[-1])
    run.row_errors = None if not beams or beams[0].errors is None else beams[0].errors[0, :-2]


def next_priors(
    run: Run, beams: Sequence[Candidate], trials: Mapping[Order, Trial], best: Sequence[Trial]
) -> list[Prior | None]:
    """After the choice: for each of `best`, best first, its prior for the next level; None where no race was run."""
    # A parent that only dead sub-blocks were added to says nothing about the others.
    if any(order[-1] in run.objective.dead for order in trials):
        return [None] * len(best)
    count = len(run.objective.stack.subblocks)
    # `best` can hold new trials of the same assignments (`Run.finalists`): gaps are those of the raced ones.
    gaps = {frozenset(order): trial.gap for order, trial in trials.items()}
    orders = {trial.assignment: order for order, trial in trials.items()}
    parents = {parent.order: parent for parent in beams}
    before = beams[0].discrepancy.value if beams else 0.0
    priors: list[Prior | None] = []
    for trial in best:
        order = orders[trial.assignment]
        if gaps[frozenset(order)] is None:
            priors.append(None)
            continue
        parent_gap = _gap(parents[order[:-1]], before) if beams else 0.0
        first = run.discrepancy(best[0]).value
        priors.append(additive_prior(order, count, lambda some: gaps[frozenset(some)], first, before, parent_gap))
    return priors


def _gap(candidate: Candidate, best: float) -> float:
    """D of `candidate` minus D of the best set of its level, which is `best`."""
    return candidate.discrepancy.value - best if candidate.prior is None else candidate.prior.gap
