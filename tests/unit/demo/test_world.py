"""The small world: scenes keep apart, captions say what is so, and calibration shares nothing with evaluation."""

import random
import re

import pytest
import torch

from skrr_engine.demo.world import captions as grammar
from skrr_engine.demo.world.captions import (
    CALIBRATION,
    EVALUATION,
    FAMILIES,
    caption,
    split_pairs,
    statement,
    whole_caption,
)
from skrr_engine.demo.world.render import render
from skrr_engine.demo.world.scoring import calibration_captions, evaluation_cases
from skrr_engine.demo.world.world import COLOURS, SHAPES, SIZE, TASKS, direction, sample_scene


def scenes(count, seed=0, pairs=None):
    sampler = random.Random(seed)
    return [sample_scene(TASKS[n % 6], sampler, pairs) for n in range(count)]


def test_the_world_is_as_rich_as_promised():
    assert len(SHAPES) >= 5 and len(COLOURS) >= 8
    counts = {len(scene.things) for scene in scenes(300) if scene.task == "counting"}
    assert counts == {1, 2, 3, 4}


def test_things_stay_inside_and_apart():
    for scene in scenes(600):
        for n, thing in enumerate(scene.things):
            for at in (thing.x, thing.y):
                assert thing.radius < at < SIZE - thing.radius
            for other in scene.things[n + 1 :]:
                across, down = abs(thing.x - other.x), abs(thing.y - other.y)
                assert max(across, down) > thing.radius + other.radius + 1


def test_two_things_differ_and_their_place_is_plain():
    for scene in scenes(600):
        if scene.task == "counting" or len(scene.things) < 2:
            continue
        first, second = scene.things
        assert first.shape != second.shape and first.colour != second.colour
        along, aside = sorted((abs(first.x - second.x), abs(first.y - second.y)), reverse=True)
        assert along > 3 * aside


def test_the_directions_are_the_four_of_the_picture():
    class At:
        def __init__(self, x, y):
            self.x, self.y = x, y

    middle = At(0, 0)
    places = {"left of": At(-9, 1), "right of": At(9, -1), "above": At(1, -9), "below": At(1, 9)}
    assert {name: direction(at, middle) for name, at in places.items()} == {name: name for name in places}


def test_an_unknown_task_is_an_error():
    with pytest.raises(ValueError, match="'juggling'; expected one of single object"):
        sample_scene("juggling", random.Random(0))


def test_calibration_and_evaluation_share_no_template_and_no_pair():
    for kind in grammar.TEMPLATES.values():
        families = [set(kind[family]) for family in FAMILIES]
        assert sum(map(len, families)) == len(set.union(*families))
    calibration, evaluation = split_pairs()
    assert not calibration & evaluation and len(calibration | evaluation) == len(SHAPES) * len(COLOURS)
    for half in (calibration, evaluation):
        assert {shape for shape, _ in half} == set(SHAPES) and {colour for _, colour in half} == set(COLOURS)
    used = {(t.shape, t.colour) for case in evaluation_cases(20) for t in case.scene.things}
    assert used <= evaluation
    assert not {case.caption for case in evaluation_cases(50)} & set(calibration_captions(300))


def words(text):
    return re.findall(r"[a-z]+|\d+", text)


@pytest.mark.parametrize("family", [CALIBRATION, EVALUATION, None])
def test_a_caption_names_what_its_task_asks(family):
    """Every shape that is asked for, its colour where the task is about colours, the number where it counts."""
    sampler = random.Random(1)
    for scene in scenes(400, seed=2):
        said = words(caption(scene, sampler, family))
        for thing in scene.things:
            names = (thing.shape, grammar.SYNONYMS[thing.shape])
            assert any(name + end in said for name in names for end in ("", "s", "es"))
        coloured = scene.task in ("colours", "colour attribution")
        assert {thing.colour for thing in scene.things if coloured} == set(COLOURS) & set(said)
        if scene.task == "counting":
            count = len(scene.things)
            assert {grammar.NUMBERS[count - 1], str(count)} & set(said)


def test_statements_are_true_of_their_scene():
    """No colour and no shape is named that is not there; places are never contradicted."""
    sampler = random.Random(3)
    for scene in scenes(600, seed=4):
        said = set(words(statement(scene, sampler)))
        assert set(COLOURS) & said <= {thing.colour for thing in scene.things}
        there = {n for thing in scene.things for n in (thing.shape, grammar.SYNONYMS[thing.shape])}
        named = {n for shape in SHAPES for n in (shape, grammar.SYNONYMS[shape])} & said
        assert named <= there | {"plus"}  # also the word between two things


def test_whole_captions_leave_nothing_open():
    """Every thing's shape and colour is named; of two, where they stand."""
    sampler = random.Random(5)
    for scene in scenes(600, seed=6):
        said = set(words(whole_caption(scene, sampler)))
        assert set(COLOURS) & said == {thing.colour for thing in scene.things}
        for thing in scene.things:
            names = (thing.shape, grammar.SYNONYMS[thing.shape])
            assert {name + end for name in names for end in ("", "s", "es")} & said
        if scene.task not in ("counting", "single object", "colours"):
            assert {"left", "right", "above", "over", "higher", "below", "under", "lower"} & said


def test_pictures_are_the_same_for_the_same_seed_and_stay_in_range():
    some = scenes(12)
    first, again = (render(some, random.Random(7)) for _ in range(2))
    assert torch.equal(first, again) and first.shape == (12, 3, SIZE, SIZE)
    assert 0 <= first.min() and first.max() <= 1
    assert not torch.equal(first, render(some, random.Random(8)))


def test_rendering_together_is_rendering_alone():
    """Jitter aside: with none, a scene's picture does not depend on the others."""

    class Still(random.Random):
        def uniform(self, a, b):
            return (a + b) / 2

    some = scenes(24)
    together = render(some, Still())
    for picture, scene in zip(together, some, strict=True):
        assert torch.equal(picture, render([scene], Still())[0])
