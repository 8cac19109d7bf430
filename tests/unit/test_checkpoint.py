"""A search on disk: resumed, cancelled, repeated, and files that are not its own."""

import json

import pytest

from skrr_engine.checkpoint import Checkpoint, write_atomically
from skrr_engine.errors import SkrrError
from skrr_engine.events import LevelDone, Step
from skrr_engine.search import Settings, find_plan

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


def test_a_file_of_another_version_is_refused(tmp_path):
    path = tmp_path / "search.json"
    Checkpoint(path, "print").save()
    path.write_text(path.read_text().replace('"version": 1', '"version": 2'))
    with pytest.raises(SkrrError, match="belongs to another search"):
        Checkpoint(path, "print")


DAMAGE = {
    "truncated": lambda text: text[:-30],
    "edited": lambda text: text.replace('"order": [', '"order": [0, ', 1),
    "other JSON": lambda text: "[]",
    "no JSON": lambda text: "{",
    "deep nesting": lambda text: "[" * 100_000,
    "no checksum": lambda text: json.dumps({k: v for k, v in json.loads(text).items() if k != "checksum"}),
}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE.keys())
def test_a_damaged_file_is_refused_and_left_alone(job, tmp_path, damage):
    job()
    path = tmp_path / "search.json"
    path.write_text(damage(path.read_text()))
    before = path.read_text()
    with pytest.raises(SkrrError, match=r"search.json is damaged. Delete search.json to search anew"):
        job()
    assert path.read_text() == before


def test_a_huge_file_is_refused_unread(tmp_path):
    path = tmp_path / "search.json"
    with open(path, "wb") as file:
        file.truncate(17 * 1024 * 1024)
    with pytest.raises(SkrrError, match="larger than any search writes"):
        Checkpoint(path, "print")


def test_a_failed_write_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "deep" / "plan.json"
    write_atomically(path, b"old")

    def full(*_):
        raise OSError(28, "No space left on device")

    for name in ("fsync", "replace"):
        with monkeypatch.context() as patch:
            patch.setattr(f"skrr_engine.checkpoint.os.{name}", full)
            with pytest.raises(SkrrError, match="No space"):
                write_atomically(path, b"new")
        assert path.read_bytes() == b"old"
        assert list(path.parent.iterdir()) == [path]
    write_atomically(path, b"new")
    assert path.read_bytes() == b"new"
