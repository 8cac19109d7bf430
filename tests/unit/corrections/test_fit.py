"""The anchored fit on tiny encoders: recovered exactly where it can be, better on prompts it has not seen, and
nothing is taken that does not help."""

import math
from dataclasses import replace

import pytest
import torch

import skrr_engine.corrections.fit as fitting_room
from skrr_engine.corrections.corrected import CorrectedStack
from skrr_engine.corrections.fit import fit_corrections
from skrr_engine.corrections.sites import KINDS, Settings, places_of
from skrr_engine.encoders.t5 import T5Stack
from skrr_engine.errors import SkrrError
from skrr_engine.events import Notice, Phase, Step, Tick
from skrr_engine.measure.execute import advance, assign
from skrr_engine.measure.objective import Objective
from skrr_engine.plans.plan import make_cut

from .measuring import SKIP, corrected, fitted, measured


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_the_discrepancy_falls_on_prompts_that_neither_set_has(tiny, sets, kind, seed):
    stack = tiny.stack(seed=seed)
    found = fitted(sets, stack, settings=replace(KINDS[kind], rank=3))
    held_out = sets(stack, 40, 3)
    plain, better = measured(held_out, stack, SKIP), corrected(held_out, stack, found)
    assert found.corrections.tensors and better.value < (0.99 if kind == "bias" else 0.95) * plain.value
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
    wanted = skipped.DenseReluDense.wo.weight.detach()
    torch.testing.assert_close(found.corrections.matrices[3], wanted, rtol=1e-6, atol=1e-6)
    assert site.error[1] < 1e-9 * site.error[0]
    assert found.after.value < 1e-9 * found.before.value


@pytest.mark.parametrize("kind", ["all", "bridge, all", "bias"])
def test_what_is_told_of_the_selection_is_what_is_measured(tiny, sets, kind):
    stack = tiny.stack()
    found, selection = fitted(sets, stack, settings=KINDS[kind]), sets(stack, 30, 2)
    assert found.before.to_json() == pytest.approx(measured(selection, stack, SKIP).to_json(), rel=1e-9)
    assert found.after.to_json() == pytest.approx(corrected(selection, stack, found).to_json(), rel=1e-9)
    assert all(site.error[1] < site.error[0] for site in found.sites if site.taken)


def test_a_fit_that_does_harm_is_not_taken(tiny, sets):
    """With no ridge and about as many positions as inputs most fits do harm: D over the selection never rises."""
    nothing = 0
    for seed in range(4):
        stack = tiny.stack(seed=seed)
        fit, selection = sets(stack, 8, 10 + seed), sets(stack, 30, 2)
        found = fit_corrections(fit, selection, SKIP, Settings(ridges=(0.0,)))
        assert found.after.value <= found.before.value
        left = [site for site in found.sites if not site.taken]
        assert left and all("left alone" in site.note and site.error[0] == site.error[1] for site in left)
        assert corrected(selection, stack, found).value == pytest.approx(found.after.value, rel=1e-9)
        nothing += not found.corrections.tensors
    assert nothing < 4


def test_corrections_that_raise_the_discrepancy_are_not_taken_at_all(tiny, sets, monkeypatch):
    heard = []
    worse = replace(measured(sets(tiny.stack(), 8, 2), tiny.stack(), SKIP), conditional=1e9)
    usual = fitting_room.discrepancy_from
    monkeypatch.setattr(fitting_room, "discrepancy_from", lambda *a: usual(*a) if not a[-1] else worse)
    found = fitted(sets, tiny.stack(), report=heard.append)
    assert found.corrections.tensors == {} and found.after == found.before
    assert not any(site.taken for site in found.sites) and all("left alone" in site.note for site in found.sites)
    assert found.notes[-1].startswith("The corrections would raise the discrepancy over the selection prompts from")
    assert Notice(found.notes[-1]) in heard


