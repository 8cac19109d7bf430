"""`python -m benchmarks.prompts`: its figures against slow ones, and plans on a tiny encoder."""

import itertools
import json
import math
import random
from collections import Counter

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer as Fast
from tokenizers import models, pre_tokenizers

from benchmarks.prompts.command import main
from benchmarks.prompts.coverage import Space, coverage, length_figures, nearness, vocabulary_figures, words
from benchmarks.prompts.plans import parts_of
from skrr_engine.errors import SkrrError
from skrr_engine.files.files import write_pruned
from skrr_engine.jobs.search import Settings, find_plan
from skrr_engine.measure.execute import assign
from skrr_engine.measure.objective import Objective
from skrr_engine.opening.open_encoder import open_encoder
from skrr_engine.opening.projection_files import open_projection
from skrr_engine.opening.tokenizing import calibrate, open_tokenizer
from skrr_engine.plans.plan import EncoderInfo, Plan, make_cut, make_level

TOPICS = [f"{a}{b}" for a, b in itertools.product(("fox", "boat", "pear", "moon"), "abcdef")]


def texts(count, seed, topics=TOPICS):
    """Texts of twelve words about one topic each, in common small words."""
    sampler, small = random.Random(seed), ("on", "the", "a", "of", "by", "in")
    return [" ".join(sampler.choice(small if place % 4 else topics) for place in range(12)) for _ in range(count)]


def test_words():
    assert words("The  fox's DEN, no. 12: déjà-vu_!") == ["the", "fox's", "den", "no", "12", "déjà", "vu"]


def slow_cosine(a, b, corpus, pairs):
    """From the definition, text by text."""

    def features(text):
        found = words(text)
        return found + [f"{x} {y}" for x, y in itertools.pairwise(found)] if pairs else found

    def vector(text):
        counts = Counter(features(text))
        inverse = {f: math.log((1 + len(corpus)) / max(1, sum(f in features(t) for t in corpus))) for f in counts}
        return {f: (1 + math.log(count)) * inverse[f] for f, count in counts.items()}

    x, y = vector(a), vector(b)
    norms = math.sqrt(sum(v * v for v in x.values()) * sum(v * v for v in y.values()))
    return sum(x[f] * y.get(f, 0) for f in x) / norms


@pytest.mark.parametrize("pairs", [False, True])
def test_cosines_equal_the_definition(pairs):
    corpus, others = texts(8, 0), [*texts(3, 1), "unseen words only", "fox fox fox boata"]
    found = Space(corpus, pairs).cosines(corpus[:3], others)
    wanted = [[slow_cosine(a, b, corpus, pairs) for b in others] for a in corpus[:3]]
    np.testing.assert_allclose(found, wanted, atol=1e-12)
    np.testing.assert_allclose(np.diag(Space(corpus, pairs).cosines(corpus, corpus)), 1)


def test_a_text_without_words_is_near_to_nothing():
    found = Space(["a fox", "a boat"]).cosines(["...", "a fox"], ["?!", "a fox"])
    np.testing.assert_allclose(found, [[0, 0], [0, 1]], atol=1e-12)


def test_nearness_is_the_mean_of_the_nearest():
    assert nearness(np.array([[0.1, 0.5], [0.3, 0.2]])) == pytest.approx(0.4)


@pytest.mark.parametrize("pairs", [False, True])
def test_what_a_set_is_worth(pairs):
    """A set of the same pool about its size, one with half of the topics less, one of other words nothing."""
    reference = texts(128, 2)
    ways = ("reference_to_ours", "ours_to_reference")
    same = coverage(texts(64, 3), reference, pairs=pairs)
    half = coverage(texts(64, 3, TOPICS[:6]), reference, pairs=pairs)
    alien = coverage([f"x{n} y{n}" for n in range(64)], reference, pairs=pairs)
    itself = coverage(reference[:64], reference, pairs=pairs)
    assert same["size"] == 64
    assert all(30 < same[way]["worth"] <= 64 for way in ways)
    assert half["reference_to_ours"]["worth"] < 0.6 * same["reference_to_ours"]["worth"]
    assert all(alien[way]["worth"] == 1 and alien[way]["ours"] == 0 for way in ways)
    assert itself["closest_pair"] == pytest.approx(1) and alien["closest_pair"] == 0
    for way in ways:
        curve = list(same[way]["itself"].values())
        assert list(same[way]["itself"]) == ["1", "2", "4", "8", "16", "32", "64"]
        assert curve == sorted(curve)
        least, most = same[way]["worth_range"]
        assert least <= same[way]["worth"] <= most


