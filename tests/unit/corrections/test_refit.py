"""The anchored re-fit on tiny encoders: recovered exactly where it can be, better on prompts it has not seen, and the
dense encoder is never touched."""

import math
from dataclasses import replace

import pytest
import torch

from skrr_engine.corrections.corrected import CorrectedStack, output_layer
from skrr_engine.corrections.refit import refit
from skrr_engine.corrections.sites import Settings, places_of
from skrr_engine.encoders.t5 import T5Stack
from skrr_engine.errors import SkrrError
from skrr_engine.measure.execute import assign, encode
from skrr_engine.measure.feeding import Feeder
from skrr_engine.measure.objective import Objective, Tally
from skrr_engine.measure.projection import no_projection

SKIP = assign(8, [1, 4])


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


def measured(objective, stack, assignment):
    tally = Tally(objective)
    for batch in objective.batches:
        tally.add(batch, encode(stack, assignment, batch))
    return tally.total()


def fitted(sets, stack, assignment=SKIP, settings=None, **options):
    return refit(sets(stack, 150, 1, **options), sets(stack, 30, 2, **options), assignment, settings)


@pytest.mark.parametrize("sites", ["next", "all"])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_the_discrepancy_falls_on_prompts_that_neither_set_has(tiny, sets, sites, seed):
    stack = tiny.stack(seed=seed)
    found = fitted(sets, stack, settings=Settings(sites))
    held_out = sets(stack, 40, 3)
    plain, corrected = (measured(held_out, one, SKIP) for one in (stack, found.applied(stack)))
    assert found.matrices and corrected.value < 0.95 * plain.value
    assert found.after.value < found.before.value


def test_what_is_exactly_linear_is_recovered(tiny, sets):
    """The last feed-forward adds nothing but reads what the skipped one read, through the same matrices: the re-fit
    finds the skipped one's output matrix, and the encoder is the dense one again."""
    model = tiny.t5(layers=2)
    skipped, kept = (model.encoder.block[n].layer[1] for n in (0, 1))
    kept.load_state_dict(skipped.state_dict())
    kept.DenseReluDense.wo.weight.data.zero_()
    model.encoder.block[1].layer[0].SelfAttention.o.weight.data.zero_()
    stack = T5Stack(model)
    found = fitted(sets, stack, assign(4, [1, 2]), Settings("next", ridges=(1e-13, 0.3)))
    (site,) = found.sites
    assert (site.place, site.taken, site.rho, site.inputs) == (3, True, 1e-13, 24)
    torch.testing.assert_close(found.matrices[3], skipped.DenseReluDense.wo.weight.detach(), rtol=1e-6, atol=1e-6)
    assert site.error[1] < 1e-9 * site.error[0]
    assert found.after.value < 1e-9 * found.before.value


def test_the_dense_encoder_is_never_touched(tiny, sets):
    stack = tiny.stack()
    before = {name: tensor.clone() for name, tensor in stack.model.state_dict().items()}
    objective = sets(stack, 3, 4)
    dense = [encode(stack, objective.dense_assignment, batch)["sequence"] for batch in objective.batches]
    identity = stack.identity
    found = fitted(sets, stack)
    corrected = found.applied(stack)
    measured(objective, corrected, SKIP)
    assert all(torch.equal(before[name], tensor) for name, tensor in stack.model.state_dict().items())
    again = [encode(stack, objective.dense_assignment, batch)["sequence"] for batch in objective.batches]
    assert all(map(torch.equal, dense, again))
    assert stack.identity == identity != corrected.identity
    assert not any("forward" in vars(part) or part._forward_pre_hooks for part in stack.model.modules())


def test_the_view_computes_what_the_model_with_the_matrices_written_in_does(tiny, sets):
    stack, other = tiny.stack(), tiny.stack()
    found = fitted(sets, stack)
    for index, matrix in found.matrices.items():
        output_layer(other.subblocks[index]).weight.data.copy_(matrix)
    objective = sets(stack, 5, 4)
    for batch in objective.batches:
        one, two = (encode(view, SKIP, batch)["sequence"] for view in (found.applied(stack), other))
        torch.testing.assert_close(one, two, rtol=1e-12, atol=0)


