"""The benchmark of corrections on a random pipeline: disjoint sets, a page, and cells that are kept."""

import pytest

from benchmarks.corrections import command
from benchmarks.corrections.cases import cases
from benchmarks.corrections.command import main
from benchmarks.corrections.measuring import Bench, Sizes
from benchmarks.corrections.plans import random_levels, stand_in_levels
from benchmarks.corrections.reuse_bound import reuse_bound
from benchmarks.tables.cells import Cells
from skrr_engine.baselines.rebuilt import measure_rebuilt
from skrr_engine.demo.pipeline import Pipeline
from skrr_engine.demo.world.scoring import calibration_captions
from skrr_engine.measure.execute import assign

from ..random_pipeline import write_random_pipeline


@pytest.fixture(scope="module")
def weights(tmp_path_factory, few_steps):
    return write_random_pipeline(tmp_path_factory.mktemp("weights"), layers=4)


def test_search_fit_selection_and_report_share_no_caption(weights):
    bench = Bench(Pipeline(weights), Sizes(search=20, fit=50, selection=10, held_out=2))
    sets = [set(bench.fit), set(bench.selection), set(bench.report), set(calibration_captions(20, 0))]
    assert [len(one) for one in sets[:2]] == [50, 10]
    assert sum(map(len, sets)) == len(set.union(*sets))
    larger = Bench(bench.pipeline, Sizes(search=20, fit=60, selection=10, held_out=2))
    assert larger.selection == bench.selection and larger.identity != bench.identity
    other = Bench(bench.pipeline, Sizes(search=20, fit=50, selection=10, held_out=2), draw=1)
    assert not {*other.fit} <= {*bench.fit} and other.report == bench.report


def test_it_runs_writes_a_page_and_goes_on(few_steps, tmp_path, capsys, monkeypatch):
    weights = write_random_pipeline(tmp_path / "weights", layers=4)
    monkeypatch.setattr(command, "QUICK", command.QUICK | {"selection": 16, "held_out": 3})
    out, text = tmp_path / "found.json", tmp_path / "page.md"
    some = ["--search", "3", "--fit", "40", "--targets", "0.42", "--pictures", "6", "--draws", "1", "--quick"]
    arguments = [*some, "--weights", str(weights), "--out", str(out), "--text", str(text)]
    assert main([*arguments, "--only", "*/bridge, all"]) == 0
    first = capsys.readouterr().err
    assert "0/42/bridge, all: " in first and "0/42/next" not in first
    assert "**Missing**: 12 of 14 cells: 0/stand-in plan; dense; 0/42/plain;" in text.read_text()
    assert main([*arguments, "--only", "dense", "0/42/[!s]*", "0/42/re-use/bound"]) == 0
    second = capsys.readouterr().err
    assert "0/42/bridge, all: " not in second and "0/42/next: " in second
    cells = Cells(out)
    assert cells.missing == ["0/stand-in plan", "0/42/stand-ins: bridge, all"]
    plain, fitted = cells["0/42/plain"], cells["0/42/bridge, all"]
    assert 0 < fitted["D"] < plain["D"] and len(fitted["right"]) == 6
    assert fitted["selection"][1] <= fitted["selection"][0]
    chance, same = cells["0/42/random: plain"], cells["0/42/random: bridge, all"]
    assert chance["removed"] == plain["removed"] and same["D"] < chance["D"] != plain["D"]
    written = text.read_text()
    for said in ("+ re-fit, next", "42 %: D at most half", "random sub-blocks", "condition | pairs"):
        assert said in written
    asked = ["--out", str(out), "--text", str(text)]
    assert main([*asked, "--check"]) == 0
    text.write_text(written + "by hand")
    assert main([*asked, "--check"]) == 1


def test_plans_with_stand_ins_and_by_chance(tmp_path, few_steps):
    pipeline = Pipeline(write_random_pipeline(tmp_path, layers=4))
    bench = Bench(pipeline, Sizes(search=4, fit=30, selection=8, held_out=1))
    found = stand_in_levels(pipeline, bench.fit, bench.searched, (0.2, 0.4))["levels"]
    small, large = found["20"], found["40"]
    assert 0.15 < small["sparsity"] < 0.25 and 0.35 < large["sparsity"] < 0.45
    stack = pipeline.encoder.stack
    assert all(one["sparsity"] == pytest.approx(stack.sparsity(one["order"])) for one in found.values())
    assert bench.measure(large["order"], "bridge, all")["D"] < bench.measure(large["order"], "plain")["D"]
    drawn = random_levels(pipeline, found, seed=1)["levels"]
    again, other = (random_levels(pipeline, found, seed)["levels"] for seed in (1, 2))
    assert drawn == again != other
    assert [sum(i % 2 for i in drawn[key]["order"]) for key in found] == [
        sum(i % 2 for i in found[key]["order"]) for key in found
    ]


def test_reuse_is_chosen_on_the_captions_of_the_search(weights):
    bench = Bench(Pipeline(weights), Sizes(search=3, fit=30, selection=8, held_out=1))
    order = [1, 2, 5]
    plain, paired = bench.measure(order, "plain"), bench.measure(order, "re-use")
    assert all(place in order and source not in order for place, source in paired.get("pairs", []))
    assert (paired["D"] == plain["D"]) == ("pairs" not in paired)


def test_the_papers_condition_for_reuse(weights):
    bench = Bench(Pipeline(weights), Sizes(search=3, fit=30, selection=8, held_out=1))
    stack, order = bench.pipeline.encoder.stack, [2, 5]
    found = reuse_bound(bench.held_out, order)
    assert found["plain"] == pytest.approx(bench.measure(order, "plain")["D"])
    assert [row[:2] for row in found["pairs"]] == [[2, 0], [2, 4], [5, 3], [5, 7]]
    for place, source, distance, value in found["pairs"]:
        one, two = (stack.subblocks[i].modules for i in (place, source))
        named = [dict(module.named_parameters()) for module in (*one, *two)]
        pairs = zip(named[: len(one)], named[len(one) :], strict=True)
        weights = [(a[name], b[name]) for a, b in pairs for name in a if name in b]
        apart = sum((a.double() - b.double()).square().sum().item() for a, b in weights)
        assert distance == pytest.approx((apart / sum(a.double().square().sum().item() for a, _ in weights)) ** 0.5)
        alone = measure_rebuilt(bench.held_out, stack, assign(len(stack.subblocks), order, {place: source}))
        assert value == pytest.approx(alone.value)


def test_what_matters_most_is_measured_first():
    found = cases()
    assert len({case.name for case in found}) == len(found) == 6 * 10 * 3 + 6
    assert [case.name for case in found[:4]] == ["0/42/plain", "0/42/bridge, all", "0/62/plain", "0/62/bridge, all"]
    assert sum(case.pictures for case in found) == 16 and not any(case.pictures for case in cases(pictures=False))


def test_a_target_out_of_reach_is_a_sentence(weights, tmp_path, capsys):
    arguments = ["--weights", str(weights), "--out", str(tmp_path / "x.json"), "--targets", "1.5"]
    assert main([*arguments, "--quick"]) == 2
    assert capsys.readouterr().err.startswith("corrections: ")


def test_the_page_is_what_the_committed_cells_generate(capsys):
    assert main(["--check"]) == 0, capsys.readouterr().out
