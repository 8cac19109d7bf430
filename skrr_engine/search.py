"""From an objective to a plan: Skip level by level, Re-use for every level, stoppable and resumable."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from .beam import Candidate, next_level
from .checkpoint import Checkpoint
from .digest import digest_json
from .discrepancy import Discrepancy
from .errors import PlanError, SkrrError
from .events import LevelDone, Phase
from .execute import assign
from .objective import Objective
from .plan import EncoderInfo, Level, Plan, make_cut, make_level
from .reuse import find_reuse
from .sweep import measure_many

__all__ = ["Settings", "find_plan", "refine_plan"]


@dataclass(frozen=True)
class Settings:
    """What to search for. The search stops at the first level whose best set reaches both `sparsity` (0 to 1)
    and `bytes_saved` (of this encoder's storage). `beam` None keeps every set of a level."""

    slot: str
    sparsity: float = 0.4
    bytes_saved: int = 0
    beam: int | None = 3
    reuse: bool = True
    name: str = "my plan"


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
    """
    _check_target(objective, settings)
    fingerprint = digest_json([objective.identity, settings.beam, "skip-2"])
    state = Checkpoint(checkpoint_path, fingerprint)
    finished = False
    try:
        rungs = _skip(objective, settings, state)
        if settings.reuse:
            _reuse(objective, rungs, state)
        finished = True
    finally:
        if not finished and state.levels:
            partial = [_candidate(beams[0]) for beams in state.levels]
            on_partial(_plan(objective, settings, partial, state, record, f"{settings.name} (partial)"))
    return _plan(objective, settings, rungs, state, record, settings.name)


def _check_target(objective: Objective, settings: Settings) -> None:
    """Raises SkrrError saying the most that can be had, before any work is done."""
    architecture, blocks = objective.stack.architecture, objective.stack.subblocks
    if settings.beam is not None and settings.beam < 1:
        raise SkrrError(f"The beam size is {settings.beam}; expected 1 or more (3 as published).")
    if not (math.isfinite(settings.sparsity) and settings.sparsity >= 0 and settings.bytes_saved >= 0):
        raise SkrrError(f"The target is {settings.sparsity} and {settings.bytes_saved} bytes; expected 0 or more.")
    most = architecture.sparsity(range(len(blocks)))
    if settings.sparsity > most:
        raise SkrrError(
            f"A sparsity of {100 * settings.sparsity:.2f} % cannot be reached: with every sub-block skipped it is "
            f"{100 * most:.2f} %, the rest is embedding and final norm. Ask for less."
        )
    most_bytes = sum(block.bytes for block in blocks)
    if settings.bytes_saved > most_bytes:
        raise SkrrError(
            f"{settings.bytes_saved / 1e9:.3f} GB cannot be saved: all sub-blocks of this encoder together take "
            f"{most_bytes / 1e9:.3f} GB. Ask for less."
        )
    if settings.sparsity == 0 and settings.bytes_saved == 0:
        raise SkrrError("The target is 0; give a sparsity or a number of bytes to reach.")


def _reached(objective: Objective, settings: Settings, order) -> bool:
    saved = sum(objective.stack.subblocks[i].bytes for i in order)
    return objective.stack.architecture.sparsity(order) >= settings.sparsity and saved >= settings.bytes_saved


def _candidate(entry: dict) -> Candidate:
    fields = {name: entry["discrepancy"][name] for name in Discrepancy.__dataclass_fields__}
    return Candidate(tuple(entry["order"]), Discrepancy(**fields))


def _skip(objective: Objective, settings: Settings, state: Checkpoint) -> list[Candidate]:
    """The best set of every level up to the target; finished levels come from the checkpoint."""
    rungs: list[Candidate] = []
    beams: list[Candidate] = []
    objective.report(Phase("skip", _expected(objective, settings, len(state.levels))))
    while not rungs or not _reached(objective, settings, rungs[-1].order):
        if len(rungs) < len(state.levels):
            beams = [_candidate(entry) for entry in state.levels[len(rungs)]]
        else:
            beams = next_level(objective, beams, settings.beam)
            state.levels.append([{"order": b.order, "discrepancy": b.discrepancy.to_json()} for b in beams])
            state.save()
        rungs.append(beams[0])
        best, architecture = beams[0], objective.stack.architecture
        objective.report(LevelDone(len(best.order), architecture.sparsity(best.order), best.discrepancy.value))
    return rungs


def _expected(objective: Objective, settings: Settings, done: int) -> int:
    """About how many evaluations the Skip phase still takes: `beam` times the sub-blocks left, a level."""
    count = len(objective.stack.subblocks)
    share = max(settings.sparsity, settings.bytes_saved / max(1, objective.stack.total_bytes))
    levels = math.ceil(share * objective.stack.architecture.total_parameters * count / _all(objective))
    width = settings.beam or count
    return sum((width if n else 1) * (count - n) for n in range(done, max(levels, done + 1)))


def _all(objective: Objective) -> int:
    return objective.stack.architecture.parameters_of(range(len(objective.stack.subblocks)))


def _reuse(objective: Objective, rungs: list[Candidate], state: Checkpoint) -> None:
    """Re-use for every level, largest first: a job stopped half-way has what its user asked for."""
    left = [n for n in reversed(range(len(rungs))) if str(n) not in state.reuse]
    objective.report(Phase("re-use", sum(2 * len(rungs[n].order) for n in left)))
    for n in left:
        reuse, found = find_reuse(objective, rungs[n].order, rungs[n].discrepancy)
        state.reuse[str(n)] = {"pairs": sorted(reuse.items()), "discrepancy": found.to_json()}
        state.save()


def _plan(objective, settings: Settings, rungs: list[Candidate], state: Checkpoint, record, name: str) -> Plan:
    encoders = {settings.slot: EncoderInfo(objective.stack.architecture, objective.stack.sketch)}
    levels = []
    for n, rung in enumerate(rungs):
        found = state.reuse.get(str(n), {}) if settings.reuse else {}
        cut = make_cut(rung.order, dict(found.get("pairs", ())))
        levels.append(make_level(encoders, {settings.slot: cut}, found.get("discrepancy", rung.discrepancy.to_json())))
    return Plan(name, encoders, tuple(levels), **(record or {}))


def refine_plan(objective: Objective, plan: Plan, settings: Settings, record: dict | None = None) -> Plan:
    """Re-use for the level of `plan` that reaches the target, on this objective's prompts: about 2 evaluations
    a skipped sub-block. The result holds that level alone, with its pairs and its measured discrepancy: nothing is
    known of the others on these weights. Without re-use it is only measured."""
    slot, architecture = settings.slot, objective.stack.architecture
    if slot not in plan.encoders:
        raise PlanError(f"The plan to refine is for {', '.join(plan.encoders)}; the encoder to search is {slot}.")
    if len(plan.encoders) > 1:
        raise PlanError("The plan to refine cuts several encoders; refine a plan of one encoder.")
    differences = plan.encoders[slot].architecture.differences(architecture)
    if differences:
        raise PlanError(f"The plan to refine is for another encoder: {'; '.join(differences)}.")
    level = _first_reached(objective, plan, settings)
    order = level.cuts[slot].skip
    objective.report(Phase("re-use", 2 * len(order) + 1))
    if settings.reuse:
        reuse, found = find_reuse(objective, order)
    else:
        reuse = {}
        (found,) = measure_many(objective, [assign(len(objective.stack.subblocks), order)]).values()
    encoders = {slot: EncoderInfo(architecture, objective.stack.sketch)}
    refined = make_level(encoders, {slot: make_cut(order, reuse)}, found.to_json())
    note = f"The level of {100 * level.sparsity:.2f} % of plan {plan.name!r}, measured and refined on these weights."
    return Plan(settings.name, encoders, (refined,), (note,), **(record or {}))


def _first_reached(objective: Objective, plan: Plan, settings: Settings) -> Level:
    """The smallest level of `plan` that reaches both targets."""
    for level in plan.levels:
        if settings.slot in level.cuts and _reached(objective, settings, level.cuts[settings.slot].skip):
            return level
    plan.level_for(settings.sparsity)  # says the most there is, where the sparsity is out of reach
    raise SkrrError(f"No level of plan {plan.name!r} saves {settings.bytes_saved / 1e9:.3f} GB; ask for less.")