@pytest.mark.parametrize("family", ["t5", "clip"])
@pytest.mark.parametrize("dtype", [None, torch.bfloat16])
def test_the_view_goes_with_a_feeder(tiny, sets, family, dtype):
    """Which brings the other matrices, and the biases of this one in the dtype of products."""
    kind = tiny.clip_stack if family == "clip" else tiny.stack
    stack, other = kind(layers=4, dtype=torch.float32), kind(layers=4, dtype=torch.float32)
    matrices = {n: torch.randn(output_layer(stack.subblocks[n]).weight.shape) / 4 for n in (2, 3)}
    for index, matrix in matrices.items():
        output_layer(other.subblocks[index]).weight.data.copy_(matrix)
    for one in (stack, other):
        one.feeder = Feeder(one.subblocks, torch.device("cpu"))
        one.feeder.dtype = dtype
    for batch in sets(stack, 5, 4).batches:
        one, two = (encode(view, SKIP, batch)["sequence"] for view in (CorrectedStack(stack, matrices), other))
        assert torch.equal(one, two)


def test_what_is_told_of_the_selection_is_what_is_measured(tiny, sets):
    stack = tiny.stack()
    found, selection = fitted(sets, stack), sets(stack, 30, 2)
    assert found.before.to_json() == pytest.approx(measured(selection, stack, SKIP).to_json(), rel=1e-9)
    assert found.after.to_json() == pytest.approx(measured(selection, found.applied(stack), SKIP).to_json(), rel=1e-9)
    values = [site.discrepancy for site in found.sites]
    assert values[0][0] == found.before.value
    assert all(after <= before or not site.taken for site, (before, after) in zip(found.sites, values, strict=True))


def test_a_fit_on_other_tokens_is_left_alone_where_it_does_harm(tiny, sets):
    """With no ridge and hardly more positions than inputs most fits do harm: D over the selection never rises."""
    for seed in range(3):
        stack = tiny.stack(seed=seed)
        fit, selection = sets(stack, 5, 10 + seed), sets(stack, 30, 2)
        found = refit(fit, selection, SKIP, Settings(ridges=(0.0,)))
        assert found.after.value <= found.before.value
        assert {site.place for site in found.sites if site.taken} == set(found.matrices)
        left = [site for site in found.sites if not site.taken]
        assert left and all("left alone" in site.note for site in left)
        assert measured(selection, found.applied(stack), SKIP).value == pytest.approx(found.after.value, rel=1e-9)


@pytest.mark.parametrize("family", ["clip", "umt5"])
def test_clip_with_its_biases_and_umt5(tiny, sets, family):
    stack = tiny.clip_stack(layers=4, layer=2) if family == "clip" else tiny.stack(umt5=True)
    found, held_out = fitted(sets, stack), sets(stack, 40, 3)
    plain, corrected = (measured(held_out, one, SKIP) for one in (stack, found.applied(stack)))
    assert corrected.value < plain.value and found.matrices


def test_a_re_used_source_is_not_re_fitted(tiny, sets):
    assignment = assign(8, [1, 4], {4: 6})
    stack = tiny.stack()
    assert places_of(stack, assignment, "all") == (2, 3, 5, 7)
    assert places_of(stack, assignment, "next") == (2, 5)
    found = fitted(sets, stack, assignment)
    assert found.shared == (6,) and 6 not in found.matrices
    assert found.after.value < found.before.value


@pytest.mark.parametrize(
    "skip, sites, places",
    [
        ([], "all", ()),
        ([0, 1], "next", (2,)),
        ([1, 2, 5], "next", (3, 6)),
        ([1, 2, 5], "all", (3, 4, 6, 7)),
        ([6, 7], "all", ()),
    ],
)
def test_where_a_re_fit_is_made(tiny, skip, sites, places):
    assert places_of(tiny.stack(), assign(8, skip), sites) == places


