"""Rows and batches."""

import pytest
import torch

from skrr_engine.errors import SkrrError
from skrr_engine.measure.calibration import BATCH_TOKENS, MAX_TOKENS, Row, make_calibration


def row(length, prompt=0, token=2):
    return Row((token,) * length, prompt, {"sequence": (1 / length,) * length})


def test_batches_hold_rows_of_one_length_and_are_bounded():
    rows = [row(5, 0), row(700, 1), row(5, 2), *(row(700, n) for n in range(3, 10))]
    made = make_calibration([str(n) for n in range(10)], rows, [row(1)])
    assert made.rows == 10
    for batch in made.batches:
        assert batch.tokens.shape == (len(batch.row_ids), batch.length)
        assert batch.tokens.numel() <= BATCH_TOKENS
        for at, number in enumerate(batch.row_ids):
            assert batch.tokens[at].tolist() == list(rows[number].tokens)
    assert sorted(n for batch in made.batches for n in batch.row_ids) == list(range(10))


def test_a_row_as_long_as_a_batch_stands_alone():
    made = make_calibration(["a", "b"], [row(BATCH_TOKENS), row(BATCH_TOKENS, 1)], [row(1)])
    assert [batch.row_ids for batch in made.batches] == [(0,), (1,)]


def test_a_prompt_with_too_many_tokens_is_refused():
    whole = [row(MAX_TOKENS), row(10_000, 1)]
    with pytest.raises(SkrrError, match="Calibration prompt 2 has 10000 tokens; at most 4096 make sense"):
        make_calibration(["a", "b"], whole, [row(1)])
    # CLIP cuts a long prompt into rows; they count together.
    cut = [row(77, 1) for _ in range(54)]
    with pytest.raises(SkrrError, match="prompt 2 has 4158 tokens"):
        make_calibration(["a", "b"], [row(77), *cut], [row(77)])
    assert make_calibration(["a", "b"], [row(77), *cut[:53]], [row(77)]).rows == 54


def test_weights_and_companions_travel_with_their_rows():
    extra = torch.arange(3.0)
    rows = [
        Row((1, 2), 0, {"sequence": (1.0, 0.0), "pooled": (1.0,)}, {"other": extra}),
        Row((1, 2), 1, {"sequence": (0.5, 0.5), "pooled": (1.0,)}, {"other": extra + 1}),
    ]
    (batch,) = make_calibration(["a", "b"], rows, [rows[0]]).batches
    assert batch.weights["sequence"].tolist() == [[1.0, 0.0], [0.5, 0.5]]
    assert batch.weights["sequence"].dtype == torch.float64
    assert batch.weights["pooled"].shape == (2, 1)
    assert batch.companions["other"].tolist() == [[0, 1, 2], [1, 2, 3]]


def test_identity_follows_tokens_weights_and_the_null_prompt():
    base = make_calibration(["a"], [row(3)], [row(1)])
    assert make_calibration(["a"], [row(3)], [row(1)]).identity == base.identity
    others = [
        make_calibration(["a"], [row(3, token=4)], [row(1)]),
        make_calibration(["a"], [row(4)], [row(1)]),
        make_calibration(["a"], [row(3)], [row(2)]),
        make_calibration(["a"], [Row((2, 2, 2), 0, {"sequence": (1.0, 0.0, 0.0)})], [row(1)]),
    ]
    assert len({base.identity, *(other.identity for other in others)}) == 5


def test_companions_are_part_of_the_identity():
    """A search of one of SD3's CLIPs depends on what the other hands out: another LoRA there is another job."""
    import torch

    from skrr_engine.measure.calibration import Row, make_calibration

    def identity(value):
        row = Row((1, 2), 0, {"sequence": (0.5, 0.5)}, {"pooled": torch.full((4,), value)})
        return make_calibration(["a"], [row], [row]).identity

    assert identity(1.0) == identity(1.0) != identity(2.0)
