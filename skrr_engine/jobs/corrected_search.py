"""A search that knows of corrections, as a job: stand-ins, levels, a polish, and the fit that its set needs.

Everything that was measured is in a journal, so that a search that was stopped goes on where it was; stand-ins are
fitted again, one pass. What is found is handed out with its corrections or not at all: without them it is ruinous.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

from ..corrections.sites import KINDS, RANK, check_prompts
from ..corrections.sites import Settings as FitSettings
from ..corrections.stand_ins import fit_stand_ins
from ..digest import digest_json
from ..errors import SkrrError
from ..events import Phase
from ..measure.objective import Objective
from ..plans.plan import Plan, make_cut, make_level
from ..running.checkpoint import Checkpoint
from ..search.with_stand_ins import polish, search_with_stand_ins
from .correcting import USUAL, CorrectedPlan, correct_level
from .making_plans import encoder_infos
from .settings import Settings

__all__ = ["find_corrected_plan"]

# Raised when the same search finds something else than before.
MEANING = 1


def find_corrected_plan(
    searched: Objective,
    fit: Objective,
    selection: Objective,
    settings: Settings,
    side_file: str | Path,
    checkpoint_path: str | Path | None = None,
    record: dict | None = None,
    kinds: Sequence[str] = USUAL,
    fits: Mapping[str, FitSettings] = KINDS,
    budget: int | None = None,
    fit_folder: str | Path | None = None,
) -> CorrectedPlan:
    """A plan of one level that reaches the target of `settings`, and its corrections in `side_file`. Sets are compared
    on the prompts of `searched`, with stand-ins fitted on those of `fit`; then the best one is corrected as in
    `correct_level`, which `selection`, `kinds`, `fits`, `budget` and `fit_folder` are for. All three objectives are on
    one stack.

    `checkpoint_path` and `record` as in `find_plan`. Raises SkrrError where the fit does not help: there is no plan
    then. Of `settings` only the slot, the target and the name count.
    """
    settings.check(searched.stack)
    if searched.stack is not fit.stack:
        raise SkrrError("The search and its fit are on two encoders; build all objectives on one stack.")
    check_prompts(fit, selection)
    if fit.stack.feeder is not None:
        fit.stack.feeder.dtype = None  # a fit needs all digits
    journal = Checkpoint(checkpoint_path, _fingerprint(searched, fit))
    stand_ins = fit_stand_ins(fit)
    levels = search_with_stand_ins(
        searched, stand_ins, settings.sparsity, bytes_saved=settings.bytes_saved, ask=journal.once
    )
    searched.report(Phase("polish", 2 * len(levels[-1].order) * len(searched.stack.subblocks)))
    best = polish(searched, stand_ins, levels[-1], ask=journal.once)
    encoders = encoder_infos(searched, settings)
    bare = make_level(encoders, {settings.slot: make_cut(best.order)})
    about = {**(record or {}).get("search", {}), "mode": "corrected", "beam": 1, "reuse": False, "stand_ins_rank": RANK}
    plan = Plan(settings.name, encoders, (bare,), **{**(record or {}), "search": about})
    made = correct_level(plan, bare, settings.slot, fit, selection, side_file, kinds, fits, budget, fit_folder)
    if made.kind is None:
        raise SkrrError(
            "The corrections do not lower the discrepancy on prompts that they were not fitted on, and the sub-blocks "
            "that this search removes cannot go without. Give it more prompts, ask for less, or search without "
            "corrections."
        )
    return made


def _fingerprint(searched: Objective, fit: Objective) -> str:
    """A digest of all that the search depends on. The target is not in it: a longer search goes on from a shorter."""
    return digest_json([MEANING, searched.identity, fit.identity, RANK, list(searched.dead)])
