"""The sketch of weights: equal across storage formats, different for other weights."""

import pytest
import torch

from skrr_engine.plans.sketch import TOLERANCE, same_weights, sketch_of


def norms(seed, scale=0.1, width=512):
    generator = torch.Generator().manual_seed(seed)
    return [1 + scale * torch.randn(width, generator=generator) for _ in range(6)]


@pytest.mark.parametrize(
    "dtype, most",
    [
        (torch.float16, 1e-4),
        (torch.bfloat16, 1e-3),
        (torch.float8_e4m3fn, 5e-3),
        (torch.float8_e5m2, 1.5e-2),  # three steps between 1 and 2
    ],
)
def test_formats_agree_within_the_tolerance(dtype, most):
    whole, stored = sketch_of(norms(0)), sketch_of(w.to(dtype) for w in norms(0))
    assert same_weights(whole, stored)
    assert max(abs(a - b) / a for a, b in zip(whole, stored, strict=True)) < most < TOLERANCE


def test_other_weights_differ():
    assert same_weights(sketch_of(norms(0)), sketch_of(1.05 * w for w in norms(0))) is False
    assert same_weights((1.0, 2.0), (1.0, 2.0, 3.0)) is False


def test_cut_sub_blocks_and_missing_sketches_say_nothing():
    whole = sketch_of(norms(0))
    assert same_weights(whole, (0.0, *whole[1:])) is True
    assert same_weights((), whole) is None


def test_a_search_writes_its_sketch(tiny):
    from skrr_engine.jobs.search import Settings, find_plan
    from skrr_engine.plans.plan_json import dumps, loads

    stack = tiny.stack(layers=2)
    plan = find_plan(tiny.objective(stack), Settings("t5xxl", sparsity=0.1, beam=1, reuse=False))
    assert loads(dumps(plan)).encoders["t5xxl"].weights_sketch == stack.sketch
    assert len(stack.sketch) == 4 and all(stack.sketch)
