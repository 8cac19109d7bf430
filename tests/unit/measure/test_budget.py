"""What memory is divided into, by figures worked out by hand."""

from skrr_engine.measure import budget
from skrr_engine.measure.budget import call_bytes, divide

GIB = 1 << 30


def test_a_call_takes_four_inner_values_eight_of_the_stream_and_its_scores(tiny):
    shape = tiny.stack().architecture
    assert (shape.feed_forward, shape.width, shape.heads) == (24, 16, 2)
    assert call_bytes(shape, 100, 7) == 100 * 4 * (4 * 24 + 8 * 16 + 2 * 2 * 7)


def test_half_of_what_is_left_is_for_streams(tiny, monkeypatch):
    """Eight sub-blocks of 1 GiB: two buffers, and of the 4 GiB left 2 for streams and two that stay."""
    stack = tiny.stack()
    monkeypatch.setattr(budget, "stored_bytes", lambda block: GIB)
    monkeypatch.setattr(budget, "widest_bytes", lambda stack: 2 * GIB)
    call = call_bytes(stack.architecture, 512, 16)
    found = divide(8 * GIB + call, stack, 512, 16)
    assert found == budget.Budget(2 * GIB, frozenset({0, 5}), call, 4 * GIB)


def test_streams_get_no_more_than_helps(tiny, monkeypatch):
    stack = tiny.stack()
    monkeypatch.setattr(budget, "stored_bytes", lambda block: 100 * GIB)
    found = divide(250 * GIB, stack, 512, 16)
    assert found.streams == 4 * GIB and not found.resident
