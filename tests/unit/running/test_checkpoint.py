"""A search on disk: resumed, cancelled, repeated, and files that are not its own."""

import json
import math

import pytest
import torch

from skrr_engine.disk import write_atomically
from skrr_engine.errors import SkrrError
from skrr_engine.events import LevelDone, Step
from skrr_engine.jobs.search import Settings, find_plan
from skrr_engine.running.checkpoint import Checkpoint

SETTINGS = Settings("t5xxl", sparsity=0.4, beam=2)


class Stop(Exception):
    """What a host raises to cancel."""


class Meter:
    """Counts measurements, and cancels after `levels` levels."""

    def __init__(self, levels=None):
        self.evaluations, self.levels = 0.0, levels

    def __call__(self, event):
        if isinstance(event, Step):
            self.evaluations += event.evaluations
            if self.levels == 0 and self.evaluations > 2:
                raise Stop
        if isinstance(event, LevelDone) and event.skipped == self.levels:
            raise Stop


@pytest.fixture
def job(tiny, tmp_path):
    """Runs the same search, each time on a new objective; returns (plan, measurements, partial plans)."""
    model = tiny.t5(layers=4, seed=3)

    def run(checkpoint=tmp_path / "search.json", stop_after=None, settings=SETTINGS, seed=0, forbid=False):
        from skrr_engine.encoders.t5 import T5Stack

        stack, partial, plan = T5Stack(model), [], None
        objective = tiny.objective(stack, seed=seed)
        objective.report = meter = Meter(stop_after)
        if forbid:
            stack.embed = None
        try:
            plan = find_plan(objective, settings, checkpoint, on_partial=partial.append)
        except Stop:
            assert stop_after is not None
        return plan, meter.evaluations, partial

    return run


def test_cancelled_and_resumed_equals_uninterrupted(job):
    whole, all_of_it, none = job(checkpoint=None)
    nothing, first, (partial,) = job(stop_after=2)
    resumed, second, _ = job()
    assert resumed == whole
    assert nothing is None and none == []
    assert second < all_of_it and first < all_of_it
    # The levels are on disk when they are reported, so none of them is lost or done again.
    assert len(partial.levels) == 2
    assert first + second == pytest.approx(all_of_it)
    assert partial.name == "my plan (partial)"
    assert partial.levels[0].cuts["t5xxl"].skip == whole.levels[0].cuts["t5xxl"].skip


def test_the_same_job_again_does_no_encoder_pass(job):
    first, _, _ = job()
    again, evaluations, _ = job(forbid=True)
    assert again == first
    assert evaluations == 0


def test_a_longer_search_goes_on_from_a_shorter_one(job):
    job(settings=Settings("t5xxl", sparsity=0.2, beam=2))
    longer, second, _ = job()
    whole, all_of_it, _ = job(checkpoint=None)
    assert longer == whole
    assert second < all_of_it


def test_nothing_is_handed_over_before_the_first_level(job):
    """A cancel in the middle of level 1 leaves no plan: a set that was not compared with all others is none."""
    assert job(stop_after=0)[2] == []


def test_a_folder_keeps_searches_apart(job, tmp_path):
    job(checkpoint=tmp_path)
    job(checkpoint=tmp_path, seed=1)
    assert len(list(tmp_path.glob("*.json"))) == 2


@pytest.mark.parametrize("change", [{"seed": 1}, {"settings": Settings("t5xxl", sparsity=0.4, beam=3)}])
def test_another_searchs_file_is_refused(job, change):
    job()
    with pytest.raises(SkrrError, match=r"search.json belongs to another search .* Delete search.json"):
        job(**change)


def written(path):
    """A journal with one finding, one level and a finding of the level under way."""
    state = Checkpoint(path, "print")
    state.once("first", lambda: torch.ones(2, 3))
    state.add_level({"beams": []})
    state.once("second", lambda: torch.zeros(4))
    return state


def test_findings_are_kept_bit_for_bit_and_end_with_their_level(tmp_path):
    path = tmp_path / "search.json"
    values = torch.tensor([[0.1, -math.inf], [math.nan, 1e-300]], dtype=torch.float64)
    Checkpoint(path, "print").once("key", lambda: values)
    again = Checkpoint(path, "print")
    found = again.once("key", lambda: pytest.fail("computed again"))
    assert found.shape == (2, 2) and found.numpy().tobytes() == values.numpy().tobytes()
    again.add_level({"beams": [1]})
    size = path.stat().st_size
    third = Checkpoint(path, "print")
    assert third.levels == [{"beams": [1]}]
    assert third.once("key", lambda: torch.zeros(1)).tolist() == [0.0]
    assert path.stat().st_size > size


def test_a_file_of_another_version_is_refused(tmp_path, monkeypatch):
    path = tmp_path / "search.json"
    written(path)
    monkeypatch.setattr("skrr_engine.running.checkpoint.VERSION", 3)
    with pytest.raises(SkrrError, match="belongs to another search"):
        Checkpoint(path, "print")


