"""From the results of a search to a plan: a level a rung, with its re-use, and a note where the time was limited."""

from ..measure.objective import Objective
from ..plans.plan import EncoderInfo, Plan, make_cut, make_level
from ..search.candidate import Candidate
from .job import Job
from .settings import Settings

__all__ = ["encoder_infos", "plan_of"]


def encoder_infos(objective: Objective, settings: Settings) -> dict[str, EncoderInfo]:
    """What a plan records about the encoder that was searched."""
    return {settings.slot: EncoderInfo(objective.stack.architecture, objective.stack.sketch)}


def plan_of(job: Job, record: dict | None, name: str) -> Plan:
    """What is on disk, as a plan."""
    settings, encoders = job.settings, encoder_infos(job.objective, job.settings)
    levels, rungs = [], job.rungs()
    for n, rung in enumerate(rungs):
        reuse = job.saved.reuse(n, rung.order) if settings.reuse else None
        pairs, discrepancy = ({}, rung.discrepancy.to_json()) if reuse is None else reuse
        levels.append(make_level(encoders, {settings.slot: make_cut(rung.order, pairs)}, discrepancy))
    notes = (_time_note(job, rungs),) if job.saved.over else ()
    return Plan(name, encoders, tuple(levels), notes, **(record or {}))


def _time_note(job: Job, rungs: list[Candidate]) -> str:
    """What the limit of time has meant for the plan."""
    settings, saved = job.settings, job.saved
    prompts = sorted({saved.prompts(level) for level in range(min(len(rungs), saved.levels))})
    used = "-".join(str(number) for number in dict.fromkeys((prompts[0], prompts[-1])))
    text = f"Searched for at most {settings.minutes:g} minutes, on {used} of {job.run.rows} prompts."
    if not job.reached(rungs[-1].order):
        text += " The time was over before the target was reached."
    elif settings.reuse and saved.levels_with_reuse < len(rungs):
        text += f" Re-use was found for {saved.levels_with_reuse} of {len(rungs)} levels."
    return text