def test_worth_lies_between_the_sizes_it_was_measured_at():
    from benchmarks.prompts.coverage import _worth

    curve = [0.1, 0.2, 0.4]
    assert [_worth(near, [1, 2, 4], curve) for near in (0.0, 0.1, 0.15, 0.2, 0.3, 0.4, 0.9)] == pytest.approx(
        [1, 1, 2**0.5, 2, 2**1.5, 4, 4]
    )


def test_lengths():
    found = length_figures([0, 19, 20, 100, 101, 259, 300])
    assert found["histogram"] == {
        **{str(n): 0 for n in range(0, 280, 20)},
        "0": 2, "20": 1, "100": 2, "240": 1, "260": 1,
    }  # fmt: skip
    assert (found["prompts"], found["over_100"], found["quantiles"]["0.5"]) == (7, 3 / 7, 100)


def test_vocabulary():
    found = vocabulary_figures(["a red fox", "a boat"], ["a fox a den", "the fox"])
    assert found["reference_known_by_ours"] == {"distinct": 2 / 4, "running": 4 / 6}
    assert found["ours_known_by_reference"] == {"distinct": 2 / 4, "running": 3 / 5}
    assert found["ours"] == {"running": 5, "distinct": 4}


def test_parts_are_disjoint_and_there_must_be_enough():
    prompts = [str(n) for n in range(10)]
    parts = parts_of([*prompts, "3", ""], (4, 3, 3), 0, "set")
    assert [len(part) for part in parts] == [4, 3, 3]
    assert sorted(itertools.chain(*parts)) == prompts
    assert parts_of(prompts, (4, 3), 0, "set") == parts[:2]
    assert parts_of(prompts, (4, 3), 1, "set") != parts[:2]
    with pytest.raises(SkrrError, match=r"The set has 10 distinct prompts; 8 \+ 3 are asked for"):
        parts_of([*prompts, "3"], (8, 3), 0, "set")


@pytest.fixture
def work(tiny, tmp_path, monkeypatch):
    """The current folder with encoder, tokenizer, denoiser and two sets of prompts."""
    monkeypatch.chdir(tmp_path)
    tiny.save(tiny.t5(layers=4, seed=3), tmp_path / "t5.safetensors")
    names = {word: n for n, word in enumerate(["<pad>", "</s>", "<unk>", *"abcdefghijklmnop"])}
    fast = Fast(models.WordLevel(names, unk_token="<unk>"))
    fast.pre_tokenizer = pre_tokenizers.Whitespace()
    fast.save("tokenizer.json")
    save_file({"txt_in.weight": torch.randn(5, 16, generator=torch.Generator().manual_seed(1))}, "flux.safetensors")
    for name, letters, seed in (("ours", "abcdefgh", 5), ("theirs", "ijklmnop", 6)):
        sampler = random.Random(seed)
        lines = [" ".join(sampler.choices(letters, k=5)) for _ in range(16)]
        (tmp_path / f"{name}.txt").write_text("\n".join(lines))
    return tmp_path


PLANS = [
    "--tokenizer", "tokenizer.json", "--encoder", "t5.safetensors", "--denoiser", "flux.safetensors", "--count", "3",
    "--held-out", "4", "--sparsity", "0.4", "--beam", "2", "--draws", "2",
]  # fmt: skip


def run(capsys, *args):
    """(exit code, stdout, stderr)."""
    code = main(list(args))
    out, err = capsys.readouterr()
    return code, out, err


