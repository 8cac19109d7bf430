"""The page of results is what the measured cells generate, and its verdicts follow the figures."""

import itertools
import random
import re

import pytest
from transformers import T5Config, T5EncoderModel

from benchmarks.results.command import CELLS, PAGE, main, page
from benchmarks.results.reading import Measured, claim, fact, paper
from benchmarks.tables.cells import Cells
from benchmarks.tables.command import weights_digest
from benchmarks.tables.drawing import Sizes
from benchmarks.tables.layout import Drawing, jobs
from benchmarks.tables.plans import Search
from benchmarks.tables.statistics import Estimate
from benchmarks.tables.variants import Variant
from skrr_engine.demo.layout import T5_SHAPE, WEIGHTS
from skrr_engine.encoders.t5 import T5Stack

SIZES = Sizes(per_task=20, fewer=8, few=6, seeds=2, random_plans=10, random_others=1, spread=2)
# How good a method's pictures are in the made-up cells: right pictures, and likeness to dense ones.
GOOD = {"dense": 0.95, "skrr+": 0.9, "skrr": 0.85, "beam": 0.9, "finercut": 0.6, "no": 0.5, "study": 0.4}


@pytest.fixture(scope="module")
def layout():
    stack = T5Stack(T5EncoderModel(T5Config(**T5_SHAPE, feed_forward_proj="gated-gelu")).eval())
    return jobs(stack, SIZES)


def made_up(path, layout, good=GOOD, leave_out=()):
    """A file with every cell of the layout, invented: of one method as good as `good` says."""
    cells = Cells(path, "weights")
    cells.planned = [job.name for job in layout]
    cells.facts = {"sizes": vars(SIZES) | {}, "torch": "2", "threads": 2, "processors": 2}
    for number, job in enumerate(layout):
        method = re.split("[/ ]", job.name)[0]
        value = invent(job, good.get(method, 0.1), random.Random(job.name), number)
        if job.name not in leave_out and value is not None:
            cells.cells[job.name] = {"fingerprint": job.name, "seconds": 6.0, "value": value}
    return cells


@pytest.fixture(scope="module")
def good(tmp_path_factory, layout):
    """The page of all the made-up cells."""
    return page(made_up(tmp_path_factory.mktemp("good") / "t.json", layout))


def invent(job, rate, sampler, number):
    if isinstance(job.work, Search):
        level = {"order": list(range(20)) if job.work.mode == "exact" else list(range(2, 22)), "sparsity": 0.42}
        return {"levels": {"42": level}, "reused": {}}
    if job.work == "cost":
        one = {"sparsity": 0.4, "parameters": 10, "bytes": 20, "macs": 30_000_000, "seconds": 0.1, "ratio": 0.7}
        encoders = {"dense": one | {"ratio": 1.0}, "skrr": one, "skrr+": one | {"macs": 40_000_000}, "finercut": one}
        return {"encoders": encoders, "picture": 10**9, "tokens": 77, "together": 8}
    size = job.work.per_task if isinstance(job.work, Drawing) else SIZES.per_task
    value = {"right": ["".join(str(int(sampler.random() < rate)) for _ in range(size)) for _ in range(6)]}
    value["frechet"] = [2 - rate, 0.01] if size == SIZES.per_task else None
    if isinstance(job.work, Drawing):
        found = {"value": 1 - rate + sampler.random() / 5, "null": 0.1, "cosine": sampler.random(), "null_norm": 1.0}
        value |= {
            "variant": (job.work.variant or Variant((number % 48, 1))).to_json() | {"order": [number]},
            "sparsity": 0.42,
            "ssim": [[int(1000 * rate)] * size] * 6,
            "discrepancy": {"projected": found, "plain": found | {"value": sampler.random()}},
        }
    return value


def test_the_page_says_everything_that_was_measured(good):
    text = good
    assert text.count("Not measured yet") == 2, "searches have files of their own, which are not there"
    assert "**Missing**" not in text
    for title in ("hard enough", "Table 1", "Table 2", "Table 3", "A11", "A13", "tell the score", "study's rates"):
        assert re.search(f"^## .*{title}", text, re.M), title
    for row in ("dense", "Skrr", "Skrr, skip only", "FinerCut", "ShortGPT", "LaCo", r"magnitude \(zeros\)"):
        assert len(re.findall(rf"^\| {row} \| \d+\.\d \|", text, re.M)) >= (4 if row != "dense" else 1), row
    assert "The fast search skips the same sub-blocks as the exact one: 18 of 20 near 42 %." in text
    rows = [line for line in text.splitlines() if line.startswith("|")]
    widths = {line: line.count("|") for line in rows}
    for line, after in itertools.pairwise(rows):
        if after.startswith("|---"):
            assert widths[line] == widths[after]


def test_verdicts_follow_the_cells_and_not_a_hand(tmp_path, layout, good):
    assert "- *reproduced*: near 42 %, Skrr scores above FinerCut: +" in good
    assert "- *reproduced*: near 42 %, its pictures are more like the dense ones than those of FinerCut" in good
    assert "- *reproduced*: Skrr scores above Skrr without projection: +" in good
    assert "- *holds*: near 42 %, Skrr scores above random plans: +" in good
    assert "- *not reproduced*: near 42 %, its Fréchet distance is below the dense one's: -" in good
    bad = page(made_up(tmp_path / "t.json", layout, GOOD | {"skrr+": 0.1, "finercut": 0.9}))
    assert "- *not reproduced*: near 42 %, Skrr scores above FinerCut: -" in bad
    same = page(made_up(tmp_path / "t.json", layout, GOOD | {"skrr+": 0.9, "finercut": 0.9}))
    assert "- *within noise*: near 42 %, Skrr scores above FinerCut" in same


