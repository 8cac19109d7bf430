"""Which of many assignments have the lowest discrepancy: the answer of measuring each one whole, for less work.

`D` is a sum of terms that are never negative, so any part of it is a bound from below. Once `keep` assignments are
measured whole, the worst of them is a bound from above on every winner, and an assignment whose part exceeds it
(strictly: ties survive) needs no further prompt. To get there fast: the null prompt goes first (it is short, and what
ruins guidance shows there), then the prompts on which most error a token is expected, from what was measured whole; and
whoever leads after a few of them is measured whole at once, which lowers the bound.
"""

import math
from collections.abc import Sequence
from itertools import pairwise

import torch

from ..running.run import Run
from ..running.trial import Trial

__all__ = ["choose_exactly"]

# Sets this close are told apart by rounding: float32 streams, sums in another order.
ROUNDING = 1e-6
# Prompts of the first look at everybody, and how chunks grow from there.
FIRST, GROWTH = 8, 1.04
# A bound is lowered, by measuring ahead whoever leads, as long as more than so many times the winners can be given up.
MANY = 4


def choose_exactly(
    run: Run, tallies: Sequence[Trial], keep: int | None, bound: float | None = None, hard: torch.Tensor | None = None
) -> list[Trial]:
    """The best `keep` of `tallies` (None: all), measured whole, best first; of equal ones the first listed.

    `bound` is a discrepancy that no winner exceeds and `hard` (rows,) says on which rows most is to be expected, if
    that is known; else both come from those that lead.
    """
    keep = len(tallies) if keep is None else min(keep, len(tallies))
    run.begin(tallies)
    run.measure_null(tallies)
    known, alive = bound is not None, list(tallies)
    whole = [tally for tally in alive if run.whole(tally)]
    rows = _hardest_first(run, run.order, hard if known else _squared(whole, run.hard))
    done, size = 0, FIRST
    while done < len(rows):
        if len(whole) >= keep and not known:
            bound = sorted(run.found(tally).value for tally in whole)[keep - 1]
        if bound is not None:
            alive = _below(run, alive, bound)
        run.measure(alive, rows[done : done + size])
        done, size = done + size, math.ceil(size * GROWTH)
        if known or (len(whole) >= keep and len(alive) <= MANY * keep):
            continue
        leading = sorted(alive, key=lambda tally: run.value(tally, rows[:done]))[:keep]
        ahead = [tally for tally in leading if not run.whole(tally)]
        if ahead:
            run.measure(ahead, run.order, len(alive))
            whole += ahead
            rows[done:] = _hardest_first(run, rows[done:], _squared(whole))
    alive = sorted(alive, key=lambda tally: run.found(tally).value)
    for better, worse in pairwise(alive[: keep + 1]):
        _tell_near_tie(run, better, worse)
    return alive[:keep]


def _tell_near_tie(run: Run, better: Trial, worse: Trial) -> None:
    """Between sets that close, rounding decides, and on another machine may decide otherwise."""
    low, high = run.found(better).value, run.found(worse).value
    if high - low <= ROUNDING * high:
        one, two = (_words(tally) for tally in (better, worse))
        run.notice(f"Within rounding of each other: {one} (D {low:.9g}, taken first) and {two} (D {high:.9g}).")


def _words(tally: Trial) -> str:
    """The assignment as people write it: 3, 5<-7."""
    places = enumerate(tally.assignment)
    return ", ".join(f"{n}" if source is None else f"{n}<-{source}" for n, source in places if source != n)


def _squared(tallies: Sequence[Trial], otherwise: torch.Tensor | None = None) -> torch.Tensor | None:
    """(rows,) the squared errors of `tallies`, which are whole, added up; of none `otherwise`."""
    return sum(tally.squared for tally in tallies) if tallies else otherwise


def _hardest_first(run: Run, rows: Sequence[int], hard: torch.Tensor | None) -> list[int]:
    """`rows`, those with the largest error a token first: a token is what a measurement costs. As they come where no
    error is known."""
    if hard is None:
        return list(rows)
    expected = hard.nan_to_num()
    return sorted(rows, key=lambda row: (-expected[row].item() / run.tokens[row], row))


def _below(run: Run, alive: list[Trial], bound: float) -> list[Trial]:
    """Those that may still be winners; the others are given up."""
    limit = bound * (1 + ROUNDING)
    for tally in alive:
        if run.bound(tally) > limit:
            run.give_up(tally)
    return [tally for tally in alive if not run.bound(tally) > limit]
