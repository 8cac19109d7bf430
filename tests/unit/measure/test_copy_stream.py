"""The order of copies and computing, against CUDA's streams as far as they are used, played by plain objects."""

import pytest
import torch

from skrr_engine.measure.copy_stream import Lane

DEVICE = torch.device("cuda", 1)


class Event:
    """A mark on a stream."""

    def __init__(self, log, name):
        self.log, self.name = log, name

    def synchronize(self):
        self.log.append(f"the host waits for {self.name}")


class Stream:
    """A stream that notes what it is asked."""

    def __init__(self, log, name):
        self.log, self.name, self.marks = log, name, 0

    def record_event(self):
        self.marks += 1
        return Event(self.log, f"{self.name} {self.marks}")

    def wait_event(self, event):
        self.log.append(f"{self.name} waits for {event.name}")


@pytest.fixture
def log():
    return []


@pytest.fixture
def lane(monkeypatch, log):
    """A lane on a CUDA device that is not there."""
    computing = Stream(log, "computing")
    monkeypatch.setattr(torch.cuda, "Stream", lambda device: Stream(log, "copying") if device == DEVICE else None)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: computing if device == DEVICE else None)
    monkeypatch.setattr(torch.cuda, "stream", lambda stream: ("inside", stream))
    return Lane(DEVICE)


def test_each_waits_for_marks_of_the_other(lane, log):
    copied, computed = lane.copied(), lane.computed()
    lane.copy_after(computed)
    lane.compute_after(copied)
    lane.host_after(copied)
    assert log == ["copying waits for computing 1", "computing waits for copying 1", "the host waits for copying 1"]


def test_without_a_mark_nobody_waits(lane, log):
    for wait in (lane.copy_after, lane.compute_after, lane.host_after):
        wait(None)
    assert log == []


def test_copies_run_on_the_second_stream_whose_memory_it_is(lane, monkeypatch):
    asked, told = [], []

    class Memory:
        def record_stream(self, stream):
            told.append(stream)

    monkeypatch.setattr(torch, "empty", lambda size, dtype, device: (asked.append((size, dtype, device)), Memory())[1])
    assert lane.copying() == ("inside", lane.stream) and lane.stream.name == "copying"
    assert isinstance(lane.memory(48), Memory)
    assert asked == [(48, torch.uint8, DEVICE)] and told == [lane.stream]


def test_the_host_is_a_few_calls_ahead_at_most(lane, log):
    for _ in range(4):
        lane.called()
    assert log == []
    for _ in range(2):
        lane.called()
    assert log == ["the host waits for computing 1", "the host waits for computing 2"]


def test_on_other_devices_everything_has_happened():
    lane = Lane(torch.device("cpu"))
    assert lane.stream is None and lane.copied() is None and lane.computed() is None
    with lane.copying():
        memory = lane.memory(7)
    assert memory.dtype == torch.uint8 and memory.shape == (7,) and memory.device.type == "cpu"
    for _ in range(8):
        lane.called()
    assert not lane.calls
