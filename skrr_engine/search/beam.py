"""Skip: one level of Algorithm 1.

The paper's names: B is the beam of the level before, S one of its sets, i the sub-block that is skipped next, D the
discrepancy, B_new the longer sets. The loop over levels is in `jobs.skip_phase`, which can stop and resume between two
of them. `reference.algorithm_1` is the whole algorithm, slow and literal, and says where the published text is mended.
"""

from collections.abc import Sequence

from ..measure.execute import assign
from ..measure.objective import Objective
from ..running.run import Run
from ..running.trial import Trial
from .candidate import Candidate, Choose, Order
from .exact import choose_exactly
from .level_priors import apply_priors, next_priors

__all__ = ["next_level"]


def next_level(
    run: Run, beams: Sequence[Candidate], beam: int | None, choose: Choose = choose_exactly
) -> list[Candidate]:
    """B <- top-k(B_new): the best `beam` sets (None: all) that are one sub-block larger than a set of `beams`.

    Best first; `beams` empty means the dense encoder. A set that several beams lead to is one candidate. The best set
    is measured on all prompts, the others as far as `choose` needs to tell them apart.
    """
    count = len(run.objective.stack.subblocks)
    new: dict[frozenset, Order] = {}  # line 4: B_new
    for order in [candidate.order for candidate in beams] or [()]:  # line 5: for each S in B
        for i in _allowed(run.objective, order):  # line 6: for each i not in S
            new.setdefault(frozenset((*order, i)), (*order, i))  # line 7: S + [i], once a set (trap 3)
    # Among equal D `choose` takes the first listed: fewer bytes kept, then the lexicographically first set (trap 3).
    listed = sorted(new.values(), key=lambda order: (-_bytes(run.objective, order), sorted(order)))
    trials = {order: Trial(run.objective, assign(count, order)) for order in listed}
    apply_priors(run, beams, trials)
    best = choose(run, list(trials.values()), beam)  # lines 8 to 14 (trap 1)
    best[:1] = run.finalists(best[:1])
    run.measure(best[:1], run.order, len(best))
    priors = next_priors(run, beams, trials, best)
    orders = {trial.assignment: order for order, trial in trials.items()}
    return [
        Candidate(orders[trial.assignment], run.discrepancy(trial), None if n else trial.errors(), prior)
        for n, (trial, prior) in enumerate(zip(best, priors, strict=True))
    ]


def _allowed(objective: Objective, order: Order) -> list[int]:
    """What can be skipped next: sub-blocks that nothing reads as long as there are any, for they are free."""
    left = [i for i in range(len(objective.stack.subblocks)) if i not in order]
    return [i for i in left if i in objective.dead] or left


def _bytes(objective: Objective, order: Order) -> int:
    return sum(objective.stack.subblocks[i].bytes for i in order)
