"""Rungs, the nearest one, Re-use on top of a baseline, and encoders with other weights."""

from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import T5Config, T5EncoderModel

from skrr_engine.baselines.ladder import Rung, check_sparsity, make_ladder, make_plan, measured_level, nearest
from skrr_engine.baselines.rebuilt import measure_rebuilt, rebuild, state_of
from skrr_engine.errors import PlanError, SkrrError
from skrr_engine.measure.execute import assign, encode
from skrr_engine.plans.architecture import T5_XXL
from skrr_engine.plans.plan_json import dumps, loads
from skrr_engine.search.reference import algorithm_2

# Table A2: FinerCut's published order of removal.
FINERCUT = [46, 5, 11, 6, 47, 44, 20, 19, 18, 45, 40, 41, 1, 32, 31, 17, 24, 23, 3, 42, 43, 30, 38, 37]


def test_whole_blocks_of_t5_xxl_have_the_published_sparsities():
    """6, 8 and 10 blocks are the 24.3, 32.4 and 40.5 % of ShortGPT and LaCo, whichever blocks they are."""
    rungs = make_ladder(T5_XXL, ((2 * b, 2 * b + 1) for b in range(24)))
    assert [round(100 * rungs[n - 1].sparsity, 3) for n in (6, 8, 10)] == [24.309, 32.412, 40.515]
    found = [nearest(rungs, near).sparsity for near in (0.25, 0.33, 0.42, 0.5)]
    assert found == [rungs[n - 1].sparsity for n in (6, 8, 10, 12)]


def test_finercuts_published_order_has_the_published_sparsity():
    rungs = make_ladder(T5_XXL, ((i,) for i in FINERCUT))
    assert rungs[19].order == tuple(FINERCUT[:20])
    assert round(100 * rungs[19].sparsity, 3) == 41.748
    assert make_ladder(T5_XXL, ((i,) for i in FINERCUT), 0.4174) == rungs[:20]


@given(st.lists(st.floats(0, 1), min_size=1, max_size=20), st.floats(0, 1))
def test_nearest_is_nearest(sparsities, wanted):
    rungs = [Rung((n,), sparsity) for n, sparsity in enumerate(sparsities)]
    best = nearest(rungs, wanted, within=1.0)
    assert best in rungs
    assert all(abs(best.sparsity - wanted) <= abs(other - wanted) for other in sparsities)


def test_of_two_equally_near_the_smaller():
    assert nearest([Rung((0, 1), 0.75), Rung((0,), 0.25)], 0.5, within=1.0).sparsity == 0.25


def test_what_is_not_matched_is_refused():
    with pytest.raises(SkrrError, match=r"within 5\.00 points of a sparsity of 50\.00 %: the nearest of 1 has 30\.00"):
        nearest([Rung((0,), 0.3)], 0.5)
    with pytest.raises(SkrrError, match="ladder is empty"):
        nearest([], 0.5)
    with pytest.raises(SkrrError, match="nearest of 1"):
        nearest([Rung((0,), 0.3)], float("nan"))


@pytest.mark.parametrize("sparsity", [0, -0.1, 0.98, float("nan"), float("inf")])
def test_sparsities_out_of_reach(sparsity):
    with pytest.raises(SkrrError, match=r"at most 0\.9724"):
        check_sparsity(T5_XXL, sparsity)


def test_reuse_goes_on_top_of_any_ladder(tiny):
    paired = 0
    for seed in range(4):
        objective = tiny.objective(tiny.stack(layers=5, seed=seed), seed=seed)
        order = make_ladder(objective.stack.architecture, [(4, 5), (2, 3), (6, 7)])[-1].order
        level = measured_level(objective, "t5xxl", order, reuse=True)
        reuse, found = algorithm_2(objective, order)
        assert level.cuts["t5xxl"].skip == order
        assert level.cuts["t5xxl"].reuse_map == reuse
        assert level.discrepancy == pytest.approx(found.to_json(), rel=1e-12)
        plain = measured_level(objective, "t5xxl", order, reuse=False)
        assert plain.cuts["t5xxl"].reuse == ()
        assert plain.discrepancy == pytest.approx(objective.measure(assign(10, order)).to_json(), rel=1e-12)
        paired += len(reuse)
    assert paired


def test_an_order_that_does_not_fit_is_refused_before_measuring(tiny):
    objective = tiny.objective(tiny.stack(layers=2))
    with pytest.raises(PlanError, match="sub-block 4, but the encoder has sub-blocks 0 to 3"):
        measured_level(objective, "t5xxl", (4,), reuse=True)
    assert objective.applications == 0


