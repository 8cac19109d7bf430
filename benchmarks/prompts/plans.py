"""Plans found on two sets of prompts, compared on one encoder: which sub-blocks they skip, and what each costs."""

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from skrr_engine.errors import SkrrError
from skrr_engine.events import Report, silent
from skrr_engine.files.prompt_files import clean_prompts
from skrr_engine.jobs.search import Settings, find_plan
from skrr_engine.measure.execute import assign
from skrr_engine.measure.objective import Objective
from skrr_engine.measure.projection import Projection
from skrr_engine.opening.open_encoder import OpenEncoder
from skrr_engine.opening.tokenizing import Tokenizer, calibrate
from skrr_engine.plans.plan import Plan

__all__ = ["Comparison", "compare_plans", "parts_of"]


@dataclass(frozen=True)
class Comparison:
    """What both searches have in common. `count` prompts to search on, `held_out` to measure on, of each set.
    `again` searches on a second part of the reference too: what two draws from one set differ by. `checkpoint` is a
    folder in which searches go on where they stopped."""

    encoder: OpenEncoder
    tokenizer: Tokenizer
    projection: Projection
    settings: Settings
    null_weight: float = 1.0
    min_length: int = 0
    count: int = 64
    held_out: int = 64
    again: bool = False
    seed: int = 0
    checkpoint: str | Path | None = None

    def objective(self, prompts: Sequence[str], report: Report = silent) -> Objective:
        """The discrepancy over `prompts`."""
        stack = self.encoder.stack
        rows = calibrate(prompts, self.tokenizer, stack.architecture, self.min_length)
        return Objective(stack, rows, self.projection, self.null_weight, report)


def parts_of(prompts: Sequence[str], sizes: Sequence[int], seed: int, name: str) -> list[tuple[str, ...]]:
    """Disjoint parts of `prompts`, drawn at random."""
    everything = list(clean_prompts(prompts))
    if len(everything) < sum(sizes):
        raise SkrrError(
            f"The {name} has {len(everything)} distinct prompts; {' + '.join(map(str, sizes))} are asked for. Ask "
            "for fewer with --count and --held-out."
        )
    random.Random(seed).shuffle(everything)
    starts = [sum(sizes[:n]) for n in range(len(sizes))]
    return [tuple(everything[start : start + size]) for start, size in zip(starts, sizes, strict=True)]


def compare_plans(asked: Comparison, ours: Sequence[str], reference: Sequence[str], report: Report = silent) -> dict:
    """Searches on each set; {"plans": their last levels, "levels": one entry a number of skipped sub-blocks}.

    Of a level: `overlap`, the share of sub-blocks that both plans skip, beside `by_chance`, that of two random sets
    of that size; `discrepancy` of every plan on the held-out prompts of every set, re-use included; `regret` on
    a set's held-out prompts: discrepancy of the plan found on the other set over that of the plan found on this
    set, less 1 (below 0: the other set's plan is the better one here too).
    """
    sizes = (asked.count, asked.held_out)
    found_on, held_out = {}, {}
    found_on["ours"], held_out["ours"] = parts_of(ours, sizes, asked.seed, "set")
    parts = parts_of(reference, (*sizes, asked.count) if asked.again else sizes, asked.seed, "reference")
    found_on["reference"], held_out["reference"] = parts[:2]
    if asked.again:
        found_on["again"] = parts[2]
    plans = {name: _find(asked, name, prompts, report) for name, prompts in found_on.items()}
    objectives = {name: asked.objective(prompts) for name, prompts in held_out.items()}
    ladders = {name: _by_size(plan, asked.settings.slot) for name, plan in plans.items()}
    common = sorted(set.intersection(*(set(ladder) for ladder in ladders.values())))
    sub_blocks = len(asked.encoder.stack.subblocks)
    rungs = [{name: ladder[n] for name, ladder in ladders.items()} for n in common]
    return {
        "plans": {name: sorted(ladder[max(ladder)][1].skip) for name, ladder in ladders.items()},
        "levels": [_level(rung, objectives, sub_blocks) for rung in rungs],
    }


def _find(asked: Comparison, name: str, prompts: Sequence[str], report: Report) -> Plan:
    return find_plan(asked.objective(prompts, report), replace(asked.settings, name=name), asked.checkpoint)


def _by_size(plan: Plan, slot: str) -> dict:
    """Sub-blocks skipped -> (sparsity, cut)."""
    return {len(level.cuts[slot].skip): (level.sparsity, level.cuts[slot]) for level in plan.levels}


def _level(rungs: dict, objectives: dict, sub_blocks: int) -> dict:
    skipped = {name: set(cut.skip) for name, (_, cut) in rungs.items()}
    size = len(skipped["ours"])
    measured = {
        name: {on: o.measure(assign(sub_blocks, cut.skip, cut.reuse_map)).value for on, o in objectives.items()}
        for name, (_, cut) in rungs.items()
    }

    def against(other: str, own: str, on: str) -> dict:
        return {"overlap": len(skipped[other] & skipped[own]) / size, "regret": _regret(measured, other, own, on)}

    found = {
        "skipped": size,
        "sparsity": {name: sparsity for name, (sparsity, _) in rungs.items()},
        "by_chance": size / sub_blocks,
        "discrepancy": measured,
        "ours_for_reference": against("ours", "reference", "reference"),
        "reference_for_ours": against("reference", "ours", "ours"),
    }
    if "again" in rungs:
        found["again_for_reference"] = against("again", "reference", "reference")
    return found


def _regret(measured: dict, other: str, own: str, on: str) -> float | None:
    """None where the own plan costs nothing, so that there is no ratio."""
    return measured[other][on] / measured[own][on] - 1 if measured[own][on] else None
