"""From an objective to a plan: Skip level by level, Re-use for every level, stoppable and resumable."""

import time
from collections.abc import Callable
from itertools import zip_longest
from pathlib import Path

from ..digest import digest_json
from ..errors import PlanError, SkrrError
from ..events import Beam, LevelDone, Phase
from ..measure.discrepancy import Discrepancy
from ..measure.execute import assign
from ..measure.objective import Objective
from ..measure.sweep import measure_many
from ..plans.plan import EncoderInfo, Level, Plan, make_cut, make_level
from ..running.checkpoint import Checkpoint, packed, unpacked
from ..running.deadline import TimeUp, until
from ..running.prior import Estimate, Prior, widened
from ..running.run import Run
from ..search.beam import next_level
from ..search.candidate import Candidate
from ..search.exact import choose_exactly
from ..search.look_back import look_back
from ..search.racing import choose_by_racing
from ..search.reuse import Pair, reuse_for
from .forecast import Forecast
from .regret import prompts_in_time
from .settings import Settings

__all__ = ["Settings", "find_plan", "refine_plan"]

CHOOSERS = {"exact": choose_exactly, "fast": choose_by_racing}
# Part of the time that is planned for: a forecast can be too low.
PLANNED = 0.9


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
    job = _Search(objective, settings, checkpoint_path)
    finished = False
    try:
        job.go()
        finished = True
    finally:
        if not finished and job.state.levels:
            on_partial(job.plan(record, f"{settings.name} (partial)"))
    return job.plan(record, settings.name)


def _fingerprint(objective: Objective, settings: Settings) -> str:
    """Of all that a search depends on. The target is not in it: a longer search goes on from a shorter one. Only with
    a limit of time does it decide how many prompts are used."""
    timed = [settings.minutes, settings.sparsity, settings.bytes_saved, settings.reuse] if settings.minutes else []
    seed = settings.seed if settings.mode == "fast" or timed else 0
    products = str(objective.narrow) if settings.mode == "fast" else "wide"
    return digest_json([objective.identity, settings.beam, settings.mode, seed, timed, products, "skip-7"])


