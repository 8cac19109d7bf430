"""Which cells there are, in the order of their worth: what is measured first when time is short."""

from dataclasses import dataclass, replace

from skrr_engine.baselines.magnitude import DENOISER, TEXT_ENCODER, fraction_for
from skrr_engine.baselines.random_plans import random_rung
from skrr_engine.baselines.rebuilt import state_of
from skrr_engine.encoders.stack import TextStack
from skrr_engine.plans.architecture import Architecture

from .drawing import Sizes
from .plans import Search, key_of
from .variants import Variant

__all__ = ["ABLATED", "METHODS", "TARGETS", "Drawing", "Job", "jobs"]

TARGETS = (0.25, 0.33, 0.42, 0.50)
ABLATED = 0.42
# Sparsities of random plans for the correlation alone: milder than any row of table 1.
MILD = (0.08, 0.16)
# Cells of a method are called "method/target/seed"; "+" is Re-use on top.
METHODS = ("shortgpt", "laco", "finercut", "skrr")


@dataclass(frozen=True)
class Drawing:
    """Pictures under a variant, or under the plan that the cell `plan` has found (`level`: where in it)."""

    per_task: int
    variant: Variant | None = None
    plan: str = ""
    level: tuple[str, str] = ("", "")


@dataclass(frozen=True)
class Job:
    """One cell. `work` is a Search, a Drawing, or the name of something measured once ("cost", "renders", …)."""

    name: str
    work: Search | Drawing | str


def jobs(stack: TextStack, sizes: Sizes) -> list[Job]:
    """All cells, each behind those that it needs."""
    architecture, whole, few = stack.architecture, sizes.per_task, sizes.few
    found = [
        Job("dense", Drawing(whole, Variant())),
        Job("renders", "renders"),
        Job("shuffled", "shuffled"),
        Job("all skipped", Drawing(whole, Variant(tuple(range(architecture.sub_blocks))))),
        Job("null caption", Drawing(whole, Variant(empty=True))),
    ]
    searches = {method: Search(method, 0, sizes.prompts, TARGETS, method != "laco") for method in METHODS}
    # The published search once; the others are fast, and how near that comes is measured too.
    exact = {**searches, "skrr": replace(searches["skrr"], mode="exact")}
    found += [Job(f"plan/{method}/0", search) for method, search in exact.items()]
    for target in (ABLATED, *(t for t in TARGETS if t != ABLATED)):
        found += _table_1(stack, target, whole)
        found += _random(architecture, target, sizes.random_plans if target == ABLATED else sizes.random_others, few)
        if target == ABLATED:
            found.append(Job("other noise", Drawing(whole, Variant(other_noise=True))))
            found += [Job("cost", "cost"), *_study(whole)]
    found.append(Job("plan/skrr, fast/0", replace(searches["skrr"], reuse=False)))
    found += [job for seed in range(1, sizes.seeds) for job in _other_draws(searches, seed, sizes.fewer)]
    found += [job for seed in range(sizes.seeds) for job in _ablations(searches["skrr"], seed, sizes.fewer)]
    found += [job for target in MILD for job in _random(architecture, target, sizes.spread // len(MILD), few)]
    return found


def _table_1(stack: TextStack, target: float, per_task: int) -> list[Job]:
    key = key_of(target)
    found = []
    for method in ("skrr", "finercut", "shortgpt", "laco"):
        if method == "skrr" or (target == ABLATED and method != "laco"):
            found.append(Job(f"{method}+/{key}/0", Drawing(per_task, None, f"plan/{method}/0", ("reused", key))))
        found.append(Job(f"{method}/{key}/0", Drawing(per_task, None, f"plan/{method}/0", ("levels", key))))
    # As many zeros as the other methods remove parameters.
    zeros = fraction_for(state_of(stack), target, stack.architecture.total_parameters)
    return [*found, Job(f"magnitude/{key}", Drawing(per_task, Variant(encoder_zeros=zeros)))]


def _study(per_task: int) -> list[Job]:
    """The rates on which "Efficient Pruning of Text-to-Image Models" settles, alone and together."""
    kinds = {"encoder": Variant(encoder_zeros=TEXT_ENCODER), "denoiser": Variant(denoiser_zeros=DENOISER)}
    kinds["both"] = replace(kinds["encoder"], denoiser_zeros=DENOISER)
    return [Job(f"study/{name}", Drawing(per_task, variant)) for name, variant in kinds.items()]


def _random(architecture: Architecture, target: float, count: int, per_task: int) -> list[Job]:
    plans = [random_rung(architecture, target, seed) for seed in range(count)]
    key = key_of(target)
    return [Job(f"random/{key}/{seed}", Drawing(per_task, Variant(rung.order))) for seed, rung in enumerate(plans)]


def _other_draws(searches: dict[str, Search], seed: int, per_task: int) -> list[Job]:
    """All methods on other calibration captions, at the one sparsity of the ablations."""
    key = key_of(ABLATED)
    found = []
    for method, search in searches.items():
        found.append(Job(f"plan/{method}/{seed}", replace(search, seed=seed, targets=(ABLATED,))))
        for mark, level in (("+", "reused"), ("", "levels")):
            if search.reuse or not mark:
                drawing = Drawing(per_task, None, f"plan/{method}/{seed}", (level, key))
                found.append(Job(f"{method}{mark}/{key}/{seed}", drawing))
    return found


def _ablations(search: Search, seed: int, per_task: int) -> list[Job]:
    """Skrr with one thing changed: the projection, the null term, the beam."""
    base, key = replace(search, seed=seed, targets=(ABLATED,)), key_of(ABLATED)
    changed = {
        "no projection": replace(base, projection=False),
        "no null term": replace(base, null_weight=0.0),
        **{f"beam {beam}": replace(base, beam=beam) for beam in (1, 2, 4)},
    }
    found = []
    for name, one in changed.items():
        found.append(Job(f"plan/{name}/{seed}", one))
        found.append(Job(f"{name}/{key}/{seed}", Drawing(per_task, None, f"plan/{name}/{seed}", ("reused", key))))
    return found