def test_few_prompts_take_a_strong_ridge_and_say_so(tiny, sets):
    stack, heard = tiny.stack(), []
    few, selection = sets(stack, 8, 1, report=heard.append), sets(stack, 30, 2)
    found = fit_corrections(few, selection, assign(8, [1]), Settings("next"))
    # 4 prompts of 5 tokens, 4 of 7, and the null prompt's one: more than 16 inputs
    assert [site.positions for site in found.sites] == [49] and found.notes == ()
    model = tiny.t5(d_ff=64)
    wide = T5Stack(model)
    few, selection = sets(wide, 8, 1, report=heard.append), sets(wide, 30, 2)
    found = fit_corrections(few, selection, assign(8, [2]), Settings("next"))
    assert found.sites[0].inputs == 64
    assert found.notes[0].startswith("8 prompts with 49 positions are few for matrices of 64 inputs, so the ridge had")
    assert "About 11 prompts like these" in found.notes[0] and Notice(found.notes[0]) in heard


def test_progress_comes_place_by_place_and_a_cancel_ends_it(tiny, sets):
    heard = []
    fitted(sets, tiny.stack(), report=heard.append)
    assert heard[0] == Phase("fit", 8) and sum(event.evaluations for event in heard if isinstance(event, Step)) == 8
    assert sum(isinstance(event, Tick) for event in heard) > 8

    class Cancelled(Exception):
        pass

    def stop(event):
        if isinstance(event, Step):
            raise Cancelled

    stack = tiny.stack()
    with pytest.raises(Cancelled):
        fitted(sets, stack, report=stop)
    assert not any("forward" in vars(part) or part._forward_pre_hooks for part in stack.model.modules())


@pytest.mark.parametrize("kind", ["bias", "bridge"])
def test_what_comes_to_a_gap_is_the_least_squares_solution(tiny, sets, kind):
    """Written out: all positions at once, torch.linalg.lstsq on the augmented system."""
    stack, rho = tiny.stack(), 0.1
    settings = Settings("none", kind, rank=99, ridges=(rho,), null_share=0.25, noise=0.0)
    assignment = assign(8, [2])
    fit = sets(stack, 40, 1)
    found = fit_corrections(fit, sets(stack, 30, 2), assignment, settings).corrections.added[2]
    rows, wanted, weights = [], [], []
    for portion in fit.portions:
        hidden, context = stack.embed(portion.batch)
        for place in range(2):
            hidden = advance(stack, place, hidden, context)
        dense = advance(stack, 2, hidden, context)
        ones = hidden.new_ones(*hidden.shape[:-1], 1)
        x = torch.cat([hidden / hidden.square().mean(dim=-1, keepdim=True).sqrt(), ones], dim=-1)
        rows.append((x if kind == "bridge" else ones).flatten(0, 1))
        wanted.append((dense - hidden).flatten(0, 1))
        weight = 1 / dense.square().sum(dim=-1).flatten()
        weights.append((0.25 if portion.null else 0.75, portion.null, weight))
    total = {null: sum(w.sum() for _, n, w in weights if n == null) for null in (True, False)}
    root = torch.cat([share * w / total[null] for share, null, w in weights]).sqrt()[:, None]
    a, r = root * torch.cat(rows), root * torch.cat(wanted)
    penalty = (rho * a.square().sum() / a.shape[1]).sqrt() * torch.eye(a.shape[1]).double()
    system = torch.cat([a, penalty]), torch.cat([r, torch.zeros(a.shape[1], 16).double()])
    solution = torch.linalg.lstsq(*system).solution
    made = found.vector[None].double() if kind == "bias" else (found.up.double() @ found.down.double()).T
    torch.testing.assert_close(made, solution, rtol=5e-3, atol=2e-3)  # float16


def test_matrices_are_kept_as_they_will_be_stored(tiny, sets):
    stack = tiny.stack()
    found = fitted(sets, stack, settings=Settings(stored=torch.bfloat16))
    assert {matrix.dtype for matrix in found.corrections.matrices.values()} == {torch.bfloat16}
    assert found.after.value == pytest.approx(corrected(sets(stack, 30, 2), stack, found).value, rel=1e-9)


@pytest.mark.parametrize("family", ["clip", "umt5"])
def test_clip_with_its_biases_and_umt5(tiny, sets, family):
    stack = tiny.clip_stack(layers=4, layer=2) if family == "clip" else tiny.stack(umt5=True)
    found, held_out = fitted(sets, stack), sets(stack, 40, 3)
    assert corrected(held_out, stack, found).value < measured(held_out, stack, SKIP).value
    assert found.corrections.matrices


