"""Prompts, rows and batches."""

import pytest
import torch

from skrr_engine.calibration import BATCH_TOKENS, Row, builtin_prompts, clean_prompts, make_calibration, read_prompts
from skrr_engine.errors import SkrrError


def row(length, prompt=0, token=2):
    return Row((token,) * length, prompt, {"sequence": (1 / length,) * length})


def test_the_built_in_prompts_are_distinct_and_varied():
    prompts = builtin_prompts()
    assert len(prompts) == len(clean_prompts(prompts)) == 64
    lengths = [len(prompt) for prompt in prompts]
    assert min(lengths) < 60 and max(lengths) > 600


def test_cleaning_keeps_order_and_drops_empty_and_equal_ones():
    assert clean_prompts(["b ", "", "a", "  ", "b", "a\n"]) == ("b", "a")


@pytest.mark.parametrize("limit", [1, 2, 3, 7, 10, 20])
def test_a_limit_spreads_over_the_list(limit):
    texts = [str(n) for n in range(10)]
    found = clean_prompts(texts, limit)
    assert len(found) == min(limit, 10)
    assert found[0] == "0"
    assert list(found) == sorted(set(found), key=int)
    if limit == 2:
        assert found == ("0", "5")


def test_no_prompt_is_refused():
    with pytest.raises(SkrrError, match="no calibration prompts"):
        clean_prompts(["", " "])


def test_a_novel_is_refused():
    with pytest.raises(SkrrError, match="Calibration prompt 2 has 20001 characters; at most 20000"):
        clean_prompts(["a", "b" * 20_001])


def test_reading_a_file(tmp_path):
    path = tmp_path / "prompts.txt"
    path.write_bytes("\ufefféclair\r\n\r\ntwo".encode())
    assert read_prompts(path) == ["éclair", "", "two"]


def test_a_file_in_another_encoding_is_refused(tmp_path):
    path = tmp_path / "prompts.txt"
    path.write_bytes(b"caf\xe9")
    with pytest.raises(SkrrError, match=r"prompts.txt is not UTF-8 text \(byte 3\). Save it as UTF-8"):
        read_prompts(path)


def test_a_huge_file_is_refused_unread(tmp_path):
    path = tmp_path / "prompts.txt"
    with open(path, "wb") as file:
        file.truncate(33 * 1024 * 1024)
    with pytest.raises(SkrrError, match="a prompt file has at most"):
        read_prompts(path)


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


def test_a_row_longer_than_a_batch_stands_alone():
    made = make_calibration(["a", "b"], [row(BATCH_TOKENS + 1), row(BATCH_TOKENS + 1, 1)], [row(1)])
    assert [batch.row_ids for batch in made.batches] == [(0,), (1,)]


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

    from skrr_engine.calibration import Row, make_calibration

    def identity(value):
        row = Row((1, 2), 0, {"sequence": (0.5, 0.5)}, {"pooled": torch.full((4,), value)})
        return make_calibration(["a"], [row], [row]).identity

    assert identity(1.0) == identity(1.0) != identity(2.0)
