"""`search` where corrections are asked for: three sets of prompts, the fit, and a side file beside the plan."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from ..corrections.side_file import keep_beside
from ..corrections.sites import FEWEST_PROMPTS, KINDS
from ..errors import SkrrError
from ..jobs.corrected_search import find_corrected_plan
from ..jobs.correcting import USUAL, CorrectedPlan, correct_level
from ..jobs.settings import Settings
from ..measure.objective import Objective
from ..plans.plan import Plan

__all__ = ["CORRECTED", "Prompts", "check", "correct", "find", "keep", "kinds", "split"]

# The mode that compares sets as if each had been corrected.
CORRECTED = "corrected"
# Every fifth prompt chooses among what is fitted on the others.
PART = 5


@dataclass(frozen=True)
class Prompts:
    """Those that the search compares on, those of the fit, and those that choose; no text is in the last and in
    another."""

    searched: tuple[str, ...]
    fit: tuple[str, ...]
    selection: tuple[str, ...]


def check(args, processes: bool) -> None:
    """Raises SkrrError where corrections cannot be had."""
    if processes:
        raise SkrrError("Corrections are fitted by one process. Start it without torchrun.")
    if args.mode == CORRECTED and args.minutes:
        raise SkrrError(f"--mode {CORRECTED} takes its time; leave --minutes out, or search with --mode fast.")
    if args.mode == CORRECTED and args.refine:
        raise SkrrError(f"--mode {CORRECTED} finds its own set; leave --refine out, or say --corrections instead.")


def split(texts: Sequence[str], limit: int) -> Prompts:
    """`texts` in three sets: the search takes at most `limit`, the fit all but those that choose."""
    if len(texts) < PART * FEWEST_PROMPTS:
        raise SkrrError(
            f"Corrections need {PART * FEWEST_PROMPTS} different prompts or more (better several hundred), and these "
            f"are {len(texts)}. Give more with --prompts."
        )
    fit = tuple(text for n, text in enumerate(texts) if n % PART != PART - 1)
    searched = fit if len(fit) <= limit else tuple(fit[n * len(fit) // limit] for n in range(limit))
    return Prompts(searched, fit, tuple(texts[PART - 1 :: PART]))


def kinds(stored: torch.dtype) -> dict:
    """The usual kinds, what is fitted kept as wide as the encoder's file."""
    return {name: replace(KINDS[name], stored=stored) for name in USUAL}


def find(
    searched: Objective, objective_on: Callable, prompts: Prompts, settings: Settings, args, record: dict, fits: dict
) -> CorrectedPlan:
    """The search that knows of corrections; its side file lies at `unnamed`."""
    fit, selection = objective_on(prompts.fit), objective_on(prompts.selection)
    path, folder = args.checkpoint, _fit_folder(args)
    return find_corrected_plan(
        searched, fit, selection, settings, unnamed(args), path, record, fits=fits, fit_folder=folder
    )


def correct(
    plan: Plan, objective_on: Callable, prompts: Prompts, settings: Settings, args, fits: dict
) -> CorrectedPlan:
    """The largest level of `plan`, corrected."""
    fit, selection = objective_on(prompts.fit), objective_on(prompts.selection)
    return correct_level(
        plan, plan.levels[-1], settings.slot, fit, selection, unnamed(args), USUAL, fits, None, _fit_folder(args)
    )


def _fit_folder(args) -> Path | None:
    """Beside the search's own file."""
    return None if args.checkpoint is None else Path(f"{args.checkpoint}.fit")


def unnamed(args) -> Path:
    """Where the side file is until its digest is known."""
    out = Path(args.out)
    return out.with_name(f".{out.stem}.fitted.safetensors")


def keep(made: CorrectedPlan, args) -> str:
    """Names the side file by its digest, as ComfyUI's nodes look for it; a sentence about it."""
    before = made.plan.search.get("corrections_discrepancy_before")
    if made.kind is None:
        return "No correction lowers the discrepancy on prompts it has not seen: the plan is plain."
    (level,), out = made.plan.levels, Path(args.out)
    side = keep_beside(unnamed(args), out.parent, out.stem, level.corrections)
    return (
        f"Corrected: the discrepancy over prompts that nothing was fitted on is {level.discrepancy['value']:.4g}, and "
        f"was {before:.4g} without. Side file: {side}; put it and the plan into ComfyUI's models/skrr. The plan is "
        "never applied without it."
    )
