"""The Skip phase: Algorithm 1's loop over levels, up to the target. Every finished level is on disk before the next
begins; in the fast mode each looks back at the one before."""

from ..events import Phase
from ..running.prior import Estimate
from ..search.beam import next_level
from ..search.candidate import Candidate
from ..search.look_back import look_back
from .job import Job, drifted

__all__ = ["skip_phase"]


def skip_phase(job: Job) -> None:
    """All levels up to the target; finished ones come from disk."""
    beams: list[Candidate] = []
    announced = False
    while not (beams and job.reached(beams[0].order)):
        number = len(beams[0].order) if beams else 0
        if number == job.saved.levels:
            levels = job.settings.levels(job.stack, beams[0].order if beams else ())
            if not announced:
                job.objective.report(Phase("skip", _evaluations(job, number, levels)))
                announced = True
            _search_level(job, beams, number, levels)
        beams = job.saved.beams(number)
        job.level_done(beams)


def _search_level(job: Job, beams: list[Candidate], number: int, levels: int) -> None:
    """Searches level `number` (from 0) of about `levels`, which grows from `beams`."""
    job.start("skip", number + 1, levels)
    found = next_level(job.run, beams, job.settings.beam, job.choose)
    behind, gaps = None, {}
    if beams and job.settings.mode == "fast":
        behind, gaps = look_back(job.run, beams, found[0], job.choose, _expected_gaps(job, beams, found[0]))
    job.saved.add_level(found, behind, gaps, len(job.run.order))
    job.forecast.finished()


def _expected_gaps(job: Job, beams: list[Candidate], best: Candidate) -> dict[int, Estimate]:
    """Prior estimates for a look back from `best`: the gaps of the last look back, if that was from its parent."""
    if best.order[:-1] != beams[0].order:
        return {}
    return drifted(job.saved.look_back_gaps(len(beams[0].order) - 1), beams[0], best)


def _evaluations(job: Job, done: int, levels: int) -> int:
    """How many evaluations are left after `done` levels: the beam size times the sub-blocks left, a level; the fast
    mode looks back from the second level on."""
    count, dead = len(job.stack.subblocks), len(job.objective.dead)
    width, back = job.settings.beam or count, job.settings.mode == "fast"
    free = sum((width if n else 1) * (dead - n) for n in range(done, dead))  # as long as there are dead ones, only they
    ahead = range(max(done, dead), max(levels, done + 1))
    return free + sum((width if n > dead else 1) * (count - n) + (n if back else 0) for n in ahead)
