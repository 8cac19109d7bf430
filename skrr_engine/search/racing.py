"""Which of many assignments have the lowest discrepancy: very probably the answer of `exact`, for far less work.

All candidates see the same prompts, in a random order, in chunks that double. After each chunk the candidates are
compared with the worst one that would be kept, by the *difference* of their errors prompt by prompt: its scatter is far
below that of the errors themselves. What the level before lets expect (`outlook`) is weighed against that. A candidate
goes when keeping it is not worth more prompts: when it can be expected to be better by less than what matters, were it
measured whole; and after each chunk at most half of them go on.
"""

import math
from collections.abc import Sequence

from ..running.prior import Guess
from ..running.run import Run
from ..running.trial import Trial

__all__ = ["choose_by_racing", "expected_gain"]

# Prompts of the first chunk: among many candidates, of which half go on, and among few, where it may decide.
FIRST, FIRST_OF_FEW, FEW = 12, 16, 8
# The part of D that is not worth more prompts: among those kept, one of whom is the level's plan, and among all.
MATTERS, MATTERS_LESS = 0.001, 0.004


def choose_by_racing(run: Run, tallies: Sequence[Trial], keep: int | None) -> list[Trial]:
    """About the best `keep` of `tallies` (None: all), best first; of equal ones the first listed. They are measured as
    far as was needed to tell them apart, and each is told its `gap`. The same for the same seed and `tallies`."""
    keep = len(tallies) if keep is None else min(keep, len(tallies))
    run.begin(tallies)
    order, alive = run.shuffled(tallies), list(tallies)
    if all(tally.expected for tally in alive):
        alive = _ahead(run, alive, (), keep, MATTERS_LESS)
    run.measure_null(alive)
    kept, seen = _race(run, alive, order, keep, 0, MATTERS_LESS)
    # Who is first matters more than who is kept: it is the plan of this level. The others are kept all the same.
    if len(kept) > 1:
        finalists = run.finalists(kept)
        seen, kept = seen if finalists == kept else 0, finalists
    (first, *_), _ = _race(run, kept, order, 1, seen, MATTERS)
    _tell_gaps(run, tallies, first)
    return [first, *(tally for tally in kept if tally is not first)]


def _race(
    run: Run, alive: Sequence[Trial], order: Sequence[int], keep: int, seen: int, matters: float
) -> tuple[list[Trial], int]:
    """Those left when `keep` are, or when there are no more prompts, best first, and how many prompts of `order` they
    have seen. `alive` have seen `seen` of them. `matters` is the part of D that is not worth more prompts."""
    alive = list(alive)
    while seen < len(order) and (len(alive) > keep or not seen):
        seen = min(2 * seen or (FIRST if len(alive) > FEW else FIRST_OF_FEW), len(order))
        run.measure(alive, order[:seen])
        alive = _ahead(run, alive, order[:seen], keep, matters)
    return alive, seen


def _ahead(run: Run, alive: list[Trial], rows: Sequence[int], keep: int, matters: float) -> list[Trial]:
    """Those of `alive` that go on after having seen `rows`, best first. Before the first prompt only those are
    dropped that are expected to be hopeless."""
    # All are compared with one that was not picked for its luck with these rows, if possible.
    if all(tally.expected for tally in alive):
        yardstick = min(alive, key=lambda tally: tally.expected.mean)
    else:
        yardstick = min(alive, key=lambda tally: run.value(tally, rows))
    ranked = sorted(alive, key=lambda tally: gap(run, tally, yardstick, rows).mean)
    rival = ranked[keep - 1]
    scale = run.value(rival, rows) if rows else rival.expected.mean
    on = ranked[:keep]
    for tally in ranked[keep:]:
        mean, variance = gap(run, tally, rival, rows)
        if len(rows) < len(run.order) and expected_gain(mean, variance**0.5) > matters * scale:
            on.append(tally)
    most = max(2 * keep, (len(alive) + 1) // 2) if rows else len(on)
    for tally in ranked:
        if not any(tally is other for other in on[:most]):
            run.give_up(tally)
    return on[:most]


def gap(run: Run, tally: Trial, rival: Trial, rows: Sequence[int]) -> Guess:
    """D of `tally` minus D of `rival`: what was expected, weighed against what `rows` (seen by both) tell."""
    if tally is rival:
        return Guess(0.0, 0.0)
    measured = Guess(0.0, math.inf)
    if rows:
        # Of rows that are nearly all there are, less is left to chance.
        left = 1 - len(rows) / len(run.order)
        mean = run.value(tally, rows) - run.value(rival, rows)
        measured = Guess(mean, run.scatter(tally, rival, rows) ** 2 * left if left > 0 else 0.0)
    if tally.expected is None or rival.expected is None:
        return measured
    expected = Guess(tally.expected.mean - rival.expected.mean, tally.expected.variance + rival.expected.variance)
    if math.isinf(measured.variance):
        return expected
    part = expected.variance / (expected.variance + measured.variance) if measured.variance else 1.0
    return Guess(part * measured.mean + (1 - part) * expected.mean, part * measured.variance)


def _tell_gaps(run: Run, tallies: Sequence[Trial], first: Trial) -> None:
    """To each of `tallies` its `gap` behind `first`, which may be one of them measured anew."""
    winner = next(tally for tally in tallies if tally.assignment == first.assignment)
    gaps = [gap(run, tally, winner, (tally.seen & winner.seen).nonzero().flatten().tolist()) for tally in tallies]
    for tally, found in zip(tallies, gaps, strict=True):
        tally.gap = found


def expected_gain(gap: float, scatter: float) -> float:
    """E[max(0, -X)] of a normal X of mean `gap` and standard deviation `scatter`: by how much a candidate that is worse
    by `gap` so far can be expected to turn out better. Infinite for an infinite scatter, 0 for none (`gap` >= 0)."""
    if not scatter or math.isinf(scatter):
        return scatter
    z = gap / scatter
    density = math.exp(-z * z / 2) / math.sqrt(2 * math.pi)
    return scatter * density - gap * math.erfc(z / math.sqrt(2)) / 2