def test_two_searches_in_one_file_are_refused(tmp_path):
    """Neither writes over what the other has written."""
    path = tmp_path / "search.json"
    one = written(path)
    Checkpoint(path, "print").once("third", lambda: torch.zeros(1))
    before = path.read_bytes()
    with pytest.raises(SkrrError, match="being written by another search"):
        one.once("fourth", lambda: torch.zeros(1))
    assert path.read_bytes() == before


def test_what_a_killed_process_left_half_written_goes(tmp_path):
    path = tmp_path / "search.json"
    written(path)
    stale, other = tmp_path / ".search.json.1a2b3c4d.part", tmp_path / ".other.json.1a2b3c4d.part"
    stale.touch()
    other.touch()
    Checkpoint(path, "print")
    assert not stale.exists() and other.exists()


DAMAGE = {
    "edited": lambda data: data.replace(b'"order": [', b'"order": [0, ', 1),
    "a line gone": lambda data: b"\n".join(data.split(b"\n")[:1] + data.split(b"\n")[2:]),
    "lines swapped": lambda data: b"\n".join([*data.split(b"\n")[1::-1], *data.split(b"\n")[2:]]),
    "other JSON": lambda data: b"[]\n",
    "no JSON": lambda data: b"{\n",
    "no JSON, no newline": lambda data: b"{",
    "deep nesting": lambda data: b"[" * 100_000 + b"\n",
    "no text": lambda data: b"\xff\xfe\x00\n",
    "zeros at the end": lambda data: data + b"\0" * 10 + b"\n",
    "an older form": lambda data: json.dumps({"format": "skrr-search", "version": 1}).encode(),
}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE.keys())
def test_a_damaged_file_is_refused_and_left_alone(job, tmp_path, damage):
    job()
    path = tmp_path / "search.json"
    path.write_bytes(damage(path.read_bytes()))
    before = path.read_bytes()
    with pytest.raises(SkrrError, match=r"search.json is damaged. Delete search.json to search anew"):
        job()
    assert path.read_bytes() == before


@pytest.mark.parametrize("record", [{"once": "a", "value": 1}, {"reuse": 1, "found": {}}, {"what": 1}])
def test_lines_of_no_known_form_are_refused(tmp_path, record):
    """With a checksum that is right: it is no secret."""
    path = tmp_path / "search.json"
    state = written(path)
    with open(path, "ab") as file:
        file.write(state._line(record))
    with pytest.raises(SkrrError, match="is damaged"):
        Checkpoint(path, "print")


def test_a_torn_last_line_is_dropped_at_every_byte(tmp_path):
    """As a killed process leaves it: the lines before are used, the rest is done again, and the file is whole."""
    path = tmp_path / "search.json"
    written(path)
    data = path.read_bytes()
    starts = [n + 1 for n, byte in enumerate(data) if byte == ord("\n")]
    for cut in range(len(data)):
        path.write_bytes(data[:cut])
        state = Checkpoint(path, "print")
        whole = sum(start <= cut for start in starts)
        assert len(state.levels) == (whole > 1)
        if whole > 1:
            assert state.once("second", lambda: torch.zeros(4)).tolist() == [0.0] * 4
            assert path.read_bytes() == data
        else:
            written(path)
            assert len(Checkpoint(path, "print").levels) == 1


def test_a_huge_file_is_refused_unread(tmp_path):
    path = tmp_path / "search.json"
    with open(path, "wb") as file:
        file.truncate(257 * 1024 * 1024)
    with pytest.raises(SkrrError, match="larger than any search writes"):
        Checkpoint(path, "print")


def test_a_failed_write_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "deep" / "plan.json"
    write_atomically(path, b"old")

    def full(*_):
        raise OSError(28, "No space left on device")

    for name in ("fsync", "replace"):
        with monkeypatch.context() as patch:
            patch.setattr(f"os.{name}", full)
            with pytest.raises(SkrrError, match="No space"):
                write_atomically(path, b"new")
        assert path.read_bytes() == b"old"
        assert list(path.parent.iterdir()) == [path]
    write_atomically(path, b"new")
    assert path.read_bytes() == b"new"


def test_a_search_file_that_cannot_be_read_is_a_sentence(tmp_path):
    (tmp_path / "print.json").mkdir()
    with pytest.raises(SkrrError, match=r"print.json cannot be read: Is a directory. Delete print.json to search"):
        Checkpoint(tmp_path, "print")


def test_a_leftover_that_cannot_be_removed_stays(tmp_path):
    path = tmp_path / "search.json"
    Checkpoint(path, "print").add_level({"x": 1})
    (tmp_path / ".search.json.0000.part").mkdir()
    assert Checkpoint(path, "print").levels == [{"x": 1}]


def test_a_cancel_while_writing_stays_a_cancel(tmp_path, monkeypatch):
    def cancelled(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("os.fsync", cancelled)
    with pytest.raises(KeyboardInterrupt):
        write_atomically(tmp_path / "a", b"x")
    assert not list(tmp_path.iterdir())
