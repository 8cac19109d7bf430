"""Which of many assignments have the lowest discrepancy: very probably the answer of `exact`, for far less work.

A race, as in Hoeffding races and successive halving. All candidates see the same prompts, in a random order, in chunks
that double. After each chunk the candidates are compared with the worst one that would be kept, by *paired
differences*: prompt by prompt these vary far less than the errors themselves. The estimate is combined with the prior
from the level before (`running.prior`). A candidate is given up when its expected improvement over that rival is below
a tolerance; and after each chunk at most half of the candidates go on.
"""

import math
from collections.abc import Sequence

from ..running.prior import Estimate
from ..running.run import Run
from ..running.trial import Trial

__all__ = ["choose_by_racing", "expected_improvement"]

# Prompts of the first chunk: among many candidates, of which half go on, and among few, where it may decide.
FIRST, FIRST_OF_FEW, FEW = 12, 16, 8
# Expected improvements below this part of D are not worth more prompts: in the race of all candidates for a place in
# the beam, and in the final among those kept, whose winner is the plan of the level.
TOLERANCE, FINAL_TOLERANCE = 0.004, 0.001


def choose_by_racing(run: Run, trials: Sequence[Trial], keep: int | None) -> list[Trial]:
    """About the best `keep` of `trials` (None: all), best first; among equal ones the first listed. They are measured
    as far as was needed to tell them apart, and each of `trials` gets its `gap`. Deterministic in seed and `trials`."""
    keep = len(trials) if keep is None else min(keep, len(trials))
    run.begin(trials)
    order, alive = run.shuffled(trials), list(trials)
    if all(trial.expected for trial in alive):
        alive = _survivors(run, alive, (), keep, TOLERANCE)
    run.measure_null(alive)
    kept, seen = _race(run, alive, order, keep, 0, TOLERANCE)
    # The final among those kept: all of them stay in the beam, but the first is the plan of this level.
    if len(kept) > 1:
        finalists = run.finalists(kept)
        seen, kept = seen if finalists == kept else 0, finalists
    (first, *_), _ = _race(run, kept, order, 1, seen, FINAL_TOLERANCE)
    _set_gaps(run, trials, first)
    return [first, *(trial for trial in kept if trial is not first)]


def _race(
    run: Run, alive: Sequence[Trial], order: Sequence[int], keep: int, seen: int, tolerance: float
) -> tuple[list[Trial], int]:
    """The trials left, best first, when only `keep` are or all prompts are used, and how many prompts of `order` they
    have seen. `alive` have seen `seen` of them already."""
    alive = list(alive)
    while seen < len(order) and (len(alive) > keep or not seen):
        seen = min(2 * seen or (FIRST if len(alive) > FEW else FIRST_OF_FEW), len(order))
        run.measure(alive, order[:seen])
        alive = _survivors(run, alive, order[:seen], keep, tolerance)
    return alive, seen


def _survivors(run: Run, alive: list[Trial], rows: Sequence[int], keep: int, tolerance: float) -> list[Trial]:
    """The trials of `alive` that go on after having seen `rows`, best first. Without rows only the priors decide, and
    any number may go on."""
    # All are compared with one that was not picked for its luck with these rows, if possible.
    if all(trial.expected for trial in alive):
        baseline = min(alive, key=lambda trial: trial.expected.mean)
    else:
        baseline = min(alive, key=lambda trial: run.value(trial, rows))
    ranked = sorted(alive, key=lambda trial: gap(run, trial, baseline, rows).mean)
    rival = ranked[keep - 1]
    scale = run.value(rival, rows) if rows else rival.expected.mean
    survivors = ranked[:keep]
    for trial in ranked[keep:]:
        mean, variance = gap(run, trial, rival, rows)
        if len(rows) < len(run.order) and expected_improvement(mean, variance**0.5) > tolerance * scale:
            survivors.append(trial)
    most = max(2 * keep, (len(alive) + 1) // 2) if rows else len(survivors)
    for trial in ranked:
        if not any(trial is other for other in survivors[:most]):
            run.give_up(trial)
    return survivors[:most]


def gap(run: Run, trial: Trial, rival: Trial, rows: Sequence[int]) -> Estimate:
    """D of `trial` minus D of `rival`: the difference of their priors combined with the measurement on `rows`, which
    both have seen, each weighted by its precision (1 / variance)."""
    if trial is rival:
        return Estimate(0.0, 0.0)
    measured = Estimate(0.0, math.inf)
    if rows:
        # Finite population: the more of all rows are seen, the less variance is left.
        left = 1 - len(rows) / len(run.order)
        mean = run.value(trial, rows) - run.value(rival, rows)
        measured = Estimate(mean, run.standard_error(trial, rival, rows) ** 2 * left if left > 0 else 0.0)
    if trial.expected is None or rival.expected is None:
        return measured
    expected = Estimate(trial.expected.mean - rival.expected.mean, trial.expected.variance + rival.expected.variance)
    if math.isinf(measured.variance):
        return expected
    weight = expected.variance / (expected.variance + measured.variance) if measured.variance else 1.0
    return Estimate(weight * measured.mean + (1 - weight) * expected.mean, weight * measured.variance)


def _set_gaps(run: Run, trials: Sequence[Trial], first: Trial) -> None:
    """Sets the `gap` of each of `trials` to `first`, which may be a second, float32 trial of one of them."""
    winner = next(trial for trial in trials if trial.assignment == first.assignment)
    gaps = [gap(run, trial, winner, (trial.seen & winner.seen).nonzero().flatten().tolist()) for trial in trials]
    for trial, estimate in zip(trials, gaps, strict=True):
        trial.gap = estimate


def expected_improvement(gap: float, deviation: float) -> float:
    """E[max(0, -X)] of a normal X with mean `gap` and standard deviation `deviation`: how much better than its rival a
    candidate can be expected to turn out that is `gap` worse so far. With `gap` >= 0: infinite for an infinite
    deviation, 0 for none."""
    if not deviation or math.isinf(deviation):
        return deviation
    z = gap / deviation
    density = math.exp(-z * z / 2) / math.sqrt(2 * math.pi)
    return deviation * density - gap * math.erfc(z / math.sqrt(2)) / 2
