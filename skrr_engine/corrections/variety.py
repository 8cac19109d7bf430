"""Prompts with some of their words exchanged, so that a fit learns what the encoder does and not what its prompts say.

A fit on prompts of one kind serves prompts of that kind: on the small pipeline D over captions of the kind that was
fitted was a third of that over captions in other wordings. Random words in every second prompt, which cost nothing,
took a quarter of the latter away (docs/design.md).
"""

from dataclasses import replace

import torch

from ..digest import digest_json
from ..measure.calibration import Calibration
from ..measure.objective import Objective

__all__ = ["varied", "varied_objective"]

EVERY = 2


def varied(calibration: Calibration, share: float, seed: int = 0) -> Calibration:
    """`calibration` with about `share` (0 to 1) of the tokens of every second row exchanged for others, drawn from all
    between the lowest and the highest that its prompts have. What the null prompt consists of (start, end, padding)
    stays where it is, and so do lengths and weights."""
    fixed = torch.cat([batch.tokens.flatten() for batch in calibration.null]).unique()
    words = torch.cat([batch.tokens.flatten() for batch in calibration.batches])
    words = words[~torch.isin(words, fixed)]
    if not share or not len(words):
        return calibration
    low, high = int(words.min()), int(words.max())
    generator, batches = torch.Generator().manual_seed(seed), []
    for batch in calibration.batches:
        tokens, rows = batch.tokens, torch.tensor([n % EVERY == EVERY - 1 for n in batch.row_ids])
        chosen = torch.rand(tokens.shape, generator=generator) < share
        others = torch.randint(low, high + 1, tokens.shape, generator=generator, dtype=tokens.dtype)
        allowed = rows[:, None] & ~torch.isin(tokens, fixed) & ~torch.isin(others, fixed)
        batches.append(replace(batch, tokens=torch.where(chosen & allowed, others, tokens)))
    identity = digest_json([calibration.identity, "varied", share, seed])
    return replace(calibration, batches=tuple(batches), identity=identity)


def varied_objective(objective: Objective, share: float, seed: int = 0) -> Objective:
    """`objective` over `varied` prompts; itself where `share` is 0."""
    if not share:
        return objective
    return Objective(
        objective.stack, varied(objective.calibration, share, seed), objective.projection, objective.null_weight,
        objective.report, objective.room,
    )  # fmt: skip