class _Search:
    """One call of `find_plan`: what is on disk, and the rest of the way."""

    def __init__(self, objective: Objective, settings: Settings, checkpoint_path: str | Path | None):
        self.objective, self.settings, self.stack = objective, settings, objective.stack
        ranks = objective.ranks
        first = ranks is None or ranks.rank == 0
        self.state = Checkpoint(checkpoint_path if first else None, _fingerprint(objective, settings))
        if ranks is not None:
            self.state.adopt(ranks.agreed(self.state.findings()))
        self.run = Run(objective, self.state, settings.seed, settings.mode == "fast")
        self.choose = CHOOSERS[settings.mode]
        self.forecast = Forecast(self.run, settings.beam, settings.mode == "fast")
        self.run.time_left = self.forecast.seconds_left
        self.deadline = time.monotonic() + 60 * settings.minutes if settings.minutes else None
        # Processes that search together find out together that the time is over: where they wait for each other.
        self.run.deadline = None if ranks is None else self.deadline

    def go(self) -> None:
        """Everything that is not on disk yet."""
        if self.state.over is not None:
            for entry in self.state.levels:
                self._level_done(_candidates(entry))
            return
        objective, report = self.objective, self.objective.report
        if self.deadline is not None and objective.ranks is None:
            objective.report = until(self.deadline, report)
        try:
            self._skip()
            if self.settings.reuse:
                self._reuse()
        except TimeUp:
            if not self.state.levels:
                raise SkrrError(
                    f"{self.settings.minutes:g} minutes were over before the first level was found. Give it more time, "
                    "or a faster device."
                ) from None
        finally:
            objective.report = report
        if self.deadline is not None:
            self.state.finish({"prompts": len(self.run.order)})

    def rungs(self) -> list[Candidate]:
        """The best set of every level on disk, as far as the target asks."""
        found: list[Candidate] = []
        for entry, following in zip_longest(self.state.levels, self.state.levels[1:]):
            best = _candidates(entry)[0]
            if self.settings.reached(self.stack, best.order):
                return [*found, best]
            better = following and following["behind"]
            found.append(_candidate(better) if better else best)
        return found

    def _skip(self) -> None:
        """Levels up to the target; finished ones come from the checkpoint."""
        beams: list[Candidate] = []
        opened = False
        while not (beams and self.settings.reached(self.stack, beams[0].order)):
            number = len(beams[0].order) if beams else 0
            if number == len(self.state.levels):
                levels = self.settings.levels(self.stack, beams[0].order if beams else ())
                if not opened:
                    self.objective.report(Phase("skip", self._evaluations(number, levels)))
                    opened = True
                self._ahead("skip", number + 1, levels)
                found = next_level(self.run, beams, self.settings.beam, self.choose)
                behind, parts = None, {}
                if beams and self.settings.mode == "fast":
                    parts = self._parts_behind(beams, found[0])
                    behind, parts = look_back(self.run, beams, found[0], self.choose, parts)
                entry = {"beams": [_entry(c) for c in found], "behind": behind and _entry(behind)}
                entry["parts"] = sorted(parts.items())
                self.state.add_level(entry | {"prompts": len(self.run.order)})
                self.forecast.finished()
            beams = _candidates(self.state.levels[number])
            self._level_done(beams)

    def _parts_behind(self, beams: list[Candidate], best: Candidate) -> dict[int, Estimate]:
        """What to expect of a look back from `best`, if it has grown out of the set from which was looked back last."""
        if best.order[:-1] != beams[0].order:
            return {}
        found = {out: Estimate(*part) for out, part in self.state.levels[len(beams[0].order) - 1]["parts"]}
        return widened(found, _growth(beams[0], best))

    def _parts_of_reuse(self, n: int, rungs: list[Candidate]) -> dict[Pair, Estimate]:
        """What to expect of re-use on a rung: what was found on the next larger one."""
        if n + 1 == len(rungs):
            return {}
        found = {tuple(pair): Estimate(*part) for pair, part in self.state.reuse[str(n + 1)]["parts"]}
        return widened(found, _growth(rungs[n], rungs[n + 1]))

    def _level_done(self, beams: list[Candidate]) -> None:
        best, run = beams[0], self.run
        run.beams = tuple(Beam(c.order, c.discrepancy.value) for c in beams)
        run.best, run.bytes_saved = best.discrepancy.value, sum(self.stack.subblocks[i].bytes for i in best.order)
        sparsity = self.stack.sparsity(best.order)
        self.objective.report(LevelDone(len(best.order), sparsity, run.best, run.bytes_saved, run.beams))

    def _reuse(self) -> None:
        """Re-use for every level, largest first: a job stopped half-way has what its user asked for."""
        rungs = self.rungs()
        left = [n for n in reversed(range(len(rungs))) if not self._reused(n, rungs[n])]
        if left:
            self.objective.report(Phase("re-use", sum(2 * (n + 1) for n in left)))
        for n in left:
            self._ahead("re-use", n + 1, len(rungs))
            parts = self._parts_of_reuse(n, rungs)
            pairs, found, parts = reuse_for(self.run, rungs[n].order, self.choose, rungs[n].errors, parts)
            entry = {"order": rungs[n].order, "pairs": sorted(pairs.items()), "parts": sorted(parts.items())}
            self.state.add_reuse(n, entry | {"discrepancy": found.to_json()})
            self.forecast.finished()

    def _reused(self, n: int, rung: Candidate) -> dict:
        """What is on disk of re-use for this rung. A longer search can have put another set in its place."""
        entry = self.state.reuse.get(str(n), {})
        return entry if entry and tuple(entry["order"]) == rung.order else {}

    def _ahead(self, phase: str, level: int, levels: int) -> None:
        """Tells the forecast what is to come, and takes as many prompts as fit into the time."""
        self.run.phase, self.run.level, self.run.levels = phase, level, levels
        skip = range(level, levels + 1) if phase == "skip" else ()
        reuse = range(levels if phase == "skip" else level, 0, -1) if self.settings.reuse else ()
        self.forecast.expect([*(("skip", n) for n in skip), *(("re-use", n) for n in reuse)])
        if self.deadline is not None:
            self.run.warm_up()
            seconds = PLANNED * (self.deadline - time.monotonic())
            rows = prompts_in_time(self.run.rows, seconds, self.forecast.seconds_left)
            self.run.limit(rows if self.objective.ranks is None else self.objective.ranks.agreed(rows))

    def _evaluations(self, done: int, levels: int) -> int:
        """How many evaluations the Skip phase still takes: `beam` times the sub-blocks left, a level; the fast mode
        looks back from the second on."""
        count = len(self.stack.subblocks)
        width, back = self.settings.beam or count, self.settings.mode == "fast"
        ahead = range(done, max(levels, done + 1))
        return sum((width if n else 1) * (count - n) + (n if back else 0) for n in ahead)

    def plan(self, record: dict | None, name: str) -> Plan:
        """What is on disk, as a plan."""
        settings, encoders = self.settings, _encoders(self.objective, self.settings)
        levels, rungs = [], self.rungs()
        for n, rung in enumerate(rungs):
            found = self._reused(n, rung) if settings.reuse else {}
            cut = make_cut(rung.order, dict(found.get("pairs", ())))
            discrepancy = found.get("discrepancy", rung.discrepancy.to_json())
            levels.append(make_level(encoders, {settings.slot: cut}, discrepancy))
        notes = () if self.state.over is None else (self._note(rungs),)
        return Plan(name, encoders, tuple(levels), notes, **(record or {}))

    def _note(self, rungs: list[Candidate]) -> str:
        """What a limit of time has meant."""
        prompts = sorted({entry["prompts"] for entry in self.state.levels[: len(rungs)]})
        used = "-".join(str(number) for number in dict.fromkeys((prompts[0], prompts[-1])))
        text = f"Searched for at most {self.settings.minutes:g} minutes, on {used} of {self.run.rows} prompts."
        if not self.settings.reached(self.stack, rungs[-1].order):
            text += " The time was over before the target was reached."
        elif self.settings.reuse and len(self.state.reuse) < len(rungs):
            text += f" Re-use was found for {len(self.state.reuse)} of {len(rungs)} levels."
        return text


