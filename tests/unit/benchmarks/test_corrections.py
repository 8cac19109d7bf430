"""The benchmark of corrections on a random pipeline: disjoint sets, a page, and cells that are kept."""

import pytest

from benchmarks.corrections.cases import cases
from benchmarks.corrections.command import main
from benchmarks.corrections.measuring import Bench, Sizes
from benchmarks.tables.cells import Cells
from skrr_engine.demo.pipeline import Pipeline
from skrr_engine.demo.world.scoring import calibration_captions

from ..random_pipeline import write_random_pipeline


@pytest.fixture(scope="module")
def weights(tmp_path_factory, few_steps):
    return write_random_pipeline(tmp_path_factory.mktemp("weights"))


def test_search_fit_selection_and_report_share_no_caption(weights):
    bench = Bench(Pipeline(weights), Sizes(search=20, fit=50, selection=10, held_out=2))
    sets = [set(bench.fit), set(bench.selection), set(bench.report), set(calibration_captions(20, 0))]
    assert [len(one) for one in sets[:2]] == [50, 10]
    assert sum(map(len, sets)) == len(set.union(*sets))
    larger = Bench(bench.pipeline, Sizes(search=20, fit=60, selection=10, held_out=2))
    assert larger.selection == bench.selection and larger.identity != bench.identity
    other = Bench(bench.pipeline, Sizes(search=20, fit=50, selection=10, held_out=2), draw=1)
    assert not {*other.fit} <= {*bench.fit} and other.report == bench.report


def test_it_runs_writes_a_page_and_goes_on(weights, tmp_path, capsys):
    out, text = tmp_path / "found.json", tmp_path / "page.md"
    some = ["--search", "3", "--fit", "60", "--targets", "0.42", "--pictures", "6", "--draws", "1", "--quick"]
    arguments = [*some, "--weights", str(weights), "--out", str(out), "--text", str(text)]
    assert main([*arguments, "--only", "*/bridge, all"]) == 0
    first = capsys.readouterr().err
    assert "0/42/bridge, all: " in first and "0/42/next" not in first
    assert "**Missing**: 6 of 8 cells: dense; 0/42/plain;" in text.read_text()
    assert main(arguments) == 0
    second = capsys.readouterr().err
    assert "0/42/bridge, all: " not in second and "0/42/next: " in second
    cells = Cells(out)
    assert cells.missing == []
    plain, fitted = cells["0/42/plain"], cells["0/42/bridge, all"]
    assert 0 < fitted["D"] < plain["D"] and len(fitted["right"]) == 6
    assert fitted["selection"][1] <= fitted["selection"][0]
    written = text.read_text()
    assert "+ re-fit, next" in written and "42 %: D at most half" in written and "Missing" not in written
    asked = ["--out", str(out), "--text", str(text)]
    assert main([*asked, "--check"]) == 0
    text.write_text(written + "by hand")
    assert main([*asked, "--check"]) == 1


def test_what_matters_most_is_measured_first():
    found = cases()
    assert len({case.name for case in found}) == len(found) == 6 * 6 * 3 + 6
    assert [case.name for case in found[:4]] == ["0/42/plain", "0/42/bridge, all", "0/62/plain", "0/62/bridge, all"]
    assert sum(case.pictures for case in found) == 14 and not any(case.pictures for case in cases(pictures=False))


def test_a_target_out_of_reach_is_a_sentence(weights, tmp_path, capsys):
    arguments = ["--weights", str(weights), "--out", str(tmp_path / "x.json"), "--targets", "1.5"]
    assert main([*arguments, "--quick"]) == 2
    assert capsys.readouterr().err.startswith("corrections: ")


def test_the_page_is_what_the_committed_cells_generate(capsys):
    assert main(["--check"]) == 0, capsys.readouterr().out
