"""What SkrrCLIPLoader takes in RAM and reads of the file, against the ordinary loader, on a CLIP-L of real shape.

Measured by benchmarks/loading, a fresh process for each way of loading: allocators keep what an earlier load
freed, and would hide a second copy. In legacy mode, the one in which dense weights really sit in RAM, and under
dynamic VRAM, where comfy-aimdo maps the file (it does so on a CPU too; only the card is make-believe).

The fixed cost that is taken off is the type's tokenizer, constructed alone in its own process (SD3's: two CLIP
vocabularies and one T5, 74 MB). The other candidate, loading with a plan that skips everything, would also take off
whatever is held twice of the parameters that such a plan keeps, and so hide the very mistake to be found.
ComfyUI itself, PyTorch and the pack are imported before the measurement starts.

What Windows would commit is measured too: Linux counts it for every process, as the part of its address space that it
may write to for itself. Allocations are in it whether they are touched or not, and files mapped for copy on write.
"""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from .. import model_files

PACK = Path(__file__).resolve().parents[3]
MOST_RAM, MOST_READ = 1.10, 1.05
linux = pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="RAM: only Linux tells anonymous memory")


def benchmark(*arguments):
    """The finished process of the README's command."""
    command = [sys.executable, "-m", "benchmarks.loading", "--cpu", *arguments]
    return subprocess.run(command, cwd=PACK, env=os.environ, capture_output=True, text=True)


@pytest.fixture(scope="module")
def file():
    """A CLIP-L of real shape, 246 MB, random."""
    with tempfile.TemporaryDirectory(prefix="skrr-models-") as folder:
        model_files.write_ordinary_files(Path(folder))
        yield Path(folder) / "text_encoders" / model_files.CLIP_L


@pytest.fixture(scope="module")
def measured(file):
    """What the benchmark prints in legacy mode, one repeat."""
    return result(benchmark("--repeats", "1", "--file", str(file)))


def result(done):
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_the_plan_takes_forty_percent(measured):
    """The case is the one that the target speaks of: several hundred MB, 40 % of them gone; and the table, a third,
    stays in its file."""
    assert measured["file_bytes"] > 200e6
    assert 0.4 + 0.3 <= 1 - measured["kept"]["weights"] / measured["dense"]["weights"] < 0.45 + 0.32


@linux
def test_peak_ram_is_what_is_kept(measured):
    assert measured["kept"]["peak_net"] <= MOST_RAM * measured["kept"]["weights"]
    assert measured["kept"]["peak_net"] >= 0.95 * measured["kept"]["weights"], "less than the weights: wrong"


@linux
def test_peak_committed_memory_is_what_is_kept(measured):
    """On Windows nothing is granted that is not paid for: neither a dense skeleton nor the mapped file."""
    assert measured["kept"]["committed_net"] <= MOST_RAM * measured["kept"]["weights"]
    assert measured["kept"]["committed_net"] >= 0.95 * measured["kept"]["weights"], "less than the weights: wrong"


@linux
@pytest.mark.parametrize("way", ["dense", "applied"])
def test_the_ordinary_loader_commits_the_skeleton_and_the_mapped_file(measured, way):
    """So that the test above can fail, and says what it should: the sum that ComfyUI's loader is known to take."""
    whole = measured["dense"]["weights"] + measured["file_bytes"]
    assert measured[way]["committed_net"] == pytest.approx(whole, rel=0.05)
    assert measured[way]["committed_net"] > 3 * measured["kept"]["weights"]


@linux
@pytest.mark.parametrize("way", ["dense", "applied"])
def test_the_ordinary_loader_takes_more(measured, way):
    """So that the test above can fail: the same figure of the same process misses the target."""
    assert measured[way]["peak_net"] > MOST_RAM * measured["kept"]["weights"]
    assert measured[way]["peak_anon"] > measured["kept"]["peak_anon"]


def test_only_the_kept_byte_ranges_are_read(measured):
    assert measured["kept"]["ranges_read"] <= MOST_READ * measured["kept"]["weights"]
    assert measured["kept"]["ranges_read"] >= measured["kept"]["weights"]
    assert measured["applied"]["ranges_read"] == measured["dense"]["ranges_read"] == measured["file_bytes"]


def test_what_the_benchmark_prints_is_whole(measured):
    """Every way has every figure; what there is no device for is null, not made up."""
    assert measured["mode"] == "legacy" and measured["device"] == "cpu"
    ways = [measured[way] for way in ("dense", "applied", "kept")]
    for figures in ways:
        assert figures["vram"] is None
        assert figures["load_seconds"] > 0 and figures["evicted_seconds"] > 0
        assert figures.keys() == ways[0].keys()


@linux
def test_under_dynamic_vram_the_file_is_mapped_and_the_skipped_part_is_let_go(file):
    """No weight is copied into RAM at all, whichever way; the skipped ranges are out of reach, also after Apply."""
    measured = result(benchmark("--mode", "simulated", "--repeats", "1", "--file", str(file)))
    kept = measured["kept"]["weights"]
    for way in ("kept", "applied"):
        assert measured[way]["weights"] == kept
        assert measured[way]["peak_net"] <= 0.1 * kept
        assert kept <= measured[way]["ranges_read"] <= MOST_READ * kept
    assert measured["dense"]["ranges_read"] == measured["file_bytes"]
    assert measured["kept"]["committed_net"] <= 0.1 * kept
    assert measured["kept"]["evicted_seconds"] is None


def test_dynamic_mode_without_a_gpu_is_a_sentence():
    done = benchmark("--mode", "dynamic", "--repeats", "1", "--file", __file__)
    assert done.returncode != 0
    assert "Dynamic VRAM needs an NVIDIA GPU" in done.stderr
