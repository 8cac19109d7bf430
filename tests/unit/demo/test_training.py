"""Training: resumed equals uninterrupted, span corruption loses nothing, and the parts have the promised shapes."""

import random

import pytest
import torch

from skrr_engine.demo.autoencoder import Autoencoder
from skrr_engine.demo.denoiser import TEXT_WIDTH, Denoiser, position_embedding
from skrr_engine.demo.sampling import SIGMAS, noised, sample, seeded_noise
from skrr_engine.demo.training.loop import Recipe, train
from skrr_engine.demo.training.reading import lessons
from skrr_engine.demo.training.texts import END, PIECES, SENTINELS, UNSAID, corrupt, pretraining_text
from skrr_engine.demo.world.world import COLOURS, DIRECTIONS, SHAPES, Scene, Thing

RECIPE = Recipe(steps=12, rate=1e-2, warm_up=3, average=0.9, save_every=4, log_every=6)


def small_model():
    torch.manual_seed(3)
    return torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.Tanh(), torch.nn.Linear(8, 1))


def loss_of(model, stop=None):
    def loss(step):
        if step == stop:
            raise KeyboardInterrupt
        x = torch.randn(16, 4, generator=torch.Generator().manual_seed(step))
        return (model(x)[:, 0] - x.prod(dim=1)).square().mean()

    return loss


def test_a_resumed_training_ends_where_an_uninterrupted_one_does(tmp_path):
    whole, lines = small_model(), []
    wanted = train("whole", whole, loss_of(whole), RECIPE, tmp_path, lines.append)
    assert lines[0] == "whole: 49 parameters, steps 0 to 12" and lines[1].startswith("whole: step 6 loss ")
    broken = small_model()
    with pytest.raises(KeyboardInterrupt):
        train("broken", broken, loss_of(broken, stop=10), RECIPE, tmp_path, lines.append)
    fresh = small_model()
    found = train("broken", fresh, loss_of(fresh), RECIPE, tmp_path, lines.append)
    assert "broken: 49 parameters, steps 8 to 12" in lines
    assert found.keys() == wanted.keys()
    assert all(torch.equal(found[name], wanted[name]) for name in wanted)
    assert all(torch.equal(a, b) for a, b in zip(fresh.parameters(), whole.parameters(), strict=True))


def test_what_ships_is_the_running_mean(tmp_path):
    model = small_model()
    averaged = train("mean", model, loss_of(model), RECIPE, tmp_path, lambda text: None)
    assert not any(torch.equal(averaged[name], value) for name, value in model.named_parameters())
    last = small_model()
    plain = Recipe(**{**RECIPE.__dict__, "average": 0.0})
    shipped = train("last", last, loss_of(last), plain, tmp_path, lambda text: None)
    assert all(torch.equal(shipped[name], value) for name, value in last.named_parameters())


@pytest.mark.parametrize("seed", range(20))
def test_span_corruption_can_be_undone(seed):
    """The truth, put where there is one, gives the text back; all else stands, and the end is never touched."""
    sampler = random.Random(seed)
    ids = [sampler.randrange(3, PIECES) for _ in range(sampler.randint(1, 30))]
    found, truth = corrupt(ids, sampler)
    assert len(found) == len(truth) == len(ids) + 1 and found[-1] == END and truth[-1] == UNSAID
    assert [t if t != UNSAID else f for f, t in zip(found[:-1], truth, strict=False)] == ids
    hidden = [at for at, token in enumerate(found) if token >= PIECES]
    assert all(truth[at] != UNSAID and found[at] < PIECES + SENTINELS for at in hidden)


def test_about_a_quarter_is_corrupted():
    sampler = random.Random(0)
    truths = [corrupt(list(range(3, 33)), sampler)[1][:-1] for _ in range(400)]
    share = sum(t != UNSAID for truth in truths for t in truth) / (400 * 30)
    assert 0.15 < share < 0.35


