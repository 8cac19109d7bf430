"""The benchmark of bytes against quality on a random pipeline: bytes, fp16 exactly, cells that are kept, a page."""

import copy
from dataclasses import replace

import pytest
import torch

from benchmarks.corrections.command import main as corrections
from benchmarks.corrections.measuring import Bench, Sizes
from benchmarks.front.cards import BEGIN, END, MODELS, T5_ALONE, block, in_readme
from benchmarks.front.cases import BEST, Case, cases
from benchmarks.front.command import main
from benchmarks.front.known import Known
from benchmarks.front.measuring import Storage, power_of
from benchmarks.front.page import CELLS
from benchmarks.front.points import Point, front_of, over_draws, points
from benchmarks.front.relation import TABLES, Drawn, drawn_encoders, relation
from benchmarks.tables.cells import Cells
from benchmarks.tables.command import weights_digest
from skrr_engine.demo.layout import WEIGHTS
from skrr_engine.demo.pipeline import Pipeline
from skrr_engine.measure.execute import assign
from skrr_engine.plans.presets import load_preset

from ..random_pipeline import write_random_pipeline

SIZES = Sizes(search=3, fit=40, selection=8, held_out=1, pictures=6)
SKIP = [3, 6, 0]


@pytest.fixture(scope="module")
def weights(tmp_path_factory, few_steps):
    return write_random_pipeline(tmp_path_factory.mktemp("weights"), layers=4)


@pytest.fixture(scope="module")
def storage(weights, tmp_path_factory):
    return Storage(Bench(Pipeline(weights), SIZES), tmp_path_factory.mktemp("fits"))


def test_fp16_is_what_the_file_holds(storage, weights):
    stack = storage.stack
    found = storage.measure(Case("fp16"), [])
    assert found["D"] == 0 and found["bytes"] == stack.total_bytes
    held = storage.bench.held_out
    pruned = storage.measure(Case("fp16", 0.42), SKIP)
    assert pruned["bytes"] == stack.total_bytes - sum(stack.subblocks[i].bytes for i in SKIP)
    assert pruned["D"] == pytest.approx(held.measure(assign(len(stack.subblocks), SKIP)).value, rel=1e-6)
    assert pruned["moved"] == pytest.approx((pruned["D"] / storage.power) ** 0.5)


def test_a_corrected_plan_is_stored_whole(storage):
    plain, corrected = (storage.measure(Case("Q4_0", 0.42, way), SKIP) for way in ("plain", BEST))
    assert corrected["D"] < plain["D"]
    (fitted,) = storage.fits.values()
    assert corrected["bytes"] - plain["bytes"] == fitted.extra_bytes > 0
    assert all(matrix.dtype == torch.float32 for matrix in fitted.matrices.values())
    again = Storage(storage.bench, storage.folder)
    again._fit = lambda *_: pytest.fail("the fit was kept")
    assert again.measure(Case("Q4_0", 0.42, BEST), SKIP) == corrected


def test_fewer_bits_move_more_and_nothing_is_written_into_the_encoder(storage):
    before = copy.deepcopy(storage.stack.model.state_dict())
    moved = {name: storage.measure(Case(name), [])["moved"] for name in ("Q8_0", "Q4_0", "2 bit")}
    assert 0 < moved["Q8_0"] < moved["Q4_0"] < moved["2 bit"]
    assert all(torch.equal(value, before[name]) for name, value in storage.stack.model.state_dict().items())


def test_power_is_the_discrepancy_of_zeros(storage):
    objective = storage.bench.held_out
    zeros = copy.copy(objective)
    zeros.features = lambda outputs, batch: {
        name: torch.zeros_like(value) for name, value in objective.features(outputs, batch).items()
    }
    assert power_of(objective) == pytest.approx(zeros.measure(objective.dense_assignment).value, rel=1e-6)


@pytest.fixture(scope="module")
def run(weights, tmp_path_factory):
    """The arguments of a small run, and the folder that it writes into."""
    folder = tmp_path_factory.mktemp("front")
    some = ["--quick", "--search", "3", "--fit", "40", "--targets", "0.42", "--pictures", "6"]
    some += ["--weights", str(weights)]
    asked = ["--out", str(folder / "f.json"), "--text", str(folder / "f.md"), "--picture", str(folder / "f.svg")]
    return [*some, *asked], folder


def test_it_takes_what_corrections_measured_goes_on_and_writes_a_page(run, capsys):
    arguments, folder = run
    plans = folder / "corrections.json"
    common = arguments[: arguments.index("--out")]
    others = [*common, "--draws", "1", "--out", str(plans), "--text", str(folder / "c.md")]
    assert corrections([*others, "--only", "dense", "0/42/plain"]) == 0
    capsys.readouterr()
    asked = [*arguments, "--plans", str(plans), "--only"]
    wanted = ["dense/fp16", "dense/Q4_0", "0/42/plain/fp16", "0/42/bridge, all/Q4_0"]
    assert main([*asked, *wanted[:3]]) == 0
    cells, theirs = Cells(folder / "f.json"), Cells(plans)
    assert cells["0/plan"] == theirs["0/plan"]
    assert cells["0/42/plain/fp16"]["right"] == theirs["0/42/plain"]["right"]
    assert cells["dense/fp16"]["right"] == theirs["dense"]["right"]
    text = (folder / "f.md").read_text()
    assert "| Q4_0 | 0 % |" in text and "**Missing**" in text and "Too few encoders" in text
    assert capsys.readouterr().err.count(": ") == 4
    assert main([*asked, *wanted]) == 0
    assert capsys.readouterr().err.startswith("0/42/bridge, all/Q4_0: ")
    check = ["--check", *arguments[arguments.index("--out") :]]
    assert main(check) == 0 and "Nothing differs" in capsys.readouterr().out
    (folder / "f.svg").write_text("by hand")
    assert main(check) == 1 and "f.svg differs" in capsys.readouterr().out