def test_a_plan_without_sites_changes_nothing(tiny, sets):
    found = fitted(sets, tiny.stack(), assign(8, [6, 7]))
    assert (dict(found.matrices), found.sites, found.after) == ({}, (), found.before)


def test_positions_that_the_denoiser_does_not_read_do_not_count(tiny, sets):
    """Three of five and five of seven are read here, and the one token of the null prompt."""
    stack = tiny.stack()
    fit = sets(stack, 150, 1)
    half = []
    for batch in fit.calibration.batches:
        weights = batch.weights["sequence"].clone()
        weights[:, -2:] = 0
        half.append(replace(batch, weights={"sequence": weights}))
    fewer = Objective(stack, replace(fit.calibration, batches=tuple(half)), fit.projection)
    sites = refit(fewer, sets(stack, 30, 2), SKIP).sites
    assert {site.positions for site in sites} == {75 * 3 + 75 * 5 + 1}


def test_without_a_null_prompt(tiny, sets):
    found = fitted(sets, tiny.stack(), null_weight=0.0)
    assert found.after.value < found.before.value and found.after.null == 0.0


def test_a_dead_sub_block_is_left_alone_with_a_sentence(tiny, sets):
    model = tiny.t5()
    model.encoder.block[1].layer[0].SelfAttention.v.weight.data.zero_()
    found = fitted(sets, T5Stack(model))
    (site,) = [site for site in found.sites if site.place == 2]
    assert not site.taken and math.isnan(site.rho)
    assert site.note == "left alone: the inputs have the mean square 0, from which nothing can be fitted"
    assert found.after.value < found.before.value


def test_a_broken_encoder_is_a_sentence(tiny, sets):
    model = tiny.t5()
    model.encoder.block[3].layer[1].DenseReluDense.wo.weight.data[0] = math.nan
    with pytest.raises(SkrrError, match="not finite"):
        fitted(sets, T5Stack(model))


def test_wrong_prompts_are_sentences(tiny, sets):
    stack = tiny.stack()
    fit, selection = sets(stack, 150, 1), sets(stack, 30, 2)
    with pytest.raises(SkrrError, match=r"3 prompts with 17 positions are too few to fit a matrix of 24 inputs; give"):
        refit(sets(stack, 3, 1), selection, SKIP)
    with pytest.raises(SkrrError, match="7 selection prompts are too few; give at least 8"):
        refit(fit, sets(stack, 7, 2), SKIP)
    with pytest.raises(SkrrError, match=r"150 prompts are in the fit and in the selection, the first is '1: 0'"):
        refit(fit, fit, SKIP)
    with pytest.raises(SkrrError, match="two encoders"):
        refit(fit, sets(tiny.stack(), 30, 2), SKIP)
    with pytest.raises(SkrrError, match="The assignment has 6 places, the encoder 8 sub-blocks"):
        refit(fit, selection, assign(6, [1]))


@pytest.mark.parametrize(
    "settings, said",
    [
        (Settings("some"), "sites of a re-fit are 'some'; expected next or all"),
        (Settings(ridges=()), r"ridges of a re-fit are \[\]"),
        (Settings(ridges=(math.nan,)), r"ridges of a re-fit are \[nan\]"),
        (Settings(null_share=1.0), "share is 1.0; expected 0 to below 1"),
    ],
)
def test_wrong_settings_are_sentences(tiny, sets, settings, said):
    with pytest.raises(SkrrError, match=said):
        fitted(sets, tiny.stack(), settings=settings)


def test_corrections_of_another_encoder_are_refused(tiny, sets):
    found = fitted(sets, tiny.stack())
    with pytest.raises(SkrrError, match="fitted on another encoder"):
        found.applied(tiny.stack(seed=1))
    with pytest.raises(SkrrError, match=r"sub-block 3 is \[2, 2\], the encoder's own \[16, 24\]"):
        CorrectedStack(tiny.stack(), {3: torch.zeros(2, 2)})
    with pytest.raises(SkrrError, match="A matrix for sub-block 8; the encoder has 0 to 7"):
        CorrectedStack(tiny.stack(), {8: torch.zeros(2, 2)})