def test_lessons_are_the_truth_about_the_scene():
    """Each word for a thing or a colour is asked what its scene answers, and nothing else is."""
    first, second = Thing("circle", "red", 16, 30, 9), Thing("ring", "blue", 48, 31, 9)
    words = ["\u2581a", "\u2581blue", "\u2581hoop", "\u2581and", "\u2581discs", "\u2581green"]
    text = "right of a blue hoop and discs red"
    found = lessons(list(range(6)), text, Scene("position", (first, second)), words.__getitem__)
    no = UNSAID
    assert found == {
        "colour": [no, no, list(COLOURS).index("blue"), no, list(COLOURS).index("red"), no],
        "place": [no, no, DIRECTIONS.index("right of"), no, DIRECTIONS.index("left of"), no],
        "number": [no, no, 0, no, 0, no],
        "shape": [no, SHAPES.index("ring"), no, no, no, no],
    }
    three = Scene("counting", (first, first, first))
    found = lessons([4], "three discs", three, words.__getitem__)
    assert found["number"] == [2] and found["place"] == [len(DIRECTIONS)]
    assert all(answer == [UNSAID] for answer in lessons([4], "three discs", None, words.__getitem__).values())


def test_lessons_ask_only_what_the_text_says():
    first, second = Thing("circle", "red", 16, 30, 9), Thing("ring", "blue", 48, 31, 9)
    words = ["\u2581disc", "\u2581ring"]

    def asked(text: str, scene: Scene) -> set[str]:
        found = lessons([0, 1], text, scene, words.__getitem__)
        return {name for name, answers in found.items() if any(answer != UNSAID for answer in answers)}

    two = Scene("two objects", (first, second))
    assert asked("a disc, a ring", two) == {"number"}
    assert asked("a red disc, a ring", two) == {"number", "colour"}
    assert asked("a disc over a ring", two) == {"number", "place"}
    assert lessons([0], "a disc", two, words.__getitem__)["place"] == [len(DIRECTIONS)], "the ring is not spoken of"
    many = Scene("counting", (first, first))
    assert asked("every disc", many) == {"place"} and asked("2 disc", many) == {"number", "place"}


def test_pretraining_texts_are_drawn_from_the_seed_alone():
    assert [pretraining_text(random.Random(9)) for _ in range(3)] == [pretraining_text(random.Random(9))] * 3


def test_the_parts_have_their_shapes_and_sizes():
    denoiser, autoencoder = Denoiser(), Autoencoder()
    assert sum(p.numel() for p in denoiser.parameters()) <= 3_000_000
    latents = autoencoder.encode(torch.rand(2, 3, 64, 64))
    assert latents.shape == (2, 4, 8, 8) and autoencoder.decode(latents).shape == (2, 3, 64, 64)
    found = denoiser(torch.randn(2, 4, 8, 8), torch.tensor([1.0, 900.0]), torch.randn(2, 5, TEXT_WIDTH))
    assert found.shape == (2, 4, 8, 8)


def test_masked_text_is_as_if_it_were_not_there():
    torch.manual_seed(0)
    denoiser, latents, times = Denoiser(), torch.randn(2, 4, 8, 8), torch.tensor([10.0, 500.0])
    text = torch.randn(2, 9, TEXT_WIDTH)
    mask = torch.arange(9)[None] < torch.tensor([[9], [4]])
    both = denoiser(latents, times, text, mask)
    alone = denoiser(latents[1:], times[1:], text[1:, :4])
    torch.testing.assert_close(both[1:], alone)
    torch.testing.assert_close(both[:1], denoiser(latents[:1], times[:1], text[:1]))


def test_every_place_has_an_embedding_of_its_own():
    places = position_embedding(160, 4, 4)
    assert places.shape == (16, 160)
    assert torch.pdist(places).min() > 1


def test_the_sampler_finds_what_a_perfect_denoiser_knows():
    """A denoiser that always knows the picture leads every noise there; guidance of 1 is no guidance."""
    target, null = torch.randn(1, 4, 8, 8), torch.randn(1, 4, 8, 8)

    def predict(inputs, times):
        sigma = SIGMAS[int(times[0])]
        found = torch.cat([target, null]).repeat_interleave(len(inputs) // 2, dim=0)
        noise = (inputs * (sigma**2 + 1).sqrt() - found) / sigma
        return noised(found, noise, times.long())[1]

    noise = seeded_noise([1, 2, 3], (4, 8, 8))
    assert noise.shape == (3, 4, 8, 8) and not torch.equal(noise[0], noise[1])
    assert torch.equal(noise[1:2], seeded_noise([2], (4, 8, 8)))
    torch.testing.assert_close(sample(predict, noise, 20, 1.0), target.expand(3, -1, -1, -1), atol=1e-3, rtol=1e-3)
    guided = null + 4.0 * (target - null)
    torch.testing.assert_close(sample(predict, noise, 20, 4.0), guided.expand(3, -1, -1, -1), atol=1e-2, rtol=1e-3)
