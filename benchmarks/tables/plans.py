"""The plans that the tables compare: every method's search on one draw of calibration captions."""

from collections.abc import Iterable
from dataclasses import asdict, dataclass

from skrr_engine.baselines.finercut import finercut
from skrr_engine.baselines.laco import collapse
from skrr_engine.baselines.ladder import Rung, nearest
from skrr_engine.baselines.shortgpt import shortgpt
from skrr_engine.demo.pipeline import Pipeline
from skrr_engine.demo.world.scoring import calibration_captions
from skrr_engine.errors import SkrrError
from skrr_engine.jobs.search import Settings, find_plan
from skrr_engine.measure.calibration import Calibration
from skrr_engine.measure.objective import Objective
from skrr_engine.measure.projection import no_projection
from skrr_engine.opening.tokenizing import calibrate
from skrr_engine.search.reuse import find_reuse

from .variants import Variant

__all__ = ["Search", "calibration_of", "find_levels", "key_of"]

# A search goes on so far beyond its largest target that the nearest rung is not simply the last one.
BEYOND = 0.02


@dataclass(frozen=True)
class Search:
    """One method on one draw of `prompts` captions. `beam`, `projection`, `null_weight` and `mode` are Skrr's;
    `reuse` asks for Re-use on top of every target too, `targets` are sparsities."""

    method: str
    seed: int
    prompts: int
    targets: tuple[float, ...]
    reuse: bool = True
    beam: int = 3
    projection: bool = True
    null_weight: float = 1.0
    mode: str = "fast"

    def to_json(self) -> dict:
        """All that the result depends on, besides the weights."""
        captions = calibration_captions(self.prompts, self.seed)
        return {**asdict(self), "targets": list(self.targets), "captions": captions}


def key_of(target: float) -> str:
    """0.42 -> "42": the name of a target in cells."""
    return f"{100 * target:.0f}"


def calibration_of(pipeline: Pipeline, captions: Iterable[str]) -> Calibration:
    """The token rows of `captions`, and of the null prompt."""
    return calibrate(list(captions), pipeline.tokenizer, pipeline.encoder.stack.architecture)


def find_levels(pipeline: Pipeline, search: Search) -> dict:
    """{"levels": {target: entry}, "reused": {target: entry}}; an entry holds the variant's fields, "sparsity" and,
    where the search has an objective, "calibration" (its discrepancy there). Where no rung is near a target the
    entry is {"absent": why}."""
    calibration = calibration_of(pipeline, calibration_captions(search.prompts, search.seed))
    stack = pipeline.encoder.stack
    projection = pipeline.projection if search.projection else no_projection(("sequence",))
    objective = Objective(stack, calibration, projection, search.null_weight)
    rungs = _rungs(pipeline, search, calibration, objective)
    found: dict[str, dict] = {"levels": {}, "reused": {}}
    for target in search.targets:
        key = key_of(target)
        try:
            rung = nearest(rungs, target)
        except SkrrError as error:
            found["levels"][key] = found["reused"][key] = {"absent": str(error)}
            continue
        sources = getattr(rung, "sources", ())
        found["levels"][key] = {**Variant(rung.order, sources=sources).to_json(), "sparsity": rung.sparsity}
        if search.reuse:
            pairs, discrepancy = find_reuse(objective, rung.order)
            variant = Variant(rung.order, tuple(sorted(pairs.items())))
            entry = {"sparsity": rung.sparsity, "calibration": discrepancy.value}
            found["reused"][key] = {**variant.to_json(), **entry}
    return found


def _rungs(pipeline: Pipeline, search: Search, calibration: Calibration, objective: Objective) -> list[Rung]:
    stack, slot, most = pipeline.encoder.stack, pipeline.encoder.slot, max(search.targets) + BEYOND
    match search.method:
        case "skrr":
            settings = Settings(slot, most, beam=search.beam, reuse=False, mode=search.mode)
            plan = find_plan(objective, settings)
            return [Rung(level.cuts[slot].skip, level.sparsity) for level in plan.levels]
        case "finercut":
            return list(finercut(stack, calibration, most))
        case "shortgpt":
            return list(shortgpt(stack, calibration, most))
        case "laco":
            return list(collapse(stack, calibration, most).rungs)
    raise SkrrError(f"The method is {search.method!r}; expected skrr, finercut, shortgpt or laco.")
