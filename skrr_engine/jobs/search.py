"""From an objective to a plan: Skip level by level, then Re-use for every level, stoppable and resumable."""

from collections.abc import Callable
from pathlib import Path

from ..errors import SkrrError
from ..measure.objective import Objective
from ..plans.plan import Plan
from ..running.deadline import TimeUp, until
from .job import Job
from .making_plans import plan_of
from .refining import refine_plan
from .reuse_phase import reuse_phase
from .settings import Settings
from .skip_phase import skip_phase

__all__ = ["Settings", "find_plan", "refine_plan"]


def find_plan(
    objective: Objective,
    settings: Settings,
    checkpoint_path: str | Path | None = None,
    record: dict | None = None,
    on_partial: Callable[[Plan], None] = lambda plan: None,
) -> Plan:
    """The ladder of the best sets, level by level up to the target, with Re-use.

    `checkpoint_path` is a file, or a folder in which the file is named by the search's fingerprint; None keeps
    nothing. `record` holds the plan's `denoiser`, `calibration` and `search` records. When the job is cancelled (the
    objective's report raises) or fails, what was found so far goes to `on_partial` before the exception goes on.
    When `settings.minutes` are over, what was found by then is the plan, with a note.
    """
    settings.check(objective.stack)
    job = Job(objective, settings, checkpoint_path)
    finished = False
    try:
        complete(job)
        finished = True
    finally:
        if not finished and job.saved.levels:
            on_partial(plan_of(job, record, f"{settings.name} (partial)"))
    return plan_of(job, record, settings.name)


def complete(job: Job) -> None:
    """Searches everything that is not on disk yet."""
    if job.saved.over:
        for level in range(job.saved.levels):
            job.level_done(job.saved.beams(level))
        return
    objective, report = job.objective, job.objective.report
    if job.deadline is not None and objective.ranks is None:
        objective.report = until(job.deadline, report)
    try:
        skip_phase(job)
        if job.settings.reuse:
            reuse_phase(job)
    except TimeUp:
        if not job.saved.levels:
            raise SkrrError(
                f"{job.settings.minutes:g} minutes were over before the first level was found. Give it more time, "
                "or a faster device."
            ) from None
    finally:
        objective.report = report
    if job.deadline is not None:
        job.saved.finish(len(job.run.order))
