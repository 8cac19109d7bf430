"""How much work and time the search saves: `python -m benchmarks.search` prints one JSON object.

(a) The trained small encoder (the demo's, or --encoder, --tokenizer, --denoiser, --prompts-file): exact and fast mode
    against the published search, Skip and Re-use. The published search's work is its closed form (tests hold it to a
    run); its time is extrapolated from whole evaluations measured in this run (`measured`). `ceiling` is the exact
    mode with every level's threshold and hard prompts known in advance (a trial of Re-use's always is): what no exact
    trick of this kind can beat. `quality` compares the fast plans' discrepancy on held-out prompts with the exact
    plans', over several calibration draws, and the exact plans of two draws with each other.
(b) A random T5, 24 layers, 512 wide: the published search is really run, exact and fast beside it; equality and time.
    Random weights abandon little, so ratios are lower here.
`small` runs the published search and the exact mode side by side on small float64 encoders. `projection` counts what
    (a)'s ratios would make of the paper's full setting; it is not measured.

Work is sub-block x token applications, dense features included. Seconds are wall time, cpu_seconds this process's own;
of `quality`'s further draws they mean little where --workers run side by side. Every finished draw is told on stderr.
Threads wait for each other often: set OMP_WAIT_POLICY=active in the environment, or two may be slower than one.
"""

import argparse
import json
import resource
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from itertools import permutations
from multiprocessing import get_context
from pathlib import Path

import torch

from benchmarks.search.cases import RandomCase, TrainedCase, by_size
from skrr_engine.demo.layout import DENOISER, ENCODER, TOKENIZER, WEIGHTS
from skrr_engine.disk import write_atomically
from skrr_engine.events import LevelDone, Notice, Progress
from skrr_engine.jobs.search import Settings, find_plan
from skrr_engine.measure.execute import assign
from skrr_engine.measure.objective import Objective
from skrr_engine.measure.sweep import measure_many
from skrr_engine.plans.plan import Plan
from skrr_engine.plans.plan_json import dumps, loads
from skrr_engine.running.run import Run
from skrr_engine.running.trial import Trial
from skrr_engine.search.beam import next_level
from skrr_engine.search.exact import choose_exactly
from skrr_engine.search.reference import algorithm_1, algorithm_2
from skrr_engine.search.work import dense_work, published_work, reuse_work, skip_work

SLOT, BEAM = "t5xxl", 3
PAPER = {"sub_blocks": 48, "levels": 24, "beam": 3, "prompts": 1000}


class Watch:
    """Listens to a search: levels, notices, and how good its estimates of the time left were."""

    def __init__(self, objective: Objective):
        self.objective, self.skip_work = objective, 0
        self.levels, self.notices, self.estimates, self.began = [], [], [], time.monotonic()

    def __call__(self, event) -> None:
        match event:
            case LevelDone(beams=beams):
                self.levels.append([beam.order for beam in beams])
                self.skip_work = self.objective.applications
            case Notice(text=text):
                self.notices.append(text)
            case Progress(seconds_left=float(left)):
                self.estimates.append((time.monotonic() - self.began, left))

    def told(self, seconds: float) -> dict:
        """At a quarter, half and three quarters of the time: the estimate ÷ what it really took from there on."""
        found = {}
        for part in (0.25, 0.5, 0.75):
            at = [(then, left) for then, left in self.estimates if then <= part * seconds]
            if at:
                found[str(part)] = round(at[-1][1] / (seconds - at[-1][0]), 2)
        return found


class Meter:
    """Wall time, this process's time and peak memory of a `with` block. The peak is Linux's only; else None."""

    def __enter__(self):
        self.resident = _status("VmRSS")
        clear = Path("/proc/self/clear_refs")
        if clear.exists():
            clear.write_text("5")  # forget the peak so far
        self.wall, self.cpu = time.monotonic(), time.process_time()
        return self

    def __exit__(self, *error):
        self.wall, self.cpu = time.monotonic() - self.wall, time.process_time() - self.cpu
        self.peak = None if self.resident is None else _status("VmHWM") - self.resident

    def figures(self) -> dict:
        return {"seconds": round(self.wall, 2), "cpu_seconds": round(self.cpu, 2), "peak_bytes": self.peak}


