"""How prompts are dealt out to the processes that search together."""

import time
from itertools import chain

import pytest
import torch
import torch.distributed as dist

from skrr_engine.measure.objective import Objective
from skrr_engine.measure.ranks import Ranks, join


def ranks(size):
    """Ranks without a process group."""
    found = [object.__new__(Ranks) for _ in range(size)]
    for rank, one in enumerate(found):
        one.rank, one.size = rank, size
    return found


@pytest.mark.parametrize("size", [2, 3, 5])
def test_every_row_is_measured_once_and_shares_are_even(tiny, size):
    like = tiny.objective(tiny.stack())
    objective = Objective(like.stack, tiny.rows(24), like.projection)
    portions = [portion for portion in objective.portions if not portion.null]
    shares = [one.share([0, 1, 2], portions) for one in ranks(size)]
    assert all(numbers == [0, 1, 2] for numbers, _ in shares)
    rows = [sorted(chain.from_iterable(p.batch.row_ids for p in parts)) for _, parts in shares]
    assert sorted(chain.from_iterable(rows)) == list(range(24))
    assert max(map(len, rows)) - min(map(len, rows)) <= 1
    for _, parts in shares:
        for part in parts:
            whole = next(p for p in portions if p.batch.length == part.batch.length)
            at = [whole.batch.row_ids.index(row) for row in part.batch.row_ids]
            assert torch.equal(part.batch.tokens, whole.batch.tokens[at])


def test_the_null_prompts_assignments_are_split(tiny):
    null = tiny.objective(tiny.stack()).null
    shares = [one.share(list("abcde"), null) for one in ranks(2)]
    assert [numbers for numbers, _ in shares] == [[0, 2, 4], [1, 3]]
    assert all(parts == null for _, parts in shares)


def test_one_process_is_alone(monkeypatch):
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    assert join("cpu") is None
    monkeypatch.setenv("WORLD_SIZE", "1")
    assert join("cuda") is None


@pytest.mark.parametrize("size", [2, 3, 5])
def test_the_next_portion_goes_on_where_the_last_ended(tiny, size):
    """Else the first process had one row more of each portion."""
    like = tiny.objective(tiny.stack())
    objective = Objective(like.stack, tiny.rows(21, lengths=(4, 5, 6)), like.projection)
    portions = [portion for portion in objective.portions if not portion.null]
    assert [portion.rows for portion in portions] == [7, 7, 7]
    rows = list(chain.from_iterable(portion.batch.row_ids for portion in portions))
    for rank, one in enumerate(ranks(size)):
        _, parts = one.share([0], portions)
        assert list(chain.from_iterable(part.batch.row_ids for part in parts)) == rows[rank::size]


def test_the_summary_is_worked_out_from_what_all_did(monkeypatch):
    """The busiest did 60 of 100, and of the time 70 % went into measuring: 0.7 x 100 / 60."""
    one, sent = ranks(2)[0], []
    one.began, one.measuring = time.monotonic() - 10, 5.0

    def gather(every, value):
        sent.append(value)
        every[:] = [(60, 0.5), (40, 0.9)]

    monkeypatch.setattr(dist, "all_gather_object", gather)
    told = one.summary(60)
    assert sent == [(60, pytest.approx(0.5, rel=1e-2))]
    assert told.startswith("2 processes, 10.0 s: the busiest did 60.0 % of the work, and 70 % of the time went into")
    assert told.endswith("On devices of their own that is a speed-up of 1.17.")


def test_findings_are_added_up_and_one_that_is_late_makes_all_late(monkeypatch):
    one = ranks(2)[0]
    one.device = "cpu"
    for late, others, expected in ((False, 0.0, False), (True, 0.0, True), (False, 1.0, True)):
        theirs = torch.tensor([10.0, 20.0, 30.0, 40.0, others], dtype=torch.float64)
        monkeypatch.setattr(dist, "all_reduce", lambda values, theirs=theirs: values.add_(theirs))
        found, is_late = one.together(torch.tensor([[1.0, 2.0], [3.0, 4.0]], dtype=torch.float64), late)
        assert found.tolist() == [[11.0, 22.0], [33.0, 44.0]] and is_late is expected


def test_only_measuring_counts_as_such():
    one = ranks(2)[0]
    one.measuring = 0.0
    for _ in range(2):
        with one.measure():
            time.sleep(0.02)
    assert 0.04 <= one.measuring < 2
