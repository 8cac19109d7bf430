"""Words about quality: grades, bands and sentences, and that their numbers are those that were measured."""

import math

import pytest

from benchmarks.front.page import CELLS
from benchmarks.front.points import points
from benchmarks.front.relation import TABLES, drawn_encoders, relation
from benchmarks.tables.cells import Cells
from skrr_engine.measure.quality import BAND, FARTHEST, FORMATS, GRADES, PIPELINE, quality_of, turned


def test_the_more_it_turns_the_worse_it_is():
    found = [quality_of(far / 50) for far in range(0, 60)]
    grades = list(GRADES)
    ranks = [grades.index(one.grade) for one in found]
    assert ranks == sorted(ranks) and set(ranks) == set(range(len(grades)))
    lost = [one.lost for one in found]
    assert lost == sorted(lost) and all(0 <= one.low <= one.lost <= one.high <= 1 for one in found)
    assert found[0].grade == "unchanged" and found[1].grade == "about as good"


@pytest.mark.parametrize(
    "far, grade, words",
    [
        (0.0, "unchanged", "The features are the same."),
        (0.05, "about as good", "turn by 5 % of their size. On the pack's small pipeline"),
        (0.05, "about as good", "lost about 0 of 100 right pictures (0 to 1)"),
        (0.05, "about as good", "Storing that encoder as fp8 turns them about as far."),
        (0.4, "hardly worse", "turn by 40 % of their size."),
        (0.6, "worse", "lost about 10 of 100 right pictures (0 to 21); another model may lose more or fewer."),
        (0.9, "much worse", "turn by 90 % of their size."),
        (1.3, "much worse", "farther than those of any encoder that was measured on"),
    ],
)
def test_words(far, grade, words):
    found = quality_of(far)
    assert found.grade == grade and words in found.sentences
    assert not far or PIPELINE in found.sentences


def test_a_format_is_named_only_where_it_is_near():
    assert quality_of(0.38).like is None and quality_of(0.26).like == "3 bit" and quality_of(0.0).like is None
    assert quality_of(1e-6).like is None


def test_turned_is_the_way_between_features_of_equal_length():
    angle = 0.3
    way = math.dist((1, 0), (math.cos(angle), math.sin(angle)))
    assert turned(1 - math.cos(angle)) == pytest.approx(way)
    assert turned(-1e-18) == 0


def test_the_numbers_are_those_that_were_measured():
    found = points(Cells(CELLS))
    curve = relation(drawn_encoders(found, Cells(TABLES)))
    for far in (0.2, 0.4, 0.6, 0.8, 1.0):
        assert quality_of(far).lost == pytest.approx(curve.lost(far), abs=0.01)
    assert pytest.approx(curve.band, abs=0.02) == BAND and curve.farthest <= FARTHEST
    stored = {"fp8": "fp8 scaled"}
    measured = {point.case.stored: point.found["turned"] for point in found if point.case.target is None}
    for name, far in FORMATS.items():
        assert far == pytest.approx(measured[stored.get(name, name)], abs=0.001)