@pytest.mark.parametrize("mode", ["exact", "fast"])
def test_plans_of_two_sets_against_searches_made_by_hand(work, capsys, mode):
    options = [*PLANS, "--again", "--seed", "4", *(["--mode", "fast"] if mode == "fast" else [])]
    code, out, err = run(capsys, "theirs.txt", "--set", "ours.txt", *options)
    assert code == 0
    found = json.loads(out)["plans"]
    encoder = open_encoder("t5.safetensors")
    shape = encoder.stack.architecture
    tokenizer, projection = open_tokenizer("tokenizer.json", "t5"), open_projection("flux.safetensors", shape.width)

    def objective(prompts):
        return Objective(encoder.stack, calibrate(prompts, tokenizer, shape), projection)

    lines = {name: (work / f"{name}.txt").read_text().splitlines() for name in ("ours", "theirs")}
    on_ours, held_ours = parts_of(lines["ours"], (3, 4), 4, "")
    on_theirs, held_theirs, again = parts_of(lines["theirs"], (3, 4, 3), 4, "")
    parts = {"ours": on_ours, "reference": on_theirs, "again": again}
    plans = {
        name: find_plan(objective(part), Settings("t5xxl", 0.4, beam=2, mode=mode, seed=4))
        for name, part in parts.items()
    }
    held = {"ours": objective(held_ours), "reference": objective(held_theirs)}
    assert len(found["levels"]) == min(len(plan.levels) for plan in plans.values()) >= 3
    for number, level in enumerate(found["levels"]):
        cuts = {name: plan.levels[number].cuts["t5xxl"] for name, plan in plans.items()}
        value = {
            name: {on: o.measure(assign(8, cut.skip, cut.reuse_map)).value for on, o in held.items()}
            for name, cut in cuts.items()
        }
        for name, each in value.items():
            assert level["discrepancy"][name] == pytest.approx(each, rel=1e-12)
        for key, other, own, on in (
            ("ours_for_reference", "ours", "reference", "reference"),
            ("reference_for_ours", "reference", "ours", "ours"),
            ("again_for_reference", "again", "reference", "reference"),
        ):
            both = set(cuts[other].skip) & set(cuts[own].skip)
            assert level[key]["overlap"] == len(both) / (number + 1)
            assert level[key]["regret"] == pytest.approx(value[other][on] / value[own][on] - 1, rel=1e-9, abs=1e-12)
        assert level["by_chance"] == (number + 1) / 8
        assert f"{number + 1} skipped:" in err
    assert found["plans"] == {name: sorted(plan.levels[-1].cuts["t5xxl"].skip) for name, plan in plans.items()}


def test_a_set_against_itself_has_no_regret(work, capsys):
    code, out, _ = run(capsys, "ours.txt", "--set", "ours.txt", *PLANS, "--no-reuse")
    figures = json.loads(out)
    assert code == 0 and figures["lengths_in"] == "tokens of tokenizer.json"
    assert figures["lengths"]["ours"]["mean"] == 6
    for level in figures["plans"]["levels"]:
        assert level["ours_for_reference"] == level["reference_for_ours"] == {"overlap": 1.0, "regret": 0.0}


def test_the_shipped_set_without_an_encoder(work, capsys):
    (work / "reference.jsonl").write_text("\n".join(json.dumps({"text": text}) for text in texts(12, 9)))
    code, out, err = run(capsys, "reference.jsonl", "--draws", "2")
    figures = json.loads(out)
    assert code == 0 and "plans" not in figures
    assert figures["lengths_in"] == "words" and figures["lengths"]["ours"]["prompts"] == 600
    assert figures["lengths"]["reference"]["mean"] == 12
    assert "lengths in words" in err and "ours to reference, words and pairs" in err


@pytest.mark.parametrize(
    "args, words_",
    [
        (["no.txt"], "No such file"),
        (["t5.safetensors"], "t5.safetensors is no prompt file"),
        (["three.txt"], "The reference has 3 distinct prompts; halving it takes at least 4"),
        (["ours.txt", "--set", "theirs.txt", *PLANS, "--count", "90"], "The set has 16 distinct prompts; 90 + 4"),
    ],
)
def test_errors_are_sentences(work, capsys, args, words_):
    (work / "three.txt").write_text("a\nb\nc\n")
    code, out, err = run(capsys, *args)
    assert code == 2 and not out and words_ in err


def test_a_pruned_encoder_is_refused(work, capsys):
    encoders = {"t5xxl": EncoderInfo(open_encoder("t5.safetensors").stack.architecture)}
    plan = Plan("cut", encoders, (make_level(encoders, {"t5xxl": make_cut([3])}),))
    write_pruned("t5.safetensors", "small.safetensors", plan)
    code, out, err = run(capsys, "theirs.txt", *PLANS, "--encoder", "small.safetensors")
    assert code == 2 and not out and "small.safetensors is pruned already. Compare on the dense encoder" in err