def test_the_count_of_the_verdicts_is_that_of_the_lines(good):
    for part in good.split("\n## ")[1:]:
        for counted in re.findall(r"\*\*Of (\d+) claims?: (.*)\.\*\*", part):
            said = re.findall(r"^- \*(.+?)\*:", part, re.M)
            assert int(counted[0]) == len(said)
            for number, kind in re.findall(r"(\d+) ([a-z ]+)", counted[1]):
                assert said.count(kind) == int(number)


def test_headroom_is_judged_by_the_figures(tmp_path, layout, good):
    def line(text, start):
        return next(row for row in text.splitlines() if row.startswith(f"| {start}"))

    assert line(good, "dense, 120 pictures").endswith("| 0.90 | met |")
    assert line(good, "all 48 sub-blocks skipped").endswith("| met |")
    assert line(good, "median of 10 random plans").endswith("| 0.2 | met |")
    easy = page(made_up(tmp_path / "t.json", layout, GOOD | {"dense": 0.8, "random": 0.75, "all": 0.8}))
    assert line(easy, "dense, 120 pictures").endswith("| not met; at least 0.75 is |")
    assert line(easy, "all 48 sub-blocks skipped").endswith("| not met |")
    assert line(easy, "median of 10 random plans").endswith("| not met |")


def test_a_gap_is_named_and_the_rest_still_stands(tmp_path, layout):
    names = [job.name for job in layout]
    text = page(made_up(tmp_path / "t.json", layout, leave_out=("skrr+/42/0", "cost")))
    assert f"**Missing**: 2 of {len(names)} cells: skrr+/42/0, cost." in text
    assert "near 42 %, Skrr scores above FinerCut" not in text
    assert "near 33 %, Skrr scores above FinerCut" in text


def test_a_method_that_refused_is_said_to(tmp_path, layout):
    cells = made_up(tmp_path / "t.json", layout)
    cells.cells["laco/50/0"]["value"] = {"absent": "No rung is within 5.00 points."}
    text = page(cells)
    assert "LaCo has no row here: No rung is within 5.00 points." in text


def test_differences_are_paired_on_the_cases_that_both_have(tmp_path, layout):
    cells = made_up(tmp_path / "t.json", layout)
    cells.cells["skrr+/42/0"]["value"]["right"] = ["1" * 20] * 6
    cells.cells["random/42/0"]["value"]["right"] = ["110000"] * 6
    found = Measured(cells).difference(["skrr+/42/0"], ["random/42/0"])
    assert found.value == pytest.approx(4 / 6)
    only = Measured(cells).difference(["skrr+/42/0"], ["random/42/0"], tasks=(0,))
    assert only.value == pytest.approx(4 / 6) and only.smallest > found.smallest


def test_words_for_claims_with_and_without_a_published_figure():
    up = Estimate(0.2, 0.1, 0.3)
    assert claim("x", up, 0.075) == (
        "reproduced", "- *reproduced*: x: +0.200 (+0.100 … +0.300); paper: +0.075; the sample can show 0.100."
    )  # fmt: skip
    assert claim("x", up)[0] == "holds" and claim("x", Estimate(-0.2, -0.3, -0.1))[0] == "does not hold"
    assert fact("x", True, "1")[0] == "holds" and fact("x", False, "1", "2")[0] == "not reproduced"


def test_the_papers_overall_is_the_mean_of_its_tasks():
    """What was typed in is consistent with itself, but for one row that the paper prints so."""
    rows = [row for name in ("table 1", "table A11", "table A13") for row in paper()[name]]
    wrong = [row for row in rows if abs(sum(row["tasks"]) / 6 - row["overall"]) > 0.0007]
    assert [(row["method"], row["sparsity"]) for row in wrong] == [("Skrr", 27.0)]


def test_the_command_writes_the_page_and_checks_it(tmp_path, layout, capsys):
    cells, out = tmp_path / "t.json", tmp_path / "results.md"
    some = [job for job in layout if re.match("dense|renders|(skrr|finercut)/42", job.name)]
    made_up(cells, some).write()
    arguments = ["--cells", str(cells), "--out", str(out)]
    assert main(arguments) == 0 and out.read_text(encoding="utf-8") == page(Cells(cells))
    assert main([*arguments, "--check"]) == 0
    out.write_text(out.read_text(encoding="utf-8").replace("reproduced", "Reproduced", 1), encoding="utf-8")
    assert main([*arguments, "--check"]) == 1
    cells.unlink()
    assert main(arguments) == 2 and "tables measures it" in capsys.readouterr().err


def test_the_committed_page_is_what_the_committed_cells_generate():
    """And the cells are of the weights that ship. Before anything was measured there is neither file."""
    assert PAGE.is_file() == CELLS.is_file()
    if CELLS.is_file():
        assert PAGE.read_text(encoding="utf-8") == page(Cells(CELLS))
        assert Cells(CELLS).weights == weights_digest(WEIGHTS)
