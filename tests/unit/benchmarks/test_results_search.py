"""The page's part on searching follows what the benchmarks printed; the curve in use is the one that was measured."""

from copy import deepcopy

from benchmarks import search_curve
from benchmarks.results.command import CELLS
from benchmarks.results.search import curve_section, read_json, search_section
from skrr_engine.demo.layout import DENOISER, ENCODER, TOKENIZER, WEIGHTS
from skrr_engine.jobs.regret import REGRET
from skrr_engine.opening.open_encoder import open_encoder

from ..random_pipeline import write_random_pipeline


def test_every_figure_stands_on_the_page(small):
    text = "\n".join(search_section(small))
    for mode in ("exact", "fast"):
        figures = small["trained"][mode]
        assert f"| {figures['work_ratio']:.2f} ({figures['work_ratio']:.2f} … {figures['work_ratio']:.2f}) |" in text
        assert f"| {figures['seconds_ratio']:.2f} |" in text
        assert f"{small['random'][mode]['work_ratio']:.2f} times less work" in text
    ceiling = small["trained"]["ceiling"]
    assert f"is {ceiling['skip_ratio']:.2f}, with re-use {ceiling['ratio']:.2f}:" in text
    assert "2 of 2" in text and "Projected, not measured" in text and "1,922 dense passes published" in text


def test_verdicts_follow_the_figures(small):
    good = deepcopy(small)
    good["trained"]["exact"] |= {"seconds_ratio": 3.0}
    good["trained"]["fast"] |= {"seconds_ratio": 10.0}
    good["trained"]["quality"] |= {"mean_excess": 0.01, "worst_level": 0.05}
    for mode, ratio in (("exact", 3.0), ("fast", 20.0)):
        good["trained"]["quality"]["draws"][0][mode]["work_ratio"] = ratio
        good["random"][mode] |= {"equal": True, "seconds_ratio": 10.0}
    text = "\n".join(search_section(good))
    assert text.count(": met") == 8 and "not met" not in text
    bad = deepcopy(good)
    bad["trained"]["quality"] |= {"mean_excess": 0.011, "worst_level": 0.051}
    bad["trained"]["quality"]["draws"][0]["fast"]["work_ratio"] = 19.99
    bad["random"]["fast"] |= {"equal": False, "seconds_ratio": 9.99}
    text = "\n".join(search_section(bad))
    assert text.count("not met") == 4 and text.count(": met") == 4
    assert text.count("the same plan") == 1 and text.count("another plan") == 1


def test_the_curve_stands_on_the_page(printed, tmp_path):
    folder = write_random_pipeline(tmp_path, layers=4)
    files = [f"--{name}={folder / file}" for name, file in (
        ("encoder", ENCODER), ("tokenizer", TOKENIZER), ("denoiser", DENOISER),
    )]  # fmt: skip
    sizes = ("--sizes", "4", "8", "--most", "16", "--held-out", "8", "--draws", "1", "--sparsity", "0.1")
    found = printed(search_curve.main, *files, *sizes)
    assert list(found["excess"]) == ["4", "8"] and found["most"] == 16
    text = "\n".join(curve_section(found))
    for size, excess in found["excess"].items():
        assert f"| {size} | {100 * excess:+.1f} % |" in text


def test_what_was_not_measured_is_said_to_be():
    assert search_section(None) == curve_section(None) == ["Not measured yet."]


def test_the_curve_in_use_is_the_one_measured_on_the_weights_that_ship():
    found = read_json(CELLS.with_name("search_curve.json"))
    assert {int(size): excess for size, excess in found["excess"].items()} == REGRET
    assert found["identity"] == open_encoder(WEIGHTS / ENCODER).stack.identity


def test_the_search_was_measured_on_the_weights_that_ship():
    found = read_json(CELLS.with_name("search.json"))["trained"]
    assert found["identity"] == open_encoder(WEIGHTS / ENCODER).stack.identity
    assert found["prompts"] >= 400 and len(found["quality"]["draws"]) >= 5