def test_a_ladder_is_a_plan(tiny):
    stack = tiny.stack(layers=3)
    rungs = make_ladder(stack.architecture, [(2, 3), (4, 5)])
    plan = make_plan(stack, "t5xxl", "blocks", rungs, notes=("A note.",))
    assert [level.cuts["t5xxl"].skip for level in plan.levels] == [rung.order for rung in rungs]
    assert [level.sparsity for level in plan.levels] == [rung.sparsity for rung in rungs]
    assert loads(dumps(plan)) == plan


def test_a_rebuilt_encoder_shares_everything_and_changes_nothing(tiny):
    objective = tiny.objective(tiny.stack(layers=3))
    stack = objective.stack
    before = stack.identity
    state = state_of(stack)
    name = "encoder.block.1.layer.1.DenseReluDense.wo.weight"
    other = rebuild(stack, {**state, name: torch.zeros_like(state[name])})
    assert stack.identity == before != other.identity
    assert other.model.encoder.block[1].layer[1].DenseReluDense.wo.weight.count_nonzero() == 0
    shared = {n for n, t in other.model.state_dict().items() if t.data_ptr() == state[n].data_ptr()}
    assert shared == state.keys() - {name}
    # A feed-forward that writes zeros is a skipped one.
    assert measure_rebuilt(objective, other).value == pytest.approx(objective.measure(assign(6, [3])).value, rel=1e-12)
    assert measure_rebuilt(objective, rebuild(stack, state)).value == 0
    skip = assign(6, [0, 3])
    assert measure_rebuilt(objective, stack, skip).value == pytest.approx(objective.measure(skip).value, rel=1e-12)


def test_rebuilding_copies_no_weight_on_the_way_and_keeps_the_stated_sizes(tiny, monkeypatch):
    """A T5-XXL would not fit a second time; and sizes are the file's (opening.open_encoder), not float32's."""
    stack = tiny.stack(layers=2)
    stack.subblocks = tuple(replace(block, bytes=100 + block.index) for block in stack.subblocks)
    stack.total_bytes = 1000

    def copied(self, memo):
        raise AssertionError("a parameter was copied")

    monkeypatch.setattr(torch.nn.Parameter, "__deepcopy__", copied)
    other = rebuild(stack, state_of(stack))
    assert [block.bytes for block in other.subblocks] == [100, 101, 102, 103]
    assert other.total_bytes == 1000


@pytest.mark.parametrize("layer", [1, 2])
def test_a_rebuilt_clip_reads_the_same_states(tiny, layer):
    objective = tiny.objective(tiny.clip_stack(layer=layer), project=False)
    other = rebuild(objective.stack, state_of(objective.stack))
    assert other.taps == objective.stack.taps
    assert measure_rebuilt(objective, other).value == 0
    assert [b.bytes for b in other.subblocks] == [b.bytes for b in objective.stack.subblocks]


@pytest.mark.parametrize("kept", ["shared.weight", "encoder.embed_tokens.weight"])
def test_either_name_of_the_embedding_is_enough(tiny, kept):
    stack = tiny.stack(layers=2)
    state = dict(state_of(stack))
    table = state.pop("shared.weight")
    state.pop("encoder.embed_tokens.weight", None)
    other = rebuild(stack, {**state, kept: 2 * table})
    batch = tiny.rows().batches[0]
    assert torch.equal(other.embed(batch)[0], 2 * stack.embed(batch)[0])


def test_tensors_of_something_else_are_refused(tiny):
    stack = tiny.stack(layers=2)
    state = dict(state_of(stack))
    gone = state.pop("encoder.block.0.layer.0.layer_norm.weight")
    with pytest.raises(SkrrError, match=r"missing \['encoder.block.0.layer.0.layer_norm.weight'\]"):
        rebuild(stack, state)
    with pytest.raises(SkrrError, match=r"unknown \['what'\]"):
        rebuild(stack, {**state_of(stack), "what": gone})
    without = {name: t for name, t in state_of(stack).items() if "embed_tokens" not in name and "shared" not in name}
    with pytest.raises(SkrrError, match=r"missing \[.*shared"):
        rebuild(stack, without)


def test_a_stack_of_another_host_or_a_pruned_one_cannot_be_rebuilt(tiny):
    with pytest.raises(SkrrError, match="A object cannot be rebuilt"):
        state_of(object())
    stack = tiny.stack(layers=2)
    with torch.device("meta"):
        empty = T5EncoderModel(T5Config(**{**stack.model.config.to_dict(), "num_layers": 1})).encoder.block[0]
    stack.model.encoder.block[1].layer[1] = empty.layer[1]
    with pytest.raises(SkrrError, match=r"has no encoder.block.1.layer.1.* pruned already"):
        state_of(stack)


def test_encode_of_a_rebuilt_stack_is_the_executors(tiny):
    stack = tiny.stack(layers=2)
    batch = tiny.rows().batches[0]
    other = rebuild(stack, state_of(stack))
    plan = assign(4, [1])
    assert torch.equal(encode(other, plan, batch)["sequence"], encode(stack, plan, batch)["sequence"])
