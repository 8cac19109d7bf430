"""D and its companions against the formulas written out in numpy."""

import math

import numpy as np
import pytest
import torch

from skrr_engine.errors import SkrrError
from skrr_engine.measure.calibration import Row, make_calibration
from skrr_engine.measure.discrepancy import Discrepancy, cosine_terms, square_norms, squared_terms
from skrr_engine.measure.execute import assign, encode
from skrr_engine.measure.objective import Objective
from skrr_engine.measure.projection import no_projection
from skrr_engine.measure.sweep import measure_many
from skrr_engine.precision import widen

SKIP = assign(8, [3, 6], {3: 5})


def random_features(seed, rows=3, tokens=4, width=5):
    generator = np.random.default_rng(seed)
    return generator.normal(size=(rows, tokens, width)), generator.normal(size=(rows, tokens, width))


def as_tensors(*arrays):
    return [{"sequence": torch.tensor(array)} for array in arrays]


WEIGHTS = np.array([[0.25, 0.25, 0.25, 0.25], [0.5, 0.5, 0.0, 0.0], [0.7, 0.1, 0.1, 0.1]])


def test_squared_terms_are_a_weighted_mean_square():
    dense, pruned = random_features(0)
    found = squared_terms(*as_tensors(dense, pruned), {"sequence": torch.tensor(WEIGHTS)})
    expected = (((dense - pruned) ** 2).mean(axis=2) * WEIGHTS).sum(axis=1)
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-12)


def test_positions_that_nobody_reads_do_not_count():
    dense, pruned = random_features(1)
    other = pruned.copy()
    other[1, 2:] = 1e6
    weights = {"sequence": torch.tensor(WEIGHTS)}
    one, two = (squared_terms(*as_tensors(dense, p), weights) for p in (pruned, other))
    assert torch.equal(one, two)


def test_cosine_terms():
    dense, pruned = random_features(2)
    found = cosine_terms(*as_tensors(dense, pruned), {"sequence": torch.tensor(WEIGHTS)})
    norms = np.linalg.norm(dense, axis=2) * np.linalg.norm(pruned, axis=2)
    expected = ((1 - (dense * pruned).sum(axis=2) / norms) * WEIGHTS).sum(axis=1)
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-12)


def test_square_norms():
    dense, _ = random_features(3)
    found = square_norms(*as_tensors(dense), {"sequence": torch.tensor(WEIGHTS)})
    np.testing.assert_allclose(found.numpy(), ((dense**2).sum(axis=2) * WEIGHTS).sum(axis=1), rtol=1e-12)


def test_features_add_up_and_cosines_average():
    """FLUX's vector_in, SD3's pair: MSEs are added; the cosine stays between 0 and 2."""
    sequence, pooled = random_features(4), [a[:, 0] for a in random_features(5)]
    dense, pruned = (
        {"sequence": torch.tensor(sequence[n]), "pooled": torch.tensor(pooled[n])} for n in (0, 1)
    )
    weights = {"sequence": torch.tensor(WEIGHTS), "pooled": torch.ones(3, 1, dtype=torch.float64)}
    one = {name: {name: dense[name]} for name in dense}
    two = {name: {name: pruned[name]} for name in dense}
    for terms, share in ((squared_terms, 1), (cosine_terms, 0.5)):
        parts = sum(terms(one[name], two[name], weights) * share for name in dense)
        torch.testing.assert_close(terms(dense, pruned, weights), parts, rtol=1e-12, atol=0)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_differences_are_taken_in_float32_and_summed_in_float64(dtype):
    assert widen(torch.zeros(1, dtype=dtype)).dtype == torch.float32
    dense = {"sequence": torch.full((1, 1, 4), 3e4, dtype=dtype)}
    pruned = {"sequence": torch.full((1, 1, 4), -3e4, dtype=dtype)}
    found = squared_terms(dense, pruned, {"sequence": torch.ones(1, 1, dtype=torch.float64)})
    assert found.dtype == torch.float64
    assert math.isclose(found.item(), 3.6e9, rel_tol=1e-2)


def test_value_and_json():
    found = Discrepancy(conditional=2.0, null=3.0, null_weight=0.5, cosine=0.1, null_norm=1.2)
    assert found.value == 3.5
    assert found.to_json() == {
        "conditional": 2.0, "null": 3.0, "null_weight": 0.5, "cosine": 0.1, "null_norm": 1.2, "value": 3.5,
    }  # fmt: skip


