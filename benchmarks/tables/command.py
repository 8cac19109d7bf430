"""The paper's tables, measured on the small pipeline: `python -m benchmarks.tables`.

Searches with every method, draws the evaluation captions under every plan, and keeps what it finds in one JSON file
(docs/results/tables.json), cell by cell: stop it whenever you like, the next call goes on. A cell is measured anew when
anything that it depends on has changed. `python -m benchmarks.results` makes docs/results.md of the file.

    --list          names the cells and says which are there
    --only 'skrr*'  measures cells of these names alone (and what they need); several patterns may follow
    --minutes 10    begins no new cell after that time
    --quick         a few pictures a cell, to see that everything runs; goes into another file

The most telling cells come first. The whole takes about half an hour on two cores.
"""

import argparse
import fnmatch
import hashlib
import os
import sys
import time
from dataclasses import asdict
from pathlib import Path

import torch

from benchmarks.tables.cells import Cells
from benchmarks.tables.cost import costs
from benchmarks.tables.drawing import Drawer, Sizes
from benchmarks.tables.layout import ABLATED, METHODS, Drawing, Job, jobs
from benchmarks.tables.plans import Search, find_levels, key_of
from benchmarks.tables.variants import Variant
from skrr_engine.demo.layout import AUTOENCODER, DENOISER, ENCODER, TOKENIZER, WEIGHTS
from skrr_engine.demo.pipeline import Pipeline
from skrr_engine.digest import digest_json
from skrr_engine.errors import SkrrError

__all__ = ["RESULTS", "Tables", "main", "weights_digest"]

PACK = Path(__file__).resolve().parents[2]
RESULTS = PACK / "docs" / "results" / "tables.json"
# Raised when a measurement means something else than before.
MEANING = 1
QUICK = Sizes(
    per_task=3, fewer=2, few=1, prompts=6, held_out=1, reference=20, seeds=2, random_plans=2, random_others=1, spread=2,
    repeats=3,
)  # fmt: skip


def main(argv=None) -> int:
    """Measures what is missing; returns 0, or 2 after an error."""
    options = _parser().parse_args(argv)
    try:
        out = options.out or (RESULTS.with_name("tables-quick.json") if options.quick else RESULTS)
        tables = Tables(options.weights, out, QUICK if options.quick else Sizes())
        if options.list:
            for job in tables.jobs:
                print(("measured  " if job.name in tables.cells else "          ") + job.name)
            return 0
        tables.run(options.only, options.minutes)
    except SkrrError as error:
        print(f"tables: {error}", file=sys.stderr)
        return 2
    return 0


class Tables:
    """All cells of one pipeline and sizes, in the file `out`."""

    def __init__(self, folder: Path, out: Path, sizes: Sizes):
        self.pipeline, self.sizes = Pipeline(folder), sizes
        self.drawer = Drawer(self.pipeline, sizes)
        self.jobs = jobs(self.pipeline.encoder.stack, sizes)
        self.by_name = {job.name: job for job in self.jobs}
        self.cells = Cells(out, weights_digest(folder))
        self.cells.planned = [job.name for job in self.jobs]
        self.measured: list[str] = []

    def run(self, only=("*",), minutes: float | None = None) -> None:
        """Measures the cells whose names match, until the time is over; tells each on stderr. Drops cells that no
        longer belong to the layout."""
        began = time.monotonic()
        self.cells.facts = {
            "sizes": asdict(self.sizes),
            "torch": torch.__version__.partition("+")[0],
            "threads": torch.get_num_threads(),
            "processors": os.cpu_count(),
        }
        self.cells.only(self.by_name)
        chosen = [job for job in self.jobs if any(fnmatch.fnmatchcase(job.name, pattern) for pattern in only)]
        if not chosen:
            raise SkrrError(f"No cell is called {' or '.join(only)}; --list names them all.")
        for number, job in enumerate(chosen, 1):
            if minutes is not None and time.monotonic() - began > 60 * minutes:
                print(f"The time is over; {len(self.cells.missing)} cells are left.", file=sys.stderr)
                return
            before, at = len(self.measured), time.monotonic()
            self.value(job.name)
            how = f"{time.monotonic() - at:.1f} s" if len(self.measured) > before else "there"
            print(f"{number}/{len(chosen)} {job.name}: {how}", file=sys.stderr, flush=True)
        print(f"{len(self.cells.missing)} cells are missing in {self.cells.path.name}.", file=sys.stderr)

    def value(self, name: str) -> dict:
        """What cell `name` holds, measured if it is missing or stale, with what it needs."""
        job = self.by_name[name]
        content, measure = self._work(job)
        fingerprint = self.cells.fingerprint([MEANING, content])
        found = self.cells.find(name, fingerprint)
        if found is None:
            began = time.monotonic()
            found = measure()
            self.cells.put(name, fingerprint, time.monotonic() - began, found)
            self.measured.append(name)
        return found

    def _work(self, job: Job):
        """(what the cell depends on, how it is measured)."""
        drawer = self.drawer
        match job.work:
            case Search() as search:
                return search.to_json(), lambda: find_levels(self.pipeline, search)
            case Drawing() as drawing:
                entry = drawing.variant.to_json() if drawing.variant else self._level(drawing)
                if "absent" in entry:
                    return entry, lambda: entry
                variant = Variant.from_json(entry)
                content = ["drawing", variant.to_json(), drawing.per_task, drawer.identity]
                return content, lambda: drawer.measure(variant, drawing.per_task)
            case "renders":
                return ["renders", drawer.identity], drawer.true_renders
            case "shuffled":
                return ["shuffled", drawer.identity], drawer.shuffled
            case "cost":
                variants = self._costed()
                content = ["cost", {name: one.to_json() for name, one in variants.items()}, self.sizes.repeats]
                return content, lambda: costs(self.pipeline, variants, self.sizes.repeats)
        raise ValueError(job)

    def _level(self, drawing: Drawing) -> dict:
        kind, key = drawing.level
        return self.value(drawing.plan)[kind][key]

    def _costed(self) -> dict[str, Variant]:
        """The encoders of table 2: every method near the one sparsity of the ablations."""
        found, key = {"dense": Variant()}, key_of(ABLATED)
        for method in METHODS:
            for mark, kind in (("", "levels"), ("+", "reused")):
                entry = self.value(f"plan/{method}/0")[kind].get(key, {"absent": ""})
                if "absent" not in entry:
                    found[method + mark] = Variant.from_json(entry)
        return found


def weights_digest(folder: Path) -> str:
    """Of the four files of a pipeline, byte for byte."""
    files = [Path(folder) / name for name in (ENCODER, TOKENIZER, DENOISER, AUTOENCODER)]
    return digest_json([hashlib.sha256(file.read_bytes()).hexdigest() for file in files])


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.tables", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, metavar="FILE", help="where the cells are kept")
    parser.add_argument("--weights", type=Path, default=WEIGHTS, metavar="DIR", help="a pipeline (the shipped one)")
    parser.add_argument("--only", nargs="+", default=("*",), metavar="NAME", help="cells, with * and ?")
    parser.add_argument("--minutes", type=float, help="begin no new cell after that time")
    parser.add_argument("--quick", action="store_true", help="few pictures, into another file")
    parser.add_argument("--list", action="store_true", help="name the cells and measure nothing")
    return parser
