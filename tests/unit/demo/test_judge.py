"""The judge: right on rendered scenes, clean, noisy and blurred; and never fooled into a pass."""

import random
from dataclasses import replace

import pytest
import torch
from torch.nn import functional

from skrr_engine.demo.world.judge import Found, answers, look
from skrr_engine.demo.world.render import render
from skrr_engine.demo.world.scoring import Case, interval, right, score
from skrr_engine.demo.world.world import COLOURS, SHAPES, TASKS, Scene, sample_scene

COUNT = 120


@pytest.fixture(scope="module")
def drawn():
    sampler = random.Random(11)
    scenes = [sample_scene(TASKS[n % 6], sampler) for n in range(COUNT)]
    return scenes, render(scenes, sampler)


@pytest.fixture(scope="module")
def seen(drawn):
    """What the judge finds in the clean pictures."""
    return look(drawn[1])


def share(scenes, seen):
    return sum(answers(scene, found) for scene, found in zip(scenes, seen, strict=True)) / len(scenes)


def test_it_reads_rendered_scenes(drawn, seen):
    assert share(drawn[0], seen) >= 0.995


def test_it_reads_noisy_scenes(drawn):
    scenes, pictures = drawn
    noise = torch.randn(pictures.shape, generator=torch.Generator().manual_seed(0))
    assert share(scenes, look(pictures + 0.05 * noise)) >= 0.99


def test_it_reads_blurred_scenes(drawn):
    scenes, pictures = drawn
    kernel = torch.tensor([1.0, 4, 6, 4, 1])
    kernel = (kernel[:, None] * kernel / 256).expand(3, 1, 5, 5)
    blurred = functional.conv2d(functional.pad(pictures, (2, 2, 2, 2), mode="replicate"), kernel, groups=3)
    assert share(scenes, look(blurred)) >= 0.98


def test_it_finds_places_within_a_pixel_and_a_half(drawn, seen):
    for scene, found in zip(drawn[0], seen, strict=True):
        for thing in found:
            assert min(max(abs(thing.x - t.x), abs(thing.y - t.y)) for t in scene.things) < 1.8


def test_another_scene_never_passes(drawn, seen):
    """Pictures against captions of other scenes: a pass only where the other scene is as good an answer."""
    scenes = drawn[0]
    for n, scene in enumerate(scenes):
        other = seen[(n + 6) % COUNT]  # of the same task
        truth = [Found(t.shape, t.colour, t.x, t.y) for t in scenes[(n + 6) % COUNT].things]
        assert answers(scene, other) <= answers(scene, truth)


@pytest.mark.parametrize("task", TASKS)
def test_one_wrong_thing_fails(task):
    """A wrong shape, number, colour or side, wherever the task asks for it."""
    scene = sample_scene(task, random.Random(5))
    exact = [Found(t.shape, t.colour, t.x, t.y) for t in scene.things]
    assert answers(scene, exact)
    used = {t.shape for t in scene.things}
    assert not answers(scene, [replace(exact[0], shape=next(s for s in SHAPES if s not in used)), *exact[1:]])
    assert not answers(scene, [replace(exact[0], shape=None), *exact[1:]])
    assert not answers(scene, exact[1:])
    assert not answers(scene, [*exact, Found("circle", "red", 5, 5)])
    recoloured = [replace(exact[0], colour=next(c for c in COLOURS if c != exact[0].colour)), *exact[1:]]
    assert answers(scene, recoloured) == (task not in ("colours", "colour attribution"))
    mirrored = [replace(f, x=64 - f.x, y=64 - f.y) for f in exact]
    assert answers(scene, mirrored) == (task != "position")


def test_swapped_colours_fail_attribution():
    scene = sample_scene("colour attribution", random.Random(6))
    a, b = scene.things
    assert not answers(scene, [Found(a.shape, b.colour, a.x, a.y), Found(b.shape, a.colour, b.x, b.y)])


@pytest.mark.parametrize("picture", ["black", "noise", "half", "stripes"])
def test_what_is_no_scene_passes_nothing(picture):
    pictures = {
        "black": torch.zeros(1, 3, 64, 64),
        "noise": torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(1)),
        "half": torch.cat([torch.zeros(1, 3, 64, 32), torch.ones(1, 3, 64, 32)], dim=3),
        "stripes": (torch.arange(64) // 8 % 2).float().expand(1, 3, 64, 64),
    }
    (found,) = look(pictures[picture])
    sampler = random.Random(2)
    assert not any(answers(sample_scene(TASKS[n % 6], sampler), found) for n in range(120))


def test_scores_are_means_of_tasks_and_intervals_cover_them(drawn):
    scenes, pictures = (part[:120] for part in drawn)
    cases = [Case(scene, "", n) for n, scene in enumerate(scenes)]
    verdicts = right(cases, pictures)
    verdicts[torch.arange(120) % 12 == 0] = False  # half of the first task
    found = score(cases, verdicts)
    assert found.tasks["single object"] == 0.5
    assert found.overall == pytest.approx(sum(found.tasks.values()) / 6)
    assert found.low < found.overall < found.high


def test_the_interval_is_about_the_textbook_one():
    """One task, a fair coin: 1.96 standard errors."""
    scene = Scene("colours", ())
    cases = [Case(scene, "", n) for n in range(400)]
    values = (torch.arange(400) % 2).double()
    low, high = interval(cases, values)
    assert high - low == pytest.approx(2 * 1.96 * 0.5 / 400**0.5, rel=0.15)
    assert interval(cases, values) == (low, high)