def written_out(objective, places):
    """D of the whole objective, prompt by prompt, straight from the definition."""
    prompts = len(objective.calibration.prompts)
    errors, cosines = [0.0] * prompts, [0.0] * prompts
    null, norms = 0.0, [0.0, 0.0]

    def features(assignment, batch):
        outputs = encode(objective.stack, assignment, batch)
        return objective.projection.apply(outputs, batch)["sequence"].double().numpy()

    for batch in (*objective.calibration.null, *objective.calibration.batches):
        dense, pruned = features(objective.dense_assignment, batch), features(places, batch)
        for at, number in enumerate(batch.row_ids):
            weights = batch.weights["sequence"][at].numpy()
            error = (((dense[at] - pruned[at]) ** 2).mean(axis=1) * weights).sum()
            if any(batch is other for other in objective.calibration.null):
                null += error
                norms[0] += ((dense[at] ** 2).sum(axis=1) * weights).sum()
                norms[1] += ((pruned[at] ** 2).sum(axis=1) * weights).sum()
            else:
                lengths = np.linalg.norm(dense[at], axis=1) * np.linalg.norm(pruned[at], axis=1)
                errors[number] += error
                cosines[number] += ((1 - (dense[at] * pruned[at]).sum(axis=1) / lengths) * weights).sum()
    return np.mean(errors), null, np.mean(cosines), math.sqrt(norms[1] / norms[0])


def test_the_whole_objective(tiny):
    objective = tiny.objective(tiny.stack())
    found = objective.measure(SKIP)
    conditional, null, cosine, norm = written_out(objective, SKIP)
    np.testing.assert_allclose(
        [found.conditional, found.null, found.cosine, found.null_norm], [conditional, null, cosine, norm], rtol=1e-12
    )
    assert found.value == found.conditional + found.null


def test_dense_is_zero(tiny):
    objective = tiny.objective(tiny.stack())
    found = objective.measure(objective.dense_assignment)
    assert (found.value, found.null_norm) == (0.0, 1.0)
    assert 0 <= found.cosine < 1e-12


def test_null_weight_0_measures_no_null_prompt(tiny):
    """As for guidance-distilled models, which run none."""
    stack = tiny.stack()
    both, one = tiny.objective(stack), tiny.objective(stack, null_weight=0.0)
    found = one.measure(SKIP)
    assert found.value == both.measure(SKIP).conditional
    assert (found.null, found.null_norm) == (0.0, 1.0)
    assert one.applications < both.applications


@pytest.mark.parametrize("weight", [-1.0, math.nan, math.inf])
def test_a_wrong_null_weight_is_refused(tiny, weight):
    with pytest.raises(SkrrError, match=r"null weight is .* expected a number from 0 up"):
        tiny.objective(tiny.stack(), null_weight=weight)


def test_batching_does_not_change_the_result(tiny, monkeypatch):
    """Neither how rows share a batch nor the order of the batches."""
    stack = tiny.stack()
    rows = [
        Row((2 + n, 7, 11, 1)[: 3 + n % 2], n, {"sequence": (1 / (3 + n % 2),) * (3 + n % 2)}) for n in range(6)
    ]

    def measure(limit):
        monkeypatch.setattr("skrr_engine.measure.calibration.BATCH_TOKENS", limit)
        made = make_calibration([str(n) for n in range(6)], rows, [rows[0]])
        return len(made.batches), Objective(stack, made, no_projection(("sequence",))).measure(SKIP)

    (few, together), (many, alone) = measure(4096), measure(1)
    assert (few, many) == (2, 6)
    np.testing.assert_allclose(list(together.to_json().values()), list(alone.to_json().values()), rtol=1e-12)


def test_a_prompt_of_several_rows_weighs_as_much_as_one_of_one_row(tiny):
    """CLIP cuts long prompts into chunks; D is a mean over prompts."""
    stack = tiny.stack()
    short = Row((5, 6, 1), 0, {"sequence": (1 / 3,) * 3})
    halves = [Row((5, 6, 1), 1, {"sequence": (1 / 6,) * 3}) for _ in range(2)]
    one = make_calibration(["a"], [short], [short])
    two = make_calibration(["a", "b"], [short, *halves], [short])
    outputs = no_projection(("sequence",))
    found = [Objective(stack, calibration, outputs).measure(SKIP).value for calibration in (one, two)]
    assert math.isclose(*found, rel_tol=1e-12)


def test_a_broken_encoder_is_refused(tiny):
    model = tiny.t5()
    model.encoder.block[1].layer[1].DenseReluDense.wo.weight.data[0] = math.inf
    from skrr_engine.encoders.t5 import T5Stack

    objective = tiny.objective(T5Stack(model))
    with pytest.raises(SkrrError, match="not finite on the calibration prompts"):
        measure_many(objective, [SKIP])


def test_the_null_prompt_weighs_what_it_was_asked_to(tiny):
    """Measured by an objective of that weight, not only in a Discrepancy made by hand."""
    objective = tiny.objective(tiny.stack(), null_weight=0.25)
    found = objective.measure(assign(8, (1, 4)))
    assert found.null > 0 and found.null_weight == 0.25
    assert found.value == pytest.approx(found.conditional + 0.25 * found.null)
