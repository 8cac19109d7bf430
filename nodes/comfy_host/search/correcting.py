"""The end of a search that was asked for corrections: the fit, and a side file beside the plans."""

from collections.abc import Callable
from dataclasses import replace

import comfy.model_management as mm
import torch

from ....skrr_engine.corrections.sites import FEWEST_PROMPTS, KINDS
from ....skrr_engine.digest import digest_json
from ....skrr_engine.disk import exists, write_atomically
from ....skrr_engine.errors import SkrrError
from ....skrr_engine.files.files import read_plan_file
from ....skrr_engine.jobs.correcting import USUAL, correct_level
from ....skrr_engine.measure.objective import Objective
from ....skrr_engine.plans.plan import Plan
from ....skrr_engine.plans.plan_json import CORRECTIONS, dumps
from ..clip.trees import TextEncoder
from ..encoders.added import stored_width
from ..files.folders import cache_folder, fit_folder
from ..files.side_files import check_side_name, has_side_file, keep_side_file, new_side_file
from .calibrating import TokenizedPrompts

__all__ = ["check_correctable", "corrected", "split"]

# Every fifth prompt chooses among what is fitted on the others.
PART = 5


def check_correctable(encoder: TextEncoder, prompts: TokenizedPrompts, name: str) -> None:
    """Raises SkrrError where a search could not end with corrections: before it, not hours later."""
    count = len(set(prompts.prompts))
    if count < PART * FEWEST_PROMPTS:
        raise SkrrError(
            f"Corrections need {PART * FEWEST_PROMPTS} different calibration prompts or more (better several hundred), "
            f"and these are {count}. Give Skrr Calibrate more, or switch corrections off."
        )
    if any(key.startswith(encoder.key_prefix) for key in encoder.clip.patcher.patches):
        raise SkrrError(
            f"The encoder {encoder.slot} carries a LoRA or merge, which would go into the corrections and come on top "
            "of them again. Put it behind Skrr Apply, or switch corrections off."
        )
    check_side_name(name)


def split(prompts: TokenizedPrompts) -> tuple[TokenizedPrompts, TokenizedPrompts]:
    """(those to fit on, those that choose): no text is in both."""
    order = {text: n for n, text in enumerate(dict.fromkeys(prompts.prompts))}
    chooses = [order[text] % PART == PART - 1 for text in prompts.prompts]
    return _some(prompts, [not one for one in chooses]), _some(prompts, chooses)


def _some(prompts: TokenizedPrompts, taken: list[bool]) -> TokenizedPrompts:
    texts, tokens = (
        tuple(one for one, wanted in zip(parts, taken, strict=True) if wanted)
        for parts in (prompts.prompts, prompts.tokens)
    )
    return replace(prompts, prompts=texts, tokens=tokens)


def corrected(
    plan: Plan,
    name: str,
    slot: str,
    prompts: TokenizedPrompts,
    objective_on: Callable[..., Objective],
    needed: bool = False,
) -> tuple[Plan, str]:
    """The largest level of `plan` with corrections, and a sentence about them; `objective_on` makes the objective over
    prompts. The same fit asked again is on disk, and one that was cancelled or killed goes on. Where no correction
    helps the plan stays plain; a set that `needed` some is then refused with a SkrrError."""
    fit, selection = map(objective_on, split(prompts))
    level, stack = plan.levels[-1], fit.stack
    if stack.feeder is not None:
        stack.feeder.dtype = None  # a fit needs all digits
    kinds = {kind: replace(KINDS[kind], stored=stored_width(stack.subblocks[0].output.weight)) for kind in USUAL}
    key = digest_json([fit.identity, selection.identity, dumps(plan.with_levels([level], name="")), slot, str(kinds)])
    path = cache_folder() / f"corrected-{key[:32]}.json"
    if exists(path):
        found = read_plan_file(path, {CORRECTIONS})
        if has_side_file(found.levels[0].corrections):
            return replace(found, name=name), _sentence(found)
    budget = int(mm.get_free_memory(torch.device("cpu")))
    side_file = new_side_file(name)
    folder = fit_folder(key[:32])
    made = correct_level(plan, level, slot, fit, selection, side_file, USUAL, kinds, budget, folder)
    if made.kind is None and needed:
        raise SkrrError(
            "No correction lowers the discrepancy on prompts it has not seen, and the connected plan cannot be applied "
            "without. Give Skrr Calibrate more prompts, or choose a plan without corrections."
        )
    if made.kind is None:
        return plan, f"{made.cost}\nNo correction lowers the discrepancy on prompts it has not seen: the plan is plain."
    kept = keep_side_file(side_file, name, made.plan.levels[0].corrections)
    write_atomically(path, dumps(made.plan).encode())
    return made.plan, f"{made.cost}\n{_sentence(made.plan)} Side file: {kept} in models/skrr."


def _sentence(plan: Plan) -> str:
    before, after = plan.search["corrections_discrepancy_before"], plan.levels[0].discrepancy["value"]
    return (
        f"Corrected: the discrepancy over prompts that nothing was fitted on is {after:.4g}, and was "
        f"{before:.4g} without. The plan is never applied without its corrections."
    )