def test_a_re_used_source_is_not_re_fitted(tiny, sets):
    assignment = assign(8, [1, 4], {4: 6})
    stack = tiny.stack()
    assert places_of(stack, assignment, Settings("all")) == dict.fromkeys((2, 3, 5, 7), "matrix")
    assert list(places_of(stack, assignment, Settings("next"))) == [2, 5]
    found = fitted(sets, stack, assignment)
    assert found.shared == (6,) and 6 not in found.corrections.matrices
    assert found.after.value < found.before.value


def test_a_bridge_comes_on_top_of_a_re_used_sub_block(tiny, sets):
    stack, assignment = tiny.stack(), assign(8, [1, 4], {4: 6})
    found = fitted(sets, stack, assignment, KINDS["bridge"])
    assert list(found.corrections.added) == [1, 4] and found.corrections.cut == make_cut([1, 4], {4: 6})
    entry = found.corrections.applied(stack).assignment[4]
    assert entry.source == 6
    held_out = sets(stack, 40, 3)
    assert corrected(held_out, stack, found).value < 0.9 * measured(held_out, stack, assignment).value


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
    assert tuple(places_of(tiny.stack(), assign(8, skip), Settings(sites))) == places
    both = places_of(tiny.stack(), assign(8, skip), Settings(sites, "bridge"))
    assert both == dict(sorted({**dict.fromkeys(places, "matrix"), **dict.fromkeys(skip, "bridge")}.items()))


def test_a_plan_without_sites_changes_nothing(tiny, sets):
    found = fitted(sets, tiny.stack(), assign(8, [6, 7]))
    assert (found.corrections.tensors, found.sites, found.after) == ({}, (), found.before)


def test_a_sub_block_that_names_no_output_matrix_is_left_alone(tiny, sets):
    stack = tiny.stack()
    stack.subblocks = tuple(replace(one, output=None) if one.index == 2 else one for one in stack.subblocks)
    assert list(places_of(stack, SKIP, Settings("next"))) == [3, 5]
    assert 2 not in fitted(sets, stack).corrections.matrices
    with pytest.raises(SkrrError, match=r"output matrix of sub-block 2 \(attention\) is unknown"):
        CorrectedStack(stack, {2: torch.zeros(16, 8)})


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
    sites = fit_corrections(fewer, sets(stack, 30, 2), SKIP).sites
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
    with pytest.raises(SkrrError, match=r"7 fit prompts are too few; give at least 8"):
        fit_corrections(sets(stack, 7, 1), selection, SKIP)
    with pytest.raises(SkrrError, match="7 selection prompts are too few; give at least 8"):
        fit_corrections(fit, sets(stack, 7, 2), SKIP)
    with pytest.raises(SkrrError, match=r"150 prompts are in the fit and in the selection, the first is '1: 0'"):
        fit_corrections(fit, fit, SKIP)
    with pytest.raises(SkrrError, match="two encoders"):
        fit_corrections(fit, sets(tiny.stack(), 30, 2), SKIP)
    with pytest.raises(SkrrError, match="The assignment has 6 places, the encoder 8 sub-blocks"):
        fit_corrections(fit, selection, assign(6, [1]))


@pytest.mark.parametrize(
    "settings, said",
    [
        (Settings("some"), "sites of a re-fit are 'some'; expected next, all or none"),
        (Settings(gaps="some"), "gaps of a fit take 'some'; expected nothing, bias or bridge"),
        (Settings(rank=0), "rank of a bridge is 0; expected 1 or more"),
        (Settings(ridges=()), r"ridges of a fit are \[\]"),
        (Settings(ridges=(math.nan,)), r"ridges of a fit are \[nan\]"),
        (Settings(noise=1.5), "share of exchanged words is 1.5; expected 0 to 1"),
        (Settings(null_share=1.0), "share is 1.0; expected 0 to below 1"),
    ],
)
def test_wrong_settings_are_sentences(tiny, sets, settings, said):
    with pytest.raises(SkrrError, match=said):
        fitted(sets, tiny.stack(), settings=settings)
