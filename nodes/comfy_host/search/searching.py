"""Runs a search or a refinement for one encoder of a CLIP, with ComfyUI's cancel, cache and folders around it."""

import logging
from contextlib import nullcontext
from dataclasses import replace
from functools import partial

import comfy.model_management as mm
import torch

from ....skrr_engine.digest import digest_json
from ....skrr_engine.disk import exists, write_atomically
from ....skrr_engine.errors import PlanError, SkrrError
from ....skrr_engine.events import silent
from ....skrr_engine.files.files import read_plan_file
from ....skrr_engine.jobs.search import Settings, find_plan, refine_plan
from ....skrr_engine.measure.objective import Objective
from ....skrr_engine.plans.plan import Plan
from ....skrr_engine.plans.plan_json import dumps
from ....skrr_engine.precision import matrix_dtype
from ..clip.trees import TextEncoder
from ..denoiser.projections import find_projection, source_name
from ..files.folders import cache_folder, plain_name, save_plan, trim_cache
from ..weights.memory import rest
from .calibrating import TokenizedPrompts, calibration_for
from .correcting import check_correctable, corrected
from .feeding import HostFeeder

__all__ = ["run_search"]

# Streams of a sweep, in bytes. More than that makes nothing faster.
LEAST_ROOM, MOST_ROOM = 1 << 28, 1 << 32


def run_search(
    encoder: TextEncoder,
    model,
    prompts: TokenizedPrompts,
    settings: Settings,
    null_weight: float = 1.0,
    start: Plan | None = None,
    report=silent,
    corrections: bool = False,
) -> tuple[Plan, str]:
    """The plan, and a sentence about what it was measured behind. The same job asked again comes from the cache. With
    `corrections` it ends with their fit (see `correcting`), and the plan has the corrected level.

    Cancelled, it leaves the levels found so far as a partial plan in models/skrr and goes on from there when it
    is asked again.
    """
    plain_name(f"{settings.name} (partial)", ".json")  # refused now, not when a cancelled search wants to be kept
    if corrections:
        check_correctable(encoder, prompts, settings.name)
    elif start is not None and any(level.corrections for level in start.levels):
        raise PlanError(
            f"Plan {start.name!r} needs its corrections, which a search would leave behind. Switch on corrections, so "
            "that they are fitted anew, or choose a plan without."
        )
    projection, sentence = find_projection(model, encoder)
    rest(encoder.clip.patcher)
    stack = encoder.adapter.stack(encoder)
    device = encoder.clip.patcher.load_device
    stack.feeder = _feeder(stack, device)
    room = partial(_room, device, stack.working_bytes)

    def objective_on(some: TokenizedPrompts) -> Objective:
        calibration = calibration_for(encoder, some)
        return Objective(stack, calibration, projection, null_weight, report, room, device.type)

    objective = objective_on(prompts)
    record = {
        "denoiser": {"family": source_name(model, projection), "projection": projection.name},
        "calibration": {
            "prompts": len(prompts.prompts),
            "tokenizer": prompts.tokenizer,
            "digest": objective.calibration.identity[:16],
        },
        "search": settings.record(null_weight),
    }
    with torch.inference_mode(), _device_context(device):
        if start is None:
            plan = find_plan(objective, settings, cache_folder(), record, _keep_partial)
        else:
            plan = _refined(objective, start, settings, record)
        if corrections:
            needed = start is not None and any(level.corrections for level in start.levels)
            plan, more = corrected(plan, settings.name, settings.slot, prompts, objective_on, needed)
            sentence = f"{sentence}\n{more}"
    trim_cache()
    return plan, sentence


def _feeder(stack, device) -> HostFeeder | None:
    """Elsewhere than on CUDA nothing is gained by fast products or by copying beside the computing."""
    return HostFeeder(stack, device, matrix_dtype(device)) if device.type == "cuda" else None


def _room(device, working: int = 0) -> int:
    """What the streams of a sweep may take: half of what is free beside `working` bytes, the rest is for what a
    sub-block needs inside."""
    return max(LEAST_ROOM, min(MOST_ROOM, (int(mm.get_free_memory(device)) - working) // 2))


def _device_context(device):
    """ComfyUI 0.27 pins CUDA work to a device this way; earlier releases need nothing."""
    make = getattr(mm, "cuda_device_context", None)
    return nullcontext() if make is None else make(device)


def _keep_partial(plan: Plan) -> None:
    """A plan that cannot be kept must not stand in for the cancel that it comes with."""
    try:
        save_plan(plan, plan.name, overwrite=True)
    except SkrrError as error:
        logging.warning("Skrr could not keep the partial plan: %s", error)


def _refined(objective: Objective, start: Plan, settings: Settings, record: dict) -> Plan:
    asked = [settings.sparsity, settings.bytes_saved, settings.reuse, settings.mode, settings.seed]
    key = digest_json([objective.identity, dumps(start), *asked])
    path = cache_folder() / f"refined-{key[:32]}.json"
    if exists(path):
        return replace(read_plan_file(path), name=settings.name)
    plan = refine_plan(objective, start, settings, record)
    write_atomically(path, dumps(plan).encode())
    return plan
