"""The view of an encoder with its corrections: it computes what it should, and only on the weights it is for."""

import pytest
import torch

from skrr_engine.corrections.corrected import CorrectedStack
from skrr_engine.corrections.found import weights_digest
from skrr_engine.corrections.sites import KINDS
from skrr_engine.errors import SkrrError
from skrr_engine.measure.execute import encode
from skrr_engine.measure.feeding import Feeder

from .measuring import SKIP, fitted, measured


def test_the_dense_encoder_is_never_touched(tiny, sets):
    stack = tiny.stack()
    before = {name: tensor.clone() for name, tensor in stack.model.state_dict().items()}
    objective = sets(stack, 3, 4)
    dense = [encode(stack, objective.dense_assignment, batch)["sequence"] for batch in objective.batches]
    identity = stack.identity
    found = fitted(sets, stack, settings=KINDS["bridge, all"])
    one = found.corrections.applied(stack)
    measured(objective, one.stack, one.assignment)
    assert all(torch.equal(before[name], tensor) for name, tensor in stack.model.state_dict().items())
    again = [encode(stack, objective.dense_assignment, batch)["sequence"] for batch in objective.batches]
    assert all(map(torch.equal, dense, again))
    assert stack.identity == identity != one.stack.identity
    assert not any("forward" in vars(part) or part._forward_pre_hooks for part in stack.model.modules())


def test_the_view_computes_what_the_model_with_the_matrices_written_in_does(tiny, sets):
    stack, other = tiny.stack(), tiny.stack()
    found = fitted(sets, stack)
    for index, matrix in found.corrections.matrices.items():
        other.subblocks[index].output.weight.data.copy_(matrix)
    objective = sets(stack, 5, 4)
    for batch in objective.batches:
        views = found.corrections.applied(stack).stack, other
        one, two = (encode(view, SKIP, batch)["sequence"] for view in views)
        torch.testing.assert_close(one, two, rtol=1e-12, atol=0)


@pytest.mark.parametrize("family", ["t5", "clip"])
@pytest.mark.parametrize("dtype", [None, torch.bfloat16])
def test_the_view_goes_with_a_feeder(tiny, sets, family, dtype):
    """Which brings the other matrices, and the biases of this one in the dtype of products."""
    kind = tiny.clip_stack if family == "clip" else tiny.stack
    stack, other = kind(layers=4, dtype=torch.float32), kind(layers=4, dtype=torch.float32)
    matrices = {n: torch.randn(stack.output_matrix(n).shape) / 4 for n in (2, 3)}
    for index, matrix in matrices.items():
        other.subblocks[index].output.weight.data.copy_(matrix)
    for one in (stack, other):
        one.feeder = Feeder(one.subblocks, torch.device("cpu"))
        one.feeder.dtype = dtype
    for batch in sets(stack, 5, 4).batches:
        one, two = (encode(view, SKIP, batch)["sequence"] for view in (CorrectedStack(stack, matrices), other))
        assert torch.equal(one, two)


def test_corrections_of_another_encoder_are_refused(tiny, sets):
    found = fitted(sets, tiny.stack()).corrections
    with pytest.raises(SkrrError, match="fitted on other weights than this T5 text encoder"):
        found.applied(tiny.stack(seed=1))
    with pytest.raises(SkrrError, match=r"the encoder is another .*layers 4 -> 3"):
        found.applied(tiny.stack(layers=3))
    with pytest.raises(SkrrError, match=r"sub-block 3 is \[2, 2\], the encoder's own \[16, 24\]"):
        CorrectedStack(tiny.stack(), {3: torch.zeros(2, 2)})
    with pytest.raises(SkrrError, match="A matrix for sub-block 8; the encoder has 0 to 7"):
        CorrectedStack(tiny.stack(), {8: torch.zeros(2, 2)})


def test_the_same_numbers_are_the_same_weights_however_wide(tiny):
    half = tiny.stack(dtype=torch.float32)
    half.model.half()
    wide = tiny.stack(dtype=torch.float32)
    wide.model.load_state_dict(half.model.state_dict())
    assert weights_digest(half, SKIP) == weights_digest(wide, SKIP) != weights_digest(tiny.stack(), SKIP)
    wide.subblocks[1].output.weight.data += 1  # skipped: not there in a pruned file
    assert weights_digest(half, SKIP) == weights_digest(wide, SKIP)
    wide.subblocks[2].output.weight.data += 1e-3
    assert weights_digest(half, SKIP) != weights_digest(wide, SKIP)
