"""Random plans: near the sparsity, of the same kinds, fair, and the same everywhere."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skrr_engine.baselines.random_plans import random_like, random_rung
from skrr_engine.errors import PlanError, SkrrError
from skrr_engine.plans.architecture import T5_XXL
from skrr_engine.plans.presets import load_preset

SKRR = load_preset("pixart-sigma").levels[-1].cuts["t5xxl"].skip


@given(st.floats(0.01, 0.97), st.integers(0, 2**63))
def test_no_sub_block_more_or_less_comes_nearer(sparsity, seed):
    rung = random_rung(T5_XXL, sparsity, seed)
    assert len(set(rung.order)) == len(rung.order) >= 1
    assert rung.sparsity == T5_XXL.sparsity(rung.order)
    far = abs(rung.sparsity - sparsity)
    assert far <= T5_XXL.sparsity([1]) / 2 + 1e-12 or len(rung.order) in (1, 48)
    assert len(rung.order) == 1 or abs(T5_XXL.sparsity(rung.order[:-1]) - sparsity) >= far
    assert random_rung(T5_XXL, sparsity, seed) == rung


@given(st.lists(st.integers(0, 47), min_size=1, unique=True), st.integers(0, 2**63))
def test_as_many_of_each_kind_and_so_the_same_sparsity(order, seed):
    rung = random_like(T5_XXL, order, seed)
    assert len(set(rung.order)) == len(order)
    assert sum(i % 2 for i in rung.order) == sum(i % 2 for i in order)
    assert rung.sparsity == T5_XXL.sparsity(order)
    assert random_like(T5_XXL, order, seed) == rung


def test_every_sub_block_has_the_same_chance():
    """11 of 24 attentions and 10 of 24 feed-forwards: over 4000 seeds each share within 5 standard deviations."""
    counts = Counter(i for seed in range(4000) for i in random_like(T5_XXL, SKRR, seed).order)
    for i in range(48):
        share = (10 if i % 2 else 11) / 24
        assert abs(counts[i] - 4000 * share) < 5 * (4000 * share * (1 - share)) ** 0.5
    firsts = Counter(random_like(T5_XXL, SKRR, seed).order[0] % 2 for seed in range(4000))
    assert abs(firsts[0] - 4000 * 11 / 21) < 5 * (4000 * 11 / 21 * 10 / 21) ** 0.5


def test_seeds_differ_and_never_change():
    rungs = {random_like(T5_XXL, SKRR, seed).order for seed in range(200)}
    assert len(rungs) == 200
    assert random_rung(T5_XXL, 0.1, 0).order == FIRST


# What seed 0 drew when this was written: results that were published with a seed must stay reproducible.
FIRST = (40, 35, 25, 46, 43)


def test_bad_input_gets_a_sentence():
    with pytest.raises(SkrrError, match="The sparsity is 0"):
        random_rung(T5_XXL, 0, 0)
    with pytest.raises(SkrrError, match="skips nothing"):
        random_like(T5_XXL, (), 0)
    with pytest.raises(PlanError, match="sub-block 48"):
        random_like(T5_XXL, (48,), 0)
    with pytest.raises(PlanError, match="twice"):
        random_like(T5_XXL, (3, 3), 0)
