"""What a re-fit wins on the small pipeline: `python -m benchmarks.corrections`.

Finds plans with the fast search, re-fits them (nothing, the next sub-block behind each run of skipped ones, all), and
measures D, the null prompt's norm and, with --pictures, the score on captions in wordings and pairs that search, fit
and selection never saw. Keeps what it finds in a JSON file, cell by cell: stop it whenever you like, the next call
goes on. Prints a table.

    --quick         600 captions to fit on instead of 3,000, two sizes
    --pictures 204  draws as many pictures a cell (about 25 seconds each cell on one core)
    --only '42/*'   measures cells of these names alone
"""

import argparse
import fnmatch
import sys
import time
from dataclasses import asdict
from pathlib import Path

import torch

from benchmarks.corrections.measuring import Bench, Sizes
from benchmarks.tables.cells import Cells
from benchmarks.tables.command import weights_digest
from benchmarks.tables.plans import Search, find_levels, key_of
from skrr_engine.demo.layout import WEIGHTS
from skrr_engine.demo.pipeline import Pipeline
from skrr_engine.errors import SkrrError

__all__ = ["main", "table"]

# Raised when a measurement means something else than before.
MEANING = 1
TARGETS, QUICK_TARGETS = (0.33, 0.42, 0.50, 0.62), (0.42, 0.62)
QUICK = {"fit": 600, "selection": 64, "held_out": 20}
WAYS = ("plain", "next", "all")


def main(argv=None) -> int:
    """Measures what is missing and prints the table; returns 0, or 2 after an error."""
    options = _parser().parse_args(argv)
    torch.set_num_threads(options.threads)
    try:
        return _run(options)
    except SkrrError as error:
        print(f"corrections: {error}", file=sys.stderr)
        return 2


def _run(options) -> int:
    given = {name: getattr(options, name) for name in ("search", "fit") if getattr(options, name) is not None}
    sizes = Sizes(**{**(QUICK if options.quick else {}), **given, "pictures": options.pictures})
    targets = tuple(options.targets or (QUICK_TARGETS if options.quick else TARGETS))
    cells = Cells(options.out, weights_digest(options.weights))
    search = Search("skrr", 0, sizes.search, targets, reuse=False)
    bench = Bench(Pipeline(options.weights), sizes)
    names = ["dense", *(f"{key_of(target)}/{way}" for target in targets for way in WAYS)]
    cells.planned = ["plan", *names]
    cells.facts = {"sizes": asdict(sizes), "torch": torch.__version__.partition("+")[0], "threads": options.threads}

    def value(name: str, content, measure):
        fingerprint = cells.fingerprint([MEANING, content])
        found = cells.find(name, fingerprint)
        if found is None:
            began = time.monotonic()
            found = measure()
            cells.put(name, fingerprint, time.monotonic() - began, found)
            print(f"{name}: {time.monotonic() - began:.1f} s", file=sys.stderr, flush=True)
        return found

    levels = value("plan", search.to_json(), lambda: find_levels(bench.pipeline, search))["levels"]
    rows = {}
    for name in names:
        if not any(fnmatch.fnmatchcase(name, pattern) for pattern in options.only):
            continue
        if name == "dense":
            rows[name] = {"removed": 0.0, **value(name, ["dense", bench.identity], bench.dense)}
            continue
        key, way = name.split("/")
        level = levels[key]
        if "absent" in level:
            print(f"{name}: {level['absent']}", file=sys.stderr)
            continue
        content = [level["order"], way, bench.identity]
        found = value(name, content, lambda: bench.measure(level["order"], way))  # noqa: B023
        rows[name] = {"removed": level["sparsity"], **found}
    print(table(rows))
    return 0


def table(rows: dict[str, dict]) -> str:
    """A Markdown table of cells: name -> what was measured, and "removed"."""
    lines = ["| cell | removed | D | null norm | fit, s | sites | score |", "|---|---:|---:|---:|---:|---:|---|"]
    for name, row in rows.items():
        sites = row.get("sites")
        taken = "" if sites is None else f"{sum(site['taken'] for site in sites)} of {len(sites)}"
        score = f"{row['score']:.3f} ({row['low']:.3f} to {row['high']:.3f})" if "score" in row else ""
        lines.append(
            f"| {name} | {100 * row['removed']:.1f} % | {row['D']:.4f} | {row['null norm']:.3f} | "
            f"{row['seconds']:.1f} | {taken} | {score} |"
        )
    return "\n".join(lines)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.corrections",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--out", type=Path, default=Path("corrections.json"), help="where the cells are kept")
    parser.add_argument("--weights", type=Path, default=WEIGHTS, metavar="DIR", help="a pipeline (the shipped one)")
    parser.add_argument("--targets", type=float, nargs="+", metavar="SPARSITY", help="0.33 0.42 0.50 0.62")
    parser.add_argument("--pictures", type=int, default=0, help="for each cell (none)")
    parser.add_argument("--search", type=int, help="captions of the search")
    parser.add_argument("--fit", type=int, help="captions of the fit")
    parser.add_argument("--only", nargs="+", default=("*",), metavar="NAME", help="cells, with * and ?")
    parser.add_argument("--threads", type=int, default=1, help="of PyTorch (1)")
    parser.add_argument("--quick", action="store_true", help="fewer captions and sizes")
    return parser