def test_cells_of_other_weights_or_other_work_are_not_taken(run, storage):
    plans = run[1] / "corrections.json"
    known, case = Known(plans, Cells(plans).weights), Case("fp16", 0.42)
    order = Cells(plans)["0/plan"]["levels"]["42"]["order"]
    sizes = Bench(storage.bench.pipeline, Sizes(search=3, fit=40, selection=64, held_out=20, pictures=6))
    assert known.measured(case, order, sizes)["D"] > 0 and known.measured(case, order[:1], sizes) is None
    assert known.measured(Case("Q8_0", 0.42), order, sizes) is None
    assert Known(plans, "other").measured(case, order, sizes) is None
    assert Known(run[1] / "missing.json", "other").drawn() == []
    assert [one.name for one in known.drawn()] == ["0/42/plain/fp16"]


def test_cells_have_names_of_their_own():
    found = cases()
    assert len({case.name for case in found}) == len(found)
    assert [case.name for case in found[:3]] == ["dense/fp16", "dense/Q4_0", "0/42/bridge, all/Q4_0"]
    assert not any(case.pictures for case in cases(pictures=False))


def drawn(bytes_, score, moved=0.0, name="Q4_0"):
    return Point(Case(name, 0.42), {"bytes": bytes_, "score": score, "moved": moved, "removed": 0.4})


def test_the_front_is_what_nothing_smaller_matches():
    some = [drawn(10, 0.7), drawn(8, 0.7), drawn(6, 0.5), drawn(4, 0.6), drawn(12, 0.8)]
    assert [point.bytes for point in front_of(some)] == [12, 8, 4]
    other = Point(replace(some[0].case, draw=1), {**some[0].found, "bytes": 14, "score": 0.5})
    (merged,) = over_draws([some[0], other])
    assert (merged.bytes, merged.score, merged.case) == (12, 0.6, some[0].case)


def test_the_relation_finds_a_curve_and_what_strays():
    far = [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7]
    exact = [Drawn("x", 0.9 * m, m, 0.5 * m**2.5, 510) for m in far]
    found = relation([*exact, Drawn("dense again", 0, 0, 0.1, 510), Drawn("lost", 9, 1.3, 1, 510)])
    assert (found.factor, found.power) == (pytest.approx(0.5), 2.5) and found.band < 1e-9
    assert (found.farthest, found.count, found.lost(0.4)) == (0.7, 7, pytest.approx(0.5 * 0.4**2.5))
    off = [replace(one, lost=one.lost + (0.1 if n % 2 else -0.1) * one.turned) for n, one in enumerate(exact)]
    assert relation(off).band == pytest.approx(0.2, abs=0.03)
    assert relation(exact, lambda one: one.moved).factor == pytest.approx(0.5 / 0.9**2.5)
    assert relation(exact[:3]) is None


def test_tables_cells_are_points_too():
    """Against what benchmarks.tables prints of the same cells, on the cases that both dense and pruned have."""
    found = points(Cells(CELLS))
    tables = Cells(TABLES)
    drawn = {one.name: one for one in drawn_encoders(found, tables)}
    one, value = drawn["tables: skrr/42/0"], tables["skrr/42/0"]
    assert one.pictures == sum(map(len, value["right"]))
    assert one.turned == pytest.approx((2 * value["discrepancy"]["projected"]["cosine"]) ** 0.5)
    assert 0 < one.lost < 0.3 and one.moved < one.turned
    left_out = ("dense", "null caption", "other noise")
    assert not any(f"tables: {name}" in drawn for name in left_out) and "dense/fp16" not in drawn


def test_the_recommendation_is_the_best_that_fits():
    row = {"bytes": 10e9, "free": {"layers": 1e9, "table": 1e9}}
    free = {name: row for name in (*MODELS, T5_ALONE)}
    lines = block(Cells(CELLS), free).splitlines()
    (klein,) = (line for line in lines if line.startswith("| FLUX.2 klein 4B |"))
    # 8 GB are left of 10: 4 in fp8, 2.25 in 4 bit, beside 1.5 for the rest.
    assert klein == f"| FLUX.2 klein 4B | 10.0 | 4 bit: 2.2 | fp8: 4.0 | fp8: 4.0 {'| 16 bit: 8.0 ' * 3}|"
    larger = block(Cells(CELLS), {name: {**row, "bytes": 13e9} for name in free}).splitlines()
    (flux,) = (line for line in larger if line.startswith("| FLUX.1 |"))
    taken = 13 * load_preset("flux1-dev").level_for(0.4).sparsity
    assert f"| 4 bit and 40 % less: {(11 - taken) * 4.5 / 16:.1f} | 4 bit: 3.1 |" in flux
    assert in_readme(f"a\n{BEGIN}\nold\n{END}\nb", "new") == "a\nnew\nb"


def test_page_and_picture_are_what_the_committed_cells_generate(capsys):
    assert main(["--check"]) == 0, capsys.readouterr().out


def test_the_committed_cells_are_of_the_shipped_weights():
    cells = Cells(CELLS)
    assert cells.weights == weights_digest(WEIGHTS)
    assert {point.case.name for point in points(cells)} >= {"dense/fp16", "dense/Q4_0", "0/42/bridge, all/fp16"}
