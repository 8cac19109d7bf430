"""What a cell leaves out where it is not the fast search's choice: a search with stand-ins, or chance."""

from collections.abc import Mapping

from benchmarks.tables.plans import calibration_of, key_of
from skrr_engine.baselines.ladder import Rung, nearest
from skrr_engine.baselines.random_plans import random_like
from skrr_engine.corrections.stand_ins import fit_stand_ins
from skrr_engine.demo.pipeline import Pipeline
from skrr_engine.measure.objective import Objective
from skrr_engine.search.with_stand_ins import Level, polish, search_with_stand_ins

__all__ = ["STAND_IN_FIT", "random_levels", "stand_in_levels"]

# Captions that the stand-ins are fitted on: maps of rank 16 have few free numbers.
STAND_IN_FIT = 600


def stand_in_levels(pipeline: Pipeline, fit: list[str], searched: list[str], targets) -> dict:
    """{"levels": {target: {"order", "sparsity"}}}: the plans of a search that compares candidates with a stand-in,
    fitted on the captions `fit`, at every skipped place, on the captions `searched`; each polished."""
    made = fit_stand_ins(_objective(pipeline, fit))
    objective = _objective(pipeline, searched)
    levels = search_with_stand_ins(objective, made, max(targets))
    rungs = {Rung(level.order, level.sparsity): level for level in levels}
    found = {}
    for target in targets:
        level: Level = polish(objective, made, rungs[nearest(tuple(rungs), target)])
        found[key_of(target)] = {"order": list(level.order), "sparsity": level.sparsity}
    return {"levels": found}


def random_levels(pipeline: Pipeline, levels: Mapping[str, Mapping], seed: int) -> dict:
    """For every level of a search, as many attentions and feed-forwards by chance."""
    shape = pipeline.encoder.stack.architecture
    drawn = {key: random_like(shape, one["order"], seed) for key, one in levels.items() if "absent" not in one}
    found = {key: {"order": list(rung.order), "sparsity": rung.sparsity} for key, rung in drawn.items()}
    return {"levels": {**levels, **found}}


def _objective(pipeline: Pipeline, captions: list[str]) -> Objective:
    return Objective(pipeline.encoder.stack, calibration_of(pipeline, captions), pipeline.projection)