def _growth(smaller: Candidate, larger: Candidate) -> float:
    """The part of its D by which D of `larger` differs from that of `smaller`."""
    return larger.discrepancy.value / smaller.discrepancy.value - 1 if smaller.discrepancy.value else 0.0


def _entry(candidate: Candidate) -> dict:
    """A set as it is on disk."""
    errors, prior = candidate.errors, candidate.prior
    return {
        "order": candidate.order,
        "discrepancy": candidate.discrepancy.to_json(),
        "errors": None if errors is None else packed(errors),
        "outlook": None if prior is None else {"gap": prior.gap, "children": packed(prior.children)},
    }


def _candidate(entry: dict) -> Candidate:
    """The set of an entry."""
    fields = {name: entry["discrepancy"][name] for name in Discrepancy.__dataclass_fields__}
    errors = None if entry["errors"] is None else unpacked(entry["errors"])
    prior = entry["outlook"] and Prior(entry["outlook"]["gap"], unpacked(entry["outlook"]["children"]))
    return Candidate(tuple(entry["order"]), Discrepancy(**fields), errors, prior)


def _candidates(level: dict) -> list[Candidate]:
    """The sets that a level on disk has kept."""
    return [_candidate(entry) for entry in level["beams"]]


def _encoders(objective: Objective, settings: Settings) -> dict[str, EncoderInfo]:
    return {settings.slot: EncoderInfo(objective.stack.architecture, objective.stack.sketch)}


def refine_plan(objective: Objective, plan: Plan, settings: Settings, record: dict | None = None) -> Plan:
    """Re-use for the level of `plan` that reaches the target, on this objective's prompts: about 2 evaluations a
    skipped sub-block, fewer in the fast mode, however many minutes that takes. The result holds that level alone, with
    its pairs and its measured discrepancy: nothing is known of the others on these weights. Without re-use it is only
    measured."""
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
        run = Run(objective, seed=settings.seed, fast=settings.mode == "fast")
        run.phase, run.level, run.levels = "re-use", len(order), len(order)
        forecast = Forecast(run, 1, settings.mode == "fast")
        forecast.expect([("re-use", len(order))])
        run.time_left = forecast.seconds_left
        reuse, found, _ = reuse_for(run, order, CHOOSERS[settings.mode])
    else:
        reuse = {}
        (found,) = measure_many(objective, [assign(len(objective.stack.subblocks), order)]).values()
    encoders = _encoders(objective, settings)
    refined = make_level(encoders, {slot: make_cut(order, reuse)}, found.to_json())
    note = f"The level of {100 * level.sparsity:.2f} % of plan {plan.name!r}, measured and refined on these weights."
    return Plan(settings.name, encoders, (refined,), (note,), **(record or {}))


def _first_reached(objective: Objective, plan: Plan, settings: Settings) -> Level:
    """The smallest level of `plan` that reaches both targets."""
    for level in plan.levels:
        if settings.slot in level.cuts and settings.reached(objective.stack, level.cuts[settings.slot].skip):
            return level
    plan.level_for(settings.sparsity)  # says the most there is, where the sparsity is out of reach
    raise SkrrError(f"No level of plan {plan.name!r} saves {settings.bytes_saved / 1e9:.3f} GB; ask for less.")
