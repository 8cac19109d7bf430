"""Which of many assignments have the lowest discrepancy: very probably the answer of `exact`, for far less work.

All candidates see the same prompts, in a seeded random order, in chunks that double. After each chunk the candidates
are compared with the worst one that would be kept, by the *difference* of their errors prompt by prompt: its scatter
is far below that of the errors themselves. A candidate goes when keeping it is not worth more prompts: when it can be
expected to be better by less than what matters, were it measured whole; and after each chunk at most half of them go
on.
"""

import math
from collections.abc import Sequence

from .objective import Tally
from .run import Run

__all__ = ["choose_by_racing", "expected_gain"]

# Prompts of the first chunk: among many candidates, of which half go on, and among few, where it may decide.
FIRST, FIRST_OF_FEW, FEW = 8, 16, 8
# The part of D that is not worth more prompts: among those kept, one of whom is the level's plan, and among all.
MATTERS, MATTERS_LESS = 0.001, 0.004


def choose_by_racing(run: Run, tallies: Sequence[Tally], keep: int | None) -> list[Tally]:
    """About the best `keep` of `tallies` (None: all), best first; of equal ones the first listed. They are
    measured as far as was needed to tell them apart. The same for the same `run.order`."""
    keep = len(tallies) if keep is None else min(keep, len(tallies))
    run.begin(tallies)
    run.measure_null(tallies)
    kept, seen = _race(run, tallies, keep, 0, MATTERS_LESS)
    kept = sorted(kept, key=lambda tally: run.value(tally, run.order[:seen]))[:keep]
    # Who is first matters more than who is kept: it is the plan of this level. The others are kept all the same.
    if len(kept) > 1:
        finalists = run.finalists(kept)
        seen, kept = seen if finalists == kept else 0, finalists
    leaders, seen = _race(run, kept, 1, seen, MATTERS)
    first = min(leaders, key=lambda tally: run.value(tally, run.order[:seen]))
    return [first, *(tally for tally in kept if tally is not first)]


def _race(run: Run, alive: Sequence[Tally], keep: int, seen: int, matters: float) -> tuple[list[Tally], int]:
    """Those left when `keep` are, or when there are no more prompts, and how many prompts they have seen. `alive`
    have seen `seen` of them. `matters` is the part of D that is not worth more prompts."""
    alive = list(alive)
    while seen < len(run.order) and (len(alive) > keep or not seen):
        seen = min(2 * seen or (FIRST if len(alive) > FEW else FIRST_OF_FEW), len(run.order))
        run.measure(alive, run.order[:seen])
        alive = _ahead(run, alive, run.order[:seen], keep, matters)
    return alive, seen


def _ahead(run: Run, alive: list[Tally], rows: Sequence[int], keep: int, matters: float) -> list[Tally]:
    """Those of `alive` that go on after having seen `rows`, best first."""
    ranked = sorted(alive, key=lambda tally: run.value(tally, rows))
    rival = ranked[keep - 1]
    left = len(rows) / len(run.order)
    on = ranked[:keep]
    for tally in ranked[keep:]:
        gap = run.value(tally, rows) - run.value(rival, rows)
        scatter = run.scatter(tally, rival, rows) * max(0.0, 1 - left) ** 0.5
        if left < 1 and expected_gain(gap, scatter) > matters * run.value(rival, rows):
            on.append(tally)
    most = max(2 * keep, (len(alive) + 1) // 2)
    for tally in ranked:
        if not any(tally is other for other in on[:most]):
            run.give_up(tally)
    return on[:most]


def expected_gain(gap: float, scatter: float) -> float:
    """E[max(0, -X)] of a normal X of mean `gap` and standard deviation `scatter`: by how much a candidate that is worse
    by `gap` so far can be expected to turn out better. Infinite for an infinite scatter, 0 for none (`gap` >= 0)."""
    if not scatter or math.isinf(scatter):
        return scatter
    z = gap / scatter
    density = math.exp(-z * z / 2) / math.sqrt(2 * math.pi)
    return scatter * density - gap * math.erfc(z / math.sqrt(2)) / 2