def _status(name: str) -> int | None:
    path = Path("/proc/self/status")
    if not path.exists():
        return None
    line = next(line for line in path.read_text().splitlines() if line.startswith(name))
    return int(line.split()[1]) * 1024


def searched(
    objective: Objective, mode: str, sparsity: float, reuse: bool, file: Path | None = None
) -> tuple[Plan, list, dict]:
    """A plan, the sets kept by its levels, and its work and time. What an earlier run has left in `file` is taken from
    there."""
    settings = Settings(SLOT, sparsity, beam=BEAM, reuse=reuse, mode=mode)
    asked = [objective.identity, repr(settings)]
    if file is not None and file.is_file():
        found = json.loads(file.read_text(encoding="utf-8"))
        if found["asked"] == asked:
            return loads(found["plan"]), found["levels"], found["figures"]
    objective.report = watch = Watch(objective)
    with Meter() as meter:
        plan = find_plan(objective, settings)
    figures = {
        "work": objective.applications, "skip_work": watch.skip_work, **meter.figures(),
        "time_estimates": watch.told(meter.wall), "notices": watch.notices,
    }  # fmt: skip
    if file is not None:
        found = {"asked": asked, "plan": dumps(plan), "levels": watch.levels, "figures": figures}
        write_atomically(file, json.dumps(found).encode())
    return plan, watch.levels, figures


def reference_work(objective: Objective, plan: Plan, levels: list, reuse: bool) -> dict:
    """The closed form of the published search that ends in the same sets."""
    count, tokens = len(objective.stack.subblocks), objective.tokens
    found = {"dense": dense_work(count, tokens), "skip": skip_work(count, tokens, levels), "reuse": 0}
    for level in plan.levels if reuse else ():
        cut = level.cuts[SLOT]
        found["reuse"] += reuse_work(count, tokens, cut.skip, cut.reuse_map)
    return {**found, "total": sum(found.values())}


