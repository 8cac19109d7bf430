"""The benchmark of the tables on a small pipeline with random weights: cells are measured once, stale ones anew, and
what is compared is what the tables say."""

import json
from dataclasses import replace

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.results.command import page
from benchmarks.tables import layout
from benchmarks.tables.cells import Cells
from benchmarks.tables.command import Tables, main
from benchmarks.tables.cost import costs, encoder_macs
from benchmarks.tables.drawing import Sizes
from benchmarks.tables.plans import Search, find_levels
from benchmarks.tables.variants import Variant, vary
from skrr_engine.baselines.ladder import MATCHED
from skrr_engine.baselines.magnitude import is_matrix
from skrr_engine.baselines.rebuilt import state_of
from skrr_engine.demo.pipeline import Pipeline
from skrr_engine.encoders.stack import TokenBatch
from skrr_engine.measure.execute import assign, encode

from ..random_pipeline import write_random_pipeline

SMALL = Sizes(
    per_task=2, fewer=1, few=1, prompts=3, held_out=1, reference=3, seeds=1, random_plans=2, random_others=1, spread=2,
    repeats=2,
)  # fmt: skip
ONLY = ("dense", "renders", "shuffled", "shortgpt/42/0", "random/42/*")
MEASURED = {"dense", "renders", "shuffled", "plan/shortgpt/0", "shortgpt/42/0", "random/42/0", "random/42/1"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory, few_steps):
    """The pipeline's folder; a plan is asked for one sparsity instead of four."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(layout, "TARGETS", (layout.ABLATED,))
        yield write_random_pipeline(tmp_path_factory.mktemp("pipeline"))


@pytest.fixture(scope="module")
def pipeline(folder):
    return Pipeline(folder)


@pytest.fixture(scope="module")
def first(folder, tmp_path_factory):
    """The text of a file with a few cells measured."""
    path = tmp_path_factory.mktemp("first") / "tables.json"
    tables = Tables(folder, path, SMALL)
    tables.run(ONLY)
    assert set(tables.measured) == MEASURED
    return path.read_text()


def again(folder, tmp_path, text, sizes=SMALL):
    path = tmp_path / "tables.json"
    path.write_text(text)
    tables = Tables(folder, path, sizes)
    tables.run(ONLY)
    return tables


def test_a_second_run_measures_nothing_and_changes_nothing(folder, first, tmp_path):
    tables = again(folder, tmp_path, first)
    assert tables.measured == [] and tables.cells.path.read_text() == first


def test_a_lost_cell_and_a_stale_one_are_measured_anew_and_come_out_the_same(folder, first, tmp_path):
    lines = [line for line in first.splitlines(keepends=True) if not line.startswith('  "random/42/1"')]
    cut = "".join(lines).replace("},\n }", "}\n }")  # the last cell has no comma
    before = json.loads(first)["cells"]
    stale = cut.replace(before["shortgpt/42/0"]["fingerprint"], "0" * 32)
    tables = again(folder, tmp_path, stale)
    assert tables.measured == ["shortgpt/42/0", "random/42/1"]
    for name in tables.measured:
        assert tables.cells[name] == before[name]["value"]


def test_other_settings_make_stale_what_depends_on_them_alone(folder, first, tmp_path):
    tables = again(folder, tmp_path, first, replace(SMALL, prompts=2))
    assert tables.measured[0] == "plan/shortgpt/0"
    assert set(tables.measured) <= {"plan/shortgpt/0", "shortgpt/42/0"}


def test_what_a_cell_says_of_the_dense_encoder_and_of_a_plan(first):
    cells = {name: cell["value"] for name, cell in json.loads(first)["cells"].items()}
    dense, random = cells["dense"], cells["random/42/0"]
    assert dense["ssim"] == [[1000] * 2] * 6 and dense["sparsity"] == 0
    for objective in ("projected", "plain"):
        assert dense["discrepancy"][objective]["value"] == pytest.approx(0, abs=1e-9)
        assert random["discrepancy"][objective]["value"] > 0
    assert [len(part) for part in random["right"]] == [1] * 6 and random["frechet"] is None
    assert random["sparsity"] == pytest.approx(0.42, abs=0.014)
    assert min(map(min, random["ssim"])) < 1000
    assert len(dense["frechet"]) == 2 and dense["frechet"][0] > cells["renders"]["frechet"][0]
    assert cells["renders"]["right"] == ["11"] * 6, "the judge reads true renders"


def test_no_time_means_no_cell(folder, tmp_path, capsys):
    tables = Tables(folder, tmp_path / "t.json", SMALL)
    tables.run(minutes=0.0)
    assert tables.measured == [] and "The time is over" in capsys.readouterr().err


def test_a_name_that_no_cell_has_is_a_sentence(folder, tmp_path, capsys):
    out = ["--weights", str(folder), "--out", str(tmp_path / "t.json")]
    assert main([*out, "--only", "skr/*"]) == 2
    assert capsys.readouterr().err == "tables: No cell is called skr/*; --list names them all.\n"
    assert main([*out, "--list"]) == 0
    assert "skrr+/42/0" in capsys.readouterr().out


def test_the_page_of_a_few_cells_names_the_gaps(first, tmp_path):
    path = tmp_path / "t.json"
    path.write_text(first)
    cells = Cells(path)
    text = page(cells)
    assert f"**Missing**: {len(cells.planned) - len(MEASURED)} of {len(cells.planned)} cells: all skipped," in text
    assert "| dense, 12 pictures |" in text and "| ShortGPT |" in text and "Not measured yet." in text


def test_methods_are_compared_at_matched_sparsity(pipeline):
    targets = (0.25, 0.42)
    for method in ("shortgpt", "laco"):
        found = find_levels(pipeline, Search(method, 0, 2, targets, reuse=False))
        for target, key in zip(targets, ("25", "42"), strict=True):
            entry = found["levels"][key]
            if "absent" not in entry:
                assert abs(entry["sparsity"] - target) <= MATCHED
                assert entry["sparsity"] == pipeline.encoder.stack.architecture.sparsity(entry["order"])
            else:
                assert method == "laco", "only a threshold refuses"


def test_reuse_goes_on_top_of_the_same_skips(pipeline):
    found = find_levels(pipeline, Search("shortgpt", 0, 2, (0.1,)))
    plain, reused = found["levels"]["10"], found["reused"]["10"]
    assert plain["order"] == reused["order"] and reused["calibration"] >= 0
    assert all(place in plain["order"] and source not in plain["order"] for place, source in reused.get("reuse", ()))


def test_magnitude_rows_set_as_many_zeros_as_others_remove_parameters(folder, pipeline, tmp_path):
    tables = Tables(folder, tmp_path / "t.json", SMALL)
    variant = tables.by_name["magnitude/42"].work.variant
    stack = vary(pipeline, variant)[0].encoder.stack
    zeros = sum(int((tensor == 0).sum()) for name, tensor in state_of(stack).items() if is_matrix(name, tensor))
    assert zeros / stack.architecture.total_parameters == pytest.approx(0.42, abs=1e-3)
    dense = [tensor for name, tensor in state_of(pipeline.encoder.stack).items() if name.endswith("wo.weight")]
    assert sum(int((tensor == 0).sum()) for tensor in dense) < 0.01 * zeros


def test_variants_survive_json_and_leave_the_pipeline_as_it_is(pipeline):
    variant = Variant((14, 5), ((5, 7),), (1, 0, 2), 0.5, 0.35, True, True)
    assert Variant.from_json(json.loads(json.dumps(variant.to_json()))) == variant
    assert Variant().to_json() == {} and Variant.from_json({"sparsity": 0.4}) == Variant()
    before = pipeline.denoiser.blocks[0].mlp.fc1.weight.clone()
    changed, assignment = vary(pipeline, Variant((14, 5), ((5, 7),), denoiser_zeros=0.35))
    weights = torch.cat([t.flatten() for n, t in changed.denoiser.state_dict().items() if is_matrix(n, t)])
    assert (weights == 0).double().mean().item() == pytest.approx(0.35, abs=1e-3)
    assert torch.equal(pipeline.denoiser.blocks[0].mlp.fc1.weight, before)
    assert assignment[5] == 7 and assignment[14] is None and changed.encoder.stack is pipeline.encoder.stack


def test_multiply_accumulates_are_those_that_run(pipeline):
    stack, skip = pipeline.encoder.stack, (0, 5, 6, 11)
    assignment = assign(len(stack.subblocks), skip, {5: 7, 6: 4})
    batch = TokenBatch(torch.full((1, 13), 5), (0,), 13, {})
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        encode(stack, assignment, batch)
    assert 2 * encoder_macs(stack.architecture, assignment, 13) == counter.get_total_flops()


def test_costs_follow_what_is_removed_and_what_runs(pipeline):
    variants = {"dense": Variant(), "skip": Variant((14, 5)), "reuse": Variant((14, 5), ((5, 7),))}
    found = costs(pipeline, variants, 2)["encoders"]
    stack = pipeline.encoder.stack
    assert found["dense"]["bytes"] == stack.total_bytes == 2 * found["dense"]["parameters"]
    assert found["skip"]["bytes"] == found["reuse"]["bytes"] == 2 * found["skip"]["parameters"]
    assert found["skip"]["parameters"] == round((1 - found["skip"]["sparsity"]) * found["dense"]["parameters"])
    assert found["skip"]["macs"] < found["reuse"]["macs"] < found["dense"]["macs"]
    assert found["dense"]["ratio"] == 1
