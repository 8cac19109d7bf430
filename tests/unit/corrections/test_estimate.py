"""What a fit takes is what was told: the runs of sub-blocks counted one by one, the peak by the allocator."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from transformers import T5Config, T5EncoderModel

from skrr_engine.corrections.estimate import estimate_fit, measured_rates
from skrr_engine.corrections.fit import fit_corrections
from skrr_engine.corrections.sites import KINDS
from skrr_engine.encoders.t5 import T5Stack
from skrr_engine.errors import SkrrError
from skrr_engine.measure.execute import assign
from skrr_engine.measure.objective import Objective
from skrr_engine.measure.projection import no_projection

from .measuring import SKIP

PLANS = {"skip": SKIP, "re-use": assign(8, [1, 4], {4: 6}), "the last": assign(8, [6, 7]), "nothing": assign(8, [])}


@pytest.mark.parametrize("assignment", PLANS.values(), ids=PLANS)
@pytest.mark.parametrize("kind", KINDS)
def test_sub_blocks_run_as_often_as_was_told(tiny, sets, kind, assignment, monkeypatch):
    stack, ran = tiny.stack(), []
    fit, selection = sets(stack, 60, 1), sets(stack, 30, 2)
    told = estimate_fit(fit, selection, assignment, KINDS[kind])
    usual = T5Stack.run

    def run(self, index, hidden, context):
        ran.append(stack.subblocks[index].parameters * hidden.shape[0] * hidden.shape[1])
        return usual(self, index, hidden, context)

    monkeypatch.setattr(T5Stack, "run", run)
    monkeypatch.setattr("skrr_engine.corrections.corrected.CorrectedStack.run", run)
    for portion in selection.portions:
        selection.dense(portion)  # which any measurement takes
    ran.clear()
    found = fit_corrections(fit, selection, assignment, KINDS[kind])
    assert sum(ran) == told.runs
    assert told.places == len(found.sites)
    assert {site.positions for site in found.sites} <= {told.positions}
    assert told.inputs == max((site.inputs for site in found.sites), default=0)


def test_more_than_the_budget_is_a_sentence_before_anything_runs(tiny, sets):
    stack = tiny.stack()
    fit, selection, heard = sets(stack, 60, 1), sets(stack, 30, 2), []
    fit.report = heard.append
    told = estimate_fit(fit, selection, SKIP)
    said = r"The fit takes \S+ KiB beside the encoder; \S+ KiB are there\. Give it at most \d+ prompts"
    with pytest.raises(SkrrError, match=said):
        fit_corrections(fit, selection, SKIP, budget=told.bytes - 1)
    with pytest.raises(SkrrError, match=r"are there\. Give it more memory"):
        fit_corrections(fit, selection, SKIP, budget=10)
    assert heard == []
    assert fit_corrections(fit, selection, SKIP, budget=told.bytes).corrections.matrices


PIXART = (46, 5, 6, 47, 44, 2, 11, 24, 23, 17, 18, 45, 10, 30, 29, 40, 39, 38, 37, 42, 25)


def t5_xxl():
    """In its shape, without data."""
    config = T5Config(
        num_layers=24, d_model=4096, d_kv=64, d_ff=10240, num_heads=64, vocab_size=32128,
        feed_forward_proj="gated-gelu",
    )  # fmt: skip
    with torch.device("meta"):
        return T5Stack(T5EncoderModel(config).eval())


def test_the_cost_of_t5_xxl_is_told_without_its_weights(tiny):
    """66,000 tokens, 21 sub-blocks skipped as published for PixArt: from shapes alone."""
    stack = t5_xxl()
    objectives = [Objective(stack, tiny.rows(n, lengths=(110,)), no_projection(("sequence",))) for n in (600, 64)]
    told = estimate_fit(*objectives, assign(48, PIXART), KINDS["all"])
    assert (told.places, told.positions, told.inputs) == (25, 66_001, 10240)
    assert 2e14 < told.runs < 2e15 and 1e14 < told.sums < 1e15
    assert 2.2 < told.sum_bytes / 2**30 < 3.5 and 3 < told.stream_bytes / 2**30 < 4
    assert told.describe().startswith("25 places from 66,001 positions of 600 prompts: ")
    assert told.seconds(told.runs, told.sums / 2) == 3.0


@pytest.mark.parametrize("length, said", [
    (110, "8.8e+14 multiply-adds in the encoder, 3.3e+14 in float64, 6.34 GiB beside the encoder"),
    (256, "2.1e+15 multiply-adds in the encoder, 6.2e+14 in float64, 11.2 GiB beside the encoder"),
])  # fmt: skip
def test_what_the_design_says_of_t5_xxl(tiny, length, said):
    """The usual corrections from the built-in prompts, of which Skrr Search fits on 480 and chooses by 120."""
    stack, objectives = t5_xxl(), []
    for count in (480, 120):
        objectives.append(Objective(stack, tiny.rows(count, lengths=(length,)), no_projection(("sequence",))))
    assert said in estimate_fit(*objectives, assign(48, PIXART), KINDS["bridge, all"]).describe()
    design = (Path(__file__).parents[3] / "docs" / "design.md").read_text(encoding="utf-8")
    assert said.replace("e+1", "e1") in " ".join(design.split())


def test_rates_are_those_of_this_machine(tiny, sets):
    runs, sums = measured_rates(sets(tiny.stack(), 60, 1))
    assert 1e5 < runs < 1e16 and 1e7 < sums < 1e16


PEAK = """
import torch
from transformers import T5Config, T5EncoderModel
from skrr_engine.corrections.estimate import estimate_fit
from skrr_engine.corrections.fit import fit_corrections
from skrr_engine.corrections.sites import Settings
from skrr_engine.encoders.t5 import T5Stack
from skrr_engine.measure.calibration import Row, make_calibration
from skrr_engine.measure.execute import assign
from skrr_engine.measure.objective import Objective
from skrr_engine.measure.projection import no_projection
def peak():
    # Not getrusage: that starts at what the parent process held.
    (line,) = (line for line in open("/proc/self/status") if line.startswith("VmHWM"))
    return 1024 * int(line.split()[1])
