"""Objectives over random prompts."""

import pytest

from skrr_engine.measure.objective import Objective
from skrr_engine.measure.projection import no_projection


@pytest.fixture
def sets(tiny):
    """Objectives over `count` prompts of draw `seed` on a stack."""

    def make(stack, count, seed, **options):
        pooled = stack.architecture.family == "clip"
        made = tiny.rows(count, seed, pooled=pooled)
        prompts = [f"{seed}: {n}" for n in range(count)]
        calibration = type(made)(tuple(prompts), made.batches, made.null, made.identity)
        return Objective(stack, calibration, no_projection(("sequence", "pooled")[: 1 + pooled]), **options)

    return make
