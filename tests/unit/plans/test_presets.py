"""The published numbers, written out a second time from the paper's tables."""

import pytest

from skrr_engine.errors import SkrrError
from skrr_engine.plans.architecture import T5_XXL
from skrr_engine.plans.presets import load_preset, preset_names

# Table A3: orders of removal.
ORDERS = {
    "pixart-sigma": [46, 5, 6, 47, 44, 2, 11, 24, 23, 17, 18, 45, 10, 30, 29, 40, 39, 38, 37, 42, 25, 22, 43, 36],
    "sd3": [46, 5, 45, 6, 11, 2, 22, 23, 17, 18, 30, 29, 43, 44, 20, 1, 41, 42, 40, 39, 38, 37, 21, 16],
    "flux1-dev": [46, 45, 5, 6, 11, 20, 19, 22, 23, 30, 29, 47, 2, 44, 32, 31, 18, 17, 37, 36, 43, 40, 39, 42],
}  # fmt: skip
# Tables A4 to A6: place -> source, by the number of skipped sub-blocks.
PAIRS = {
    12: {2: 4, 5: 7, 11: 13, 17: 19, 18: 16, 23: 21},
    17: {2: 4, 5: 7, 6: 4, 11: 13, 17: 19, 18: 20, 23: 21},
    21: {2: 0, 5: 7, 6: 4, 10: 12, 11: 9, 17: 19, 18: 16, 23: 21, 25: 27},
}


def cut_of(level):
    return level.cuts["t5xxl"]


def test_t5_xxl_is_counted_as_the_paper_counts_it():
    assert T5_XXL.total_parameters == 4_762_310_656
    assert T5_XXL.attention_parameters == 67_112_960
    assert T5_XXL.feed_forward_parameters == 125_833_216
    assert T5_XXL.sub_blocks == 48


def test_there_are_three():
    assert preset_names() == ["flux1-dev", "pixart-sigma", "sd3"]


@pytest.mark.parametrize("name", ORDERS)
def test_presets_are_for_t5_xxl_and_not_measured(name):
    plan = load_preset(name)
    assert plan.name == name
    assert {slot: info.architecture for slot, info in plan.encoders.items()} == {"t5xxl": T5_XXL}
    assert all(level.discrepancy is None for level in plan.levels)
    assert any("Published by its authors; not measured" in note for note in plan.notes)


@pytest.mark.parametrize("name", ["sd3", "flux1-dev"])
def test_a_level_for_every_prefix(name):
    levels = load_preset(name).levels
    assert [list(cut_of(level).skip) for level in levels] == [ORDERS[name][:n] for n in range(1, 25)]
    assert all(not cut_of(level).reuse for level in levels)


def test_pixart_has_the_three_published_levels_with_reuse():
    levels = load_preset("pixart-sigma").levels
    assert [list(cut_of(level).skip) for level in levels] == [ORDERS["pixart-sigma"][:n] for n in PAIRS]
    assert [cut_of(level).reuse_map for level in levels] == list(PAIRS.values())
    assert [round(100 * level.sparsity, 2) for level in levels] == [24.31, 33.82, 41.92]


def test_flux_keeps_these_bytes():
    """20 skipped make 40.52 %, 21 make 43.16 %; kept bytes at two a parameter."""
    levels = {len(cut_of(level).skip): level for level in load_preset("flux1-dev").levels}
    kept = {n: 2 * (T5_XXL.total_parameters - level.removed_parameters) for n, level in levels.items()}
    assert kept[20] == 5_665_697_792
    assert kept[21] == 5_414_031_360
    assert round(100 * T5_XXL.sparsity(ORDERS["flux1-dev"][:20]), 2) == 40.52
    assert round(100 * T5_XXL.sparsity(ORDERS["flux1-dev"][:21]), 2) == 43.16


@pytest.mark.parametrize("name", ["t5", "", "../presets/sd3", "sd3.json", "/etc/passwd"])
def test_an_unknown_name_lists_the_known_ones(name):
    with pytest.raises(SkrrError, match="there are flux1-dev, pixart-sigma, sd3"):
        load_preset(name)
