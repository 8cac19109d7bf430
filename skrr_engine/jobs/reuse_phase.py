"""The Re-use phase: Algorithm 2 for the best set of every level, largest first, so that a job that is stopped half-way
has what its user asked for."""

from ..events import Phase
from ..running.prior import Estimate
from ..search.candidate import Candidate
from ..search.reuse import Pair, reuse_for
from .job import Job, drifted

__all__ = ["expected_gaps", "reuse_phase"]


def reuse_phase(job: Job) -> None:
    """Re-use for every level that has none on disk."""
    rungs = job.rungs()
    left = [n for n in reversed(range(len(rungs))) if job.saved.reuse(n, rungs[n].order) is None]
    if left:
        job.objective.report(Phase("re-use", sum(2 * (n + 1) for n in left)))
    for n in left:
        job.start("re-use", n + 1, len(rungs))
        order, errors = rungs[n].order, rungs[n].errors
        job.saved.add_reuse(n, order, reuse_for(job.run, order, job.choose, errors, expected_gaps(job, rungs, n)))
        job.forecast.finished()


def expected_gaps(job: Job, rungs: list[Candidate], n: int) -> dict[Pair, Estimate]:
    """Prior estimates for re-use on rung `n`: the relative gaps found on the next larger one."""
    if n + 1 == len(rungs):
        return {}
    return drifted(job.saved.reuse_gaps(n + 1), rungs[n], rungs[n + 1])
