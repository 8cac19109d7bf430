"""Which of many assignments have the lowest discrepancy: the answer of measuring each on all prompts, for less work.

`D` is a sum of terms that are never negative, so a sum over some prompts is a lower bound. Once `keep` assignments are
measured on all prompts, the worst of them is an upper bound for every winner, and an assignment whose partial sum is
above it (strictly: ties survive) needs no further prompt. To get there fast, the null prompt goes first: it is short,
and sets that ruin guidance fail there. Then come the prompts with the largest expected error a token, estimated from
the assignments that are complete; and the leaders after a few prompts are completed at once, which lowers the bound.
"""

import math
from collections.abc import Sequence
from itertools import pairwise

import torch

from ..running.run import Run
from ..running.trial import Trial

__all__ = ["choose_exactly"]

# Relative differences up to this are rounding: float32 streams, sums in another order.
ROUNDING = 1e-6
# Prompts of the first chunk, and the growth of chunks from there.
FIRST, GROWTH = 8, 1.04
# Leaders are completed early as long as more than this many times `keep` assignments are left.
MANY = 4


def choose_exactly(
    run: Run,
    trials: Sequence[Trial],
    keep: int | None,
    bound: float | None = None,
    row_errors: torch.Tensor | None = None,
) -> list[Trial]:
    """The best `keep` of `trials` (None: all), measured on all prompts, best first; among equal ones the first listed.

    `bound` is a known upper bound of the winners' discrepancies and `row_errors` (rows,) squared errors that predict
    which rows are hard; where they are not given, both come from the leaders.
    """
    keep = len(trials) if keep is None else min(keep, len(trials))
    run.begin(trials)
    run.measure_null(trials)
    known, alive = bound is not None, list(trials)
    complete = [trial for trial in alive if run.complete(trial)]
    rows = _hardest_first(run, run.order, row_errors if known else _row_errors(complete, run.row_errors))
    done, size = 0, FIRST
    while done < len(rows):
        if len(complete) >= keep and not known:
            bound = sorted(run.discrepancy(trial).value for trial in complete)[keep - 1]
        if bound is not None:
            alive = _within(run, alive, bound)
        run.measure(alive, rows[done : done + size])
        done, size = done + size, math.ceil(size * GROWTH)
        if known or (len(complete) >= keep and len(alive) <= MANY * keep):
            continue
        leaders = sorted(alive, key=lambda trial: run.value(trial, rows[:done]))[:keep]
        unfinished = [trial for trial in leaders if not run.complete(trial)]
        if unfinished:
            run.measure(unfinished, run.order, len(alive))
            complete += unfinished
            rows[done:] = _hardest_first(run, rows[done:], _row_errors(complete))
    alive = sorted(alive, key=lambda trial: run.discrepancy(trial).value)
    for better, worse in pairwise(alive[: keep + 1]):
        _notice_near_tie(run, better, worse)
    return alive[:keep]


def _notice_near_tie(run: Run, better: Trial, worse: Trial) -> None:
    """Rounding decides between sets this close, and may decide otherwise on another machine."""
    low, high = run.discrepancy(better).value, run.discrepancy(worse).value
    if high - low <= ROUNDING * high:
        one, two = (_text(trial) for trial in (better, worse))
        run.notice(f"Within rounding of each other: {one} (D {low:.9g}, taken first) and {two} (D {high:.9g}).")


def _text(trial: Trial) -> str:
    """The assignment as people write it: 3, 5<-7."""
    places = enumerate(trial.assignment)
    return ", ".join(f"{n}" if source is None else f"{n}<-{source}" for n, source in places if source != n)


def _row_errors(complete: Sequence[Trial], default: torch.Tensor | None = None) -> torch.Tensor | None:
    """(rows,) the squared errors of all `complete` trials, summed; without any, `default`."""
    return sum(trial.squared for trial in complete) if complete else default


def _hardest_first(run: Run, rows: Sequence[int], row_errors: torch.Tensor | None) -> list[int]:
    """`rows` by decreasing error a token, for a measurement is paid by the token. In the given order where no errors
    are known."""
    if row_errors is None:
        return list(rows)
    expected = row_errors.nan_to_num()
    return sorted(rows, key=lambda row: (-expected[row].item() / run.tokens[row], row))


def _within(run: Run, alive: list[Trial], bound: float) -> list[Trial]:
    """The trials that may still be among the winners; the others are given up."""
    limit = bound * (1 + ROUNDING)
    for trial in alive:
        if run.bound(trial) > limit:
            run.give_up(trial)
    return [trial for trial in alive if not run.bound(trial) > limit]