torch.set_num_threads(1)
torch.manual_seed(0)
config = T5Config(num_layers=2, d_model=256, d_kv=64, d_ff=2200, num_heads=4, vocab_size=99)
stack = T5Stack(T5EncoderModel(config).eval())
def objective(count, base):
    rows = [Row(tuple(torch.randint(2, 99, (50,)).tolist()), n, {"sequence": (0.02,) * 50}) for n in range(count)]
    made = make_calibration([f"{base} {n}" for n in range(count)], rows, [Row((1,), 0, {"sequence": (1.0,)})])
    return Objective(stack, made, no_projection(("sequence",)))
fit, selection = objective(80, "a"), objective(8, "b")
told = estimate_fit(fit, selection, assign(4, [1]), Settings("next", ridges=(1.0,)))
whole = estimate_fit(fit, selection, assign(4, [2]), Settings("next", ridges=(1.0,)))
fit_corrections(fit, selection, assign(4, [1]), Settings("next", ridges=(1.0,)))
before = peak()
fit_corrections(fit, selection, assign(4, [2]), Settings("next", ridges=(1.0,)))
print(peak() - before, whole.bytes, told.bytes)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="the peak of a process is asked of Linux")
def test_the_peak_is_what_was_told():
    """Of a process of its own: one matrix of 2,200 inputs, after a small fit that loads everything."""
    done = subprocess.run([sys.executable, "-c", PEAK], capture_output=True, text=True, check=True)
    rise, whole, small = map(int, done.stdout.split())
    assert small < 0.2 * whole and 0.7 * (whole - small) < rise < 1.3 * whole
