"""Portions: which rows a part has, and that what belongs to a row goes along."""

import pytest
import torch

from skrr_engine.measure.portions import null_portions, portions_of


@pytest.fixture
def calibration(tiny):
    """Seven rows: four of 5 tokens and three of 7."""
    return tiny.rows(7)


def test_rows_asked_for_come_batch_by_batch(calibration):
    whole = portions_of(calibration, range(7))
    assert [portion.batch.row_ids for portion in whole] == [(0, 2, 4, 6), (1, 3, 5)]
    assert [portion.batch for portion in whole] == list(calibration.batches)
    assert [(portion.rows, portion.tokens, portion.null) for portion in whole] == [(4, 20, False), (3, 21, False)]
    some = portions_of(calibration, [5, 4, 0])
    assert [portion.batch.row_ids for portion in some] == [(0, 4), (5,)]
    assert [portion.batch.row_ids for portion in portions_of(calibration, [3])] == [(3,)]
    assert [portion.null for portion in null_portions(calibration)] == [True]


def test_what_belongs_to_a_row_goes_along(calibration):
    portion, _ = portions_of(calibration, range(7))
    part = portion.take([3, 0])
    assert part.batch.row_ids == (6, 0) and not part.null
    assert torch.equal(part.batch.tokens, portion.batch.tokens[[3, 0]])
    assert torch.equal(part.batch.weights["sequence"], portion.batch.weights["sequence"][[3, 0]])
    twice = part.times(2)
    assert twice.batch.row_ids == (6, 0, 6, 0) and part.times(1) is part


def test_halves_are_all_rows_once_and_one_row_stays(calibration):
    four, three = portions_of(calibration, range(7))
    assert [half.batch.row_ids for half in four.halves()] == [(0, 2), (4, 6)]
    assert [half.batch.row_ids for half in three.halves()] == [(1,), (3, 5)]
    (alone,) = three.take([1]).halves()
    assert alone.batch.row_ids == (3,)
