"""The corrections of a level on a CLIP's cut tree: checked against the weights first, then put in, all or none."""

from collections.abc import Mapping
from types import MappingProxyType

import torch

from ....skrr_engine.corrections.added import Bias, Bridge
from ....skrr_engine.corrections.found import Corrections
from ....skrr_engine.errors import PlanError, SkrrError
from ....skrr_engine.plans.plan import Cut, Level
from ..encoders import adapter_of, has_layer
from ..encoders.added import added_module, added_of, exchange, put_back
from ..encoders.running import stored_tensors
from .trees import TextEncoder

__all__ = [
    "NO_CORRECTIONS",
    "CorrectionsBySlot",
    "added_in",
    "added_modules",
    "check_corrected_level",
    "check_weights",
    "fitted_layers",
    "put_back_matrices",
    "put_matrices",
    "refuse_second",
]

CorrectionsBySlot = Mapping[str, Corrections]
NO_CORRECTIONS: CorrectionsBySlot = MappingProxyType({})


def check_corrected_level(level: Level, corrections: CorrectionsBySlot) -> None:
    """Raises PlanError unless `corrections` are for the very encoders that `level` says to correct."""
    needed = {} if level.corrections is None else dict(level.corrections.weights)
    found = {slot: one.weights for slot, one in corrections.items()}
    if needed != found:
        raise PlanError(
            f"The level needs corrections of {', '.join(needed) or 'no encoder'}, and those given are of "
            f"{', '.join(found) or 'none'}{', for other weights' if needed.keys() == found.keys() else ''}. Use the "
            "side file that came with the plan."
        )


def refuse_second(encoder: TextEncoder, corrected: bool) -> None:
    """Corrections are fitted to one cut: another plan before or behind them would leave them without ground."""
    plan = encoder.plan
    if plan is not None and (corrected or plan.levels[0].corrections is not None):
        raise PlanError(
            f"The encoder {encoder.slot} was already made smaller by plan {plan.name!r}, and corrections hold for one "
            "plan alone. Apply one plan only."
        )


def check_weights(slot: str, transformer, architecture, corrections: CorrectionsBySlot) -> None:
    """Raises SkrrError unless the uncut `transformer` has the weights that the corrections of `slot` are for."""
    if slot in corrections:
        adapter, cut = adapter_of(transformer), corrections[slot].cut
        kept = set(range(architecture.sub_blocks)) - set(cut.skip)
        if not all(has_layer(transformer, index // 2) for index in kept):
            raise PlanError(
                f"{slot}: layers that the plan keeps were taken out before, so that it cannot be told whether these "
                "are the weights that its corrections are for. Connect the CLIP loader to the Skrr Apply with the plan."
            )
        try:
            corrections[slot].check(architecture, lambda index: stored_tensors(adapter, transformer, index))
        except SkrrError as error:
            raise PlanError(f"{slot}: {error}") from None


def put_matrices(transformer, one: Corrections, own: bool) -> None:
    """Puts the re-fitted output matrices into a tree that is ours alone. Only they get another storage; `own`: one that
    nothing else uses."""
    for index, matrix in one.matrices.items():
        if has_layer(transformer, index // 2):
            exchange(*adapter_of(transformer).output(transformer, index), matrix, own)


def fitted_layers(transformer, one: Corrections) -> dict[int, torch.Tensor]:
    """id of an output layer of `transformer` -> the matrix that it gets."""
    outputs = {index: adapter_of(transformer).output(transformer, index) for index in one.matrices}
    return {id(getattr(*outputs[index])): matrix for index, matrix in one.matrices.items()}


def put_back_matrices(transformer, one: Corrections) -> None:
    """Puts in matrices that come out of a file, each as it is stored there."""
    for index, matrix in one.matrices.items():
        put_back(*adapter_of(transformer).output(transformer, index), matrix)


def added_in(transformer, cut: Cut) -> dict[int, tuple[str, Bias | Bridge]]:
    """place -> the path of the module that says what is added there, and what that is, for a tree cut by `cut`."""
    paths, found = {id(module): path for path, module in transformer.named_modules()}, {}
    for place in sorted(cut.skip):
        if has_layer(transformer, place // 2):
            for module in adapter_of(transformer).owned(transformer, place):
                added = getattr(module, "added", None)
                if added is not None:
                    found[place] = (paths[id(added)], added_of(added))
    return found


def added_modules(cut: Cut, one: Corrections | None, own: bool) -> dict:
    """place -> the module of what is added there."""
    found = {} if one is None else one.added
    return {place: added_module(added, own) for place, added in found.items() if place in cut.skip}
