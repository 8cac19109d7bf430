"""The benchmark of the re-fit on a random pipeline: disjoint sets, a table, and cells that are kept."""

import pytest

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


def test_it_runs_prints_a_table_and_goes_on(weights, tmp_path, capsys):
    out = tmp_path / "found.json"
    some = ["--search", "3", "--fit", "60", "--targets", "0.12", "--pictures", "6", "--quick"]
    arguments = [*some, "--weights", str(weights), "--out", str(out)]
    assert main([*arguments, "--only", "*/next"]) == 0
    first = capsys.readouterr()
    assert "12/next: " in first.err and "12/all" not in first.out
    assert main(arguments) == 0
    second = capsys.readouterr()
    assert "12/next: " not in second.err and "12/all: " in second.err
    assert [line.split(" | ")[0] for line in second.out.splitlines()[2:]] == [
        "| dense", "| 12/plain", "| 12/next", "| 12/all",
    ]  # fmt: skip
    cells = Cells(out)
    plain, refitted = cells["12/plain"], cells["12/all"]
    assert 0 < refitted["D"] < plain["D"] and len(refitted["right"]) == 6
    assert refitted["selection"][1] <= refitted["selection"][0]


def test_a_target_out_of_reach_is_a_sentence(weights, tmp_path, capsys):
    arguments = ["--weights", str(weights), "--out", str(tmp_path / "x.json"), "--targets", "1.5"]
    assert main([*arguments, "--quick"]) == 2
    assert capsys.readouterr().err.startswith("corrections: ")