def seconds_per_work(objective: Objective, plan: Plan, evaluations: int) -> dict:
    """The rate of the published way: whole evaluations, one after the other, spread over the levels."""
    count = len(objective.stack.subblocks)
    chosen = [plan.levels[n * len(plan.levels) // evaluations] for n in range(evaluations)]
    for portion in objective.portions:
        objective.dense(portion)
    before = objective.applications
    with Meter() as meter:
        for level in chosen:
            objective.measure(assign(count, level.cuts[SLOT].skip))
    work = objective.applications - before
    return {"evaluations": evaluations, "work": work, **meter.figures()}


def ceiling(case, prompts: int, levels: list) -> dict:
    """Skip with every level's threshold and hard prompts known in advance."""
    objective = case.objective(prompts, 0)
    count, run, beams = len(objective.stack.subblocks), Run(case.objective(prompts, 0)), []
    for kept in levels:
        trials = [Trial(objective, assign(count, order)) for order in kept]
        known = Run(objective)
        known.measure_null(trials)
        known.measure(trials, known.order)
        bound, errors = max(known.discrepancy(t).value for t in trials), sum(t.squared for t in trials)
        beams = next_level(run, beams, BEAM, lambda r, t, k, b=bound, e=errors: choose_exactly(r, t, k, b, e))
    return {"work": run.work}


def held_out(case, *plans: Plan) -> list[list[float]]:
    """The discrepancy on held-out prompts of every level of each plan, by the number of sub-blocks skipped."""
    count, objective = len(case.stack.subblocks), case.held_out
    places = [[assign(count, cut.skip, cut.reuse_map) for cut in by_size(plan, SLOT).values()] for plan in plans]
    found = measure_many(objective, {place for level in places for place in level})
    return [[found[place].value for place in level] for level in places]


def over(values: list[float], others: list[float]) -> list[float]:
    """Level by level: `values` over `others`, minus 1."""
    return [round(one / other - 1, 5) for one, other in zip(values, others, strict=False)]


def make_case(options):
    """The encoder of (a), with prompts held out as `held_out`."""
    if not options.small:
        denoiser = None if str(options.denoiser) == "none" else options.denoiser
        return TrainedCase(options.encoder, options.tokenizer, denoiser, options.prompts_file, options.held_out)
    case = RandomCase(4, 32)
    case.held_out = case.objective(options.held_out, 99)
    return case


def one_draw(case, draw: int, options) -> tuple[dict, Plan, list]:
    """Exact and fast search of one draw: figures with work ratios and the excess; the exact plan; its levels."""
    plans, levels, every = {}, {}, {}
    for mode in ("exact", "fast"):
        file = None if options.folder is None else options.folder / f"{mode}-{draw}.json"
        objective = case.objective(options.prompts, draw)
        plans[mode], levels[mode], every[mode] = searched(objective, mode, options.sparsity, options.reuse, file)
    work = reference_work(objective, plans["exact"], levels["exact"], options.reuse)
    for figures in every.values():
        figures["work_ratio"] = round(work["total"] / figures["work"], 2)
        figures["skip_work_ratio"] = round((work["skip"] + work["dense"]) / figures["skip_work"], 2)
    values = dict(zip(plans, held_out(case, *plans.values()), strict=True))
    found = {"excess": over(values["fast"], values["exact"]), "held_out": values, **every}
    print(f"draw {draw}: {json.dumps(found)}", file=sys.stderr)
    return found | {"reference_work": work}, plans["exact"], levels["exact"]


def untimed(job: tuple) -> dict:
    """What only counts: the ceiling of given levels, or a further draw. In a process of its own, or in this one."""
    options, draw, levels = job
    case = make_case(options)
    return ceiling(case, options.prompts, levels) if levels else one_draw(case, draw, options)[0]


def trained(options) -> dict:
    """(a)."""
    case = make_case(options)
    first, exact, levels = one_draw(case, 0, options)
    objective, work = case.objective(options.prompts, 0), first.pop("reference_work")
    measured = seconds_per_work(objective, exact, options.evaluations)
    reference = {"work": work, "measured": measured}
    result = {
        "encoder": case.name, "identity": case.stack.identity, "prompts": options.prompts,
        "tokens": objective.tokens, "levels": len(exact.levels), "reference": reference,
        "exact": first["exact"], "fast": first["fast"],
    }  # fmt: skip
    for kind in ("seconds", "cpu_seconds"):
        reference[f"{kind}_extrapolated"] = round(work["total"] * measured[kind] / measured["work"], 1)
        for mode in ("exact", "fast"):
            figures = result[mode]
            figures[f"{kind}_ratio"] = round(reference[f"{kind}_extrapolated"] / figures[kind], 2)
    jobs = [(options, 0, levels)] * options.ceiling + [(options, draw, None) for draw in range(1, options.draws)]
    if options.workers > 1:
        with ProcessPoolExecutor(options.workers, get_context("spawn"), torch.set_num_threads, (1,)) as pool:
            others = list(pool.map(untimed, jobs))
    else:
        others = list(map(untimed, jobs))
    if options.ceiling:
        least, reused = others.pop(0)["work"], first["exact"]["work"] - first["exact"]["skip_work"]
        result["ceiling"] = {
            "skip_ratio": round((work["skip"] + work["dense"]) / least, 2),
            "ratio": round(work["total"] / (least + reused), 2),
        }  # fmt: skip
    draws = [first, *others]
    every = [value for draw in draws for value in draw["excess"]]
    # How much a plan depends on the draw alone: the exact plans of two draws, on the same held-out prompts.
    exact = [draw["held_out"]["exact"] for draw in draws]
    apart = [value for one, other in permutations(exact, 2) for value in over(one, other)]
    result["quality"] = {
        "held_out": len(case.held_out.calibration.prompts), "mean_excess": round(sum(every) / len(every), 5),
        "worst_level": max(every), "above_5_percent": _share_above(every, 0.05),
        "exact_of_two_draws": {"worst_level": max(apart, default=0), "above_5_percent": _share_above(apart, 0.05)},
        "draws": draws,
    }  # fmt: skip
    return result


def _share_above(values: list[float], limit: float) -> float:
    return round(sum(value > limit for value in values) / max(1, len(values)), 4)


def side_by_side(objective_of, levels: int) -> dict:
    """The published search, run; exact and fast beside it, on as many levels."""
    objective = objective_of()
    objective.report = lambda event: None
    with Meter() as meter:
        reference = algorithm_1(objective, BEAM, levels)
        reused = [algorithm_2(objective, order) for order, _ in reference]
    architecture = objective.stack.architecture
    found = {"reference": {"work": objective.applications, **meter.figures()}}
    for mode in ("exact", "fast"):
        plan, _, figures = searched(objective_of(), mode, architecture.sparsity(reference[-1][0]), True)
        ours = by_size(plan, SLOT).values()
        figures["equal"] = [(cut.skip, cut.reuse_map) for cut in ours] == [
            (order, pairs) for (order, _), (pairs, _) in zip(reference, reused, strict=True)
        ]
        figures["work_ratio"] = round(objective.applications / figures["work"], 2)
        figures["seconds_ratio"] = round(meter.wall / figures["seconds"], 2)
        found[mode] = figures
    return found


def small_equality(seeds: int) -> dict:
    """How many of `seeds` small random encoders in float64 give the published plan."""
    same = 0
    for seed in range(seeds):
        case = RandomCase(3, 32, seed, torch.float64)
        same += side_by_side(lambda case=case, seed=seed: case.objective(6, seed), 3)["exact"]["equal"]
    return {"encoders": seeds, "equal": same}


def projection(result: dict) -> dict:
    """The paper's setting, Skip alone, by the ratios of (a)."""
    work = published_work(PAPER["sub_blocks"], 1, PAPER["beam"], PAPER["levels"])
    ratios = {mode: result[mode]["skip_work_ratio"] for mode in ("exact", "fast")}
    passes = {"published": work, **{mode: work / ratio for mode, ratio in ratios.items()}}
    return {
        "what": "PROJECTED, not measured: Skip in the paper's setting by the work ratios of the trained small encoder",
        "setting": PAPER,
        "dense_passes": {name: round(value / PAPER["sub_blocks"], 1) for name, value in passes.items()},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--encoder", type=Path, default=WEIGHTS / ENCODER)
    parser.add_argument("--tokenizer", type=Path, default=WEIGHTS / TOKENIZER)
    parser.add_argument("--denoiser", type=Path, default=WEIGHTS / DENOISER, help="the projection's file; 'none': none")
    parser.add_argument("--prompts-file", type=Path, help="text or JSON lines (default: captions of the demo)")
    parser.add_argument("--prompts", type=int, default=400)
    parser.add_argument("--held-out", type=int, default=1000)
    parser.add_argument("--draws", type=int, default=5)
    parser.add_argument("--sparsity", type=float, default=0.4)
    parser.add_argument("--evaluations", type=int, default=8, help="of the published way, to time it")
    parser.add_argument("--no-reuse", dest="reuse", action="store_false")
    parser.add_argument("--no-ceiling", dest="ceiling", action="store_false")
    parser.add_argument("--random-prompts", type=int, default=48)
    parser.add_argument("--random-levels", type=int, default=2)
    parser.add_argument("--folder", type=Path, help="keeps the searches of (a), for another run of the same code")
    parser.add_argument("--workers", type=int, default=1, help="processes of one thread for what is not timed")
    parser.add_argument("--only", choices=("trained", "random", "small"))
    parser.add_argument("--small", action="store_true", help="a test: random encoders in both places, seconds")
    options = parser.parse_args()
    if options.small:
        options.prompts, options.held_out, options.draws, options.evaluations = 24, 12, 1, 2
        options.random_prompts, options.random_levels = 6, 2
    found = {"threads": torch.get_num_threads(), "torch": torch.__version__}
    if options.only in (None, "random"):
        case = RandomCase(*((4, 32) if options.small else (24, 512)))
        found["random"] = {"encoder": case.name, "prompts": options.random_prompts, "levels": options.random_levels}
        found["random"] |= side_by_side(lambda: case.objective(options.random_prompts, 0), options.random_levels)
    if options.only in (None, "small"):
        found["small"] = small_equality(2 if options.small else 20)
    if options.only in (None, "trained"):
        found["trained"] = trained(options)
        found["projection"] = projection(found["trained"])
    found["peak_resident_bytes"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    print(json.dumps(found, indent=1))
