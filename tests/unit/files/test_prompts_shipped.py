"""The prompts that the pack ships: enough of them, varied, no filler. (Lengths in T5's tokens: tests/comfy.)"""

import re
from collections import Counter
from statistics import mean

import pytest

from skrr_engine.files.prompt_files import builtin_prompts, clean_prompts

SETS = {name: builtin_prompts(name) for name in ("calibration", "short")}


def words(text):
    return re.findall(r"[a-z0-9']+", text.lower())


@pytest.mark.parametrize("name, count", [("calibration", 600), ("short", 64)])
def test_distinct_and_clean(name, count):
    prompts = SETS[name]
    assert len(prompts) == len(clean_prompts(prompts)) == count
    assert all(text == text.strip() and "  " not in text for text in prompts)
    assert len({" ".join(words(text)) for text in prompts}) == count


def test_the_two_sets_share_no_prompt():
    assert not set(SETS["calibration"]) & set(SETS["short"])


def test_lengths_vary():
    assert min(map(len, SETS["short"])) < 60 and max(map(len, SETS["short"])) > 600
    lengths = sorted(len(words(text)) for text in SETS["calibration"])
    assert lengths[0] < 20 and lengths[-1] > 160
    assert lengths[60] < 30 and 70 < lengths[300] < 110 and lengths[540] > 140


def test_no_template_filler():
    """Five words that stand in several prompts are grammar ("at the edge of the") and few."""
    runs = Counter()
    openings = Counter()
    for text in SETS["calibration"]:
        found = words(text)
        runs.update({tuple(found[n : n + 5]) for n in range(len(found) - 4)})
        openings[tuple(found[:2])] += 1
    repeated = {run: count for run, count in runs.items() if count > 1}
    assert len(repeated) <= 40 and max(repeated.values()) <= 3
    assert max(openings.values()) <= 8
    assert sum(count for count in openings.values() if count > 2) < 60


def test_a_wide_vocabulary():
    running = [word for text in SETS["calibration"] for word in words(text)]
    assert len(running) > 40_000
    assert len(set(running)) > 6_500


def test_nothing_is_syntax_to_comfyui():
    """Brackets weigh words there, a backslash escapes, embedding: names a file; transformers read them as text."""
    for prompt in SETS["calibration"]:
        assert not re.search(r"[()\[\]{}\\<>|]|embedding:", prompt)


@pytest.mark.parametrize("limit", [16, 32, 64, 128, 256])
def test_any_head_and_any_spread_mixes_the_lengths(limit):
    prompts = SETS["calibration"]
    whole = mean(map(len, prompts))
    for part in (prompts[:limit], clean_prompts(prompts, limit)):
        assert len(part) == limit
        assert abs(mean(map(len, part)) / whole - 1) < 1.6 / limit**0.5
