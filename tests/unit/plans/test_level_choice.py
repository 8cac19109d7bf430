"""Which level a target gets."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skrr_engine.errors import PlanError
from skrr_engine.plans.architecture import T5_XXL
from skrr_engine.plans.plan import ROUNDING, EncoderInfo, Plan, make_cut, make_level
from skrr_engine.plans.presets import load_preset

ENCODERS = {"t5xxl": EncoderInfo(T5_XXL)}


def level(skip, value=None):
    discrepancy = None if value is None else {"value": value}
    return make_level(ENCODERS, {"t5xxl": make_cut(skip)}, discrepancy)


def plan(*levels):
    return Plan("ladder", ENCODERS, levels)


def test_levels_are_ordered_by_sparsity():
    ladder = plan(level([1, 3]), level([0]), level([1]))
    assert [len(found.cuts["t5xxl"].skip) for found in ladder.levels] == [1, 1, 2]
    assert ladder.levels[0].cuts["t5xxl"].skip == (0,)


@pytest.mark.parametrize("sparsity, skipped", [(0.0, 12), (0.24, 12), (0.25, 17), (0.3382, 17), (0.34, 21)])
def test_the_smallest_that_reaches_it(sparsity, skipped):
    assert len(load_preset("pixart-sigma").level_for(sparsity).cuts["t5xxl"].skip) == skipped


def test_a_levels_own_sparsity_gets_that_level():
    for name in ("sd3", "flux1-dev", "pixart-sigma"):
        ladder = load_preset(name)
        assert all(ladder.level_for(found.sparsity) is found for found in ladder.levels)


def test_among_equal_sizes_the_better_measured():
    ladder = plan(level([1], 0.5), level([3], 0.2), level([5], 0.9))
    assert ladder.level_for(0.01).cuts["t5xxl"].skip == (3,)


def test_half_a_percentage_point_beyond_the_last_is_still_the_last():
    """Its very end included, however it is rounded."""
    for name in ("sd3", "flux1-dev", "pixart-sigma"):
        ladder = load_preset(name)
        last = ladder.levels[-1]
        assert ladder.level_for(last.sparsity + 0.005).sparsity == last.sparsity
        with pytest.raises(PlanError, match="cannot be reached"):
            ladder.level_for(last.sparsity + 0.00501)


def test_more_than_there_is_names_the_most():
    with pytest.raises(PlanError, match=r"sparsity of 42.43 % cannot be reached .* its largest level is 41.92 %"):
        load_preset("pixart-sigma").level_for(0.4243)


def test_a_whole_percentage_means_the_largest_level_it_was_rounded_from():
    """PixArt's card says 42 % of 41.92 %."""
    preset = load_preset("pixart-sigma")
    assert preset.level_for(0.42) is preset.levels[-1]
    assert not preset.reaches(preset.levels[-1], 0.42) and preset.reaches(preset.levels[-1], 0.4192)
    ladder = plan(level([1]), level([1, 3], 0.5), level([1, 5], 0.2))
    assert ladder.level_for(ladder.levels[-1].sparsity + 0.004).cuts["t5xxl"].skip == (1, 5)


@given(st.lists(st.lists(st.integers(0, 47), unique=True, max_size=30), min_size=1, max_size=6), st.data())
def test_asking_for_more_never_gives_less(skips, data):
    """Levels need not be nested."""
    ladder = plan(*map(level, skips))
    share = st.floats(0, ladder.levels[-1].sparsity)
    less, more = sorted((data.draw(share), data.draw(share)))
    assert less - ROUNDING <= ladder.level_for(less).sparsity <= ladder.level_for(more).sparsity


def test_a_rounded_percentage_means_the_level_it_was_rounded_from():
    """43.16 % is what people read for 43.158 %."""
    preset = load_preset("flux1-dev")
    assert len(preset.level_for(0.4316).cuts["t5xxl"].skip) == 21
    assert len(preset.level_for(0.4317).cuts["t5xxl"].skip) == 22
