"""What to load for how many bytes, on the small pipeline: `python -m benchmarks.front`.

Takes the encoder dense and under the plans of the fast search, plain and corrected (fitted in float32), stores it in
every format of `formats`, and measures bytes, D on captions that nothing was chosen by, and, for what matters most,
the score of pictures. Keeps what it finds in a JSON file, cell by cell: stop it whenever you like, the next call goes
on. Then writes the page, its picture and README's recommendation. What `python -m benchmarks.corrections` has measured,
plans and encoders in fp16, is taken from there.

    --quick           600 captions to fit on instead of 3,000, two sizes, three formats, no pictures
    --only '*/Q4_0'   measures cells of these names alone
    --fill            measures D alone, of cells that are missing: seconds each where the fit is kept (--fits)
    --page            measures nothing and writes page, picture and recommendation again
    --check           measures nothing and says whether all are what the file generates
"""

import argparse
import fnmatch
import sys
from dataclasses import asdict
from pathlib import Path

import torch

from benchmarks.corrections.cases import TARGETS as SEARCHED
from benchmarks.corrections.command import QUICK, QUICK_TARGETS
from benchmarks.corrections.measuring import Bench, Sizes
from benchmarks.corrections.page import CELLS as PLANS
from benchmarks.front.cards import README, block, in_readme, read_free
from benchmarks.front.cases import TARGETS, Case, cases
from benchmarks.front.drawing import draw
from benchmarks.front.formats import FORMATS
from benchmarks.front.known import DRAWN, Known
from benchmarks.front.measuring import Storage
from benchmarks.front.page import CELLS, PAGE, PICTURE, page
from benchmarks.front.relation import TABLES
from benchmarks.tables.cells import Cells
from benchmarks.tables.command import weights_digest
from benchmarks.tables.plans import Search, find_levels, key_of
from skrr_engine.demo.layout import WEIGHTS
from skrr_engine.demo.pipeline import Pipeline
from skrr_engine.disk import write_atomically
from skrr_engine.errors import SkrrError

__all__ = ["main"]

# Raised when a measurement means something else than before.
MEANING = 2
QUICK_FORMATS = ("fp16", "Q4_0", "3 bit")


def main(argv=None) -> int:
    """Measures what is missing, writes page and picture; returns 0, 1 for a page that differs, 2 after an error."""
    options = _parser().parse_args(argv)
    torch.set_num_threads(options.threads)
    try:
        if not (options.page or options.check):
            _Run(options).all()
        cells = Cells(options.out)
        made = {options.text: page(cells, _tables(cells)), options.picture: draw(cells)}
        if options.text == PAGE:
            made[README] = in_readme(README.read_text(encoding="utf-8"), block(cells, read_free()))
        if options.check:
            other = [path.name for path, text in made.items() if not _holds(path, text)]
            print(f"{', '.join(other) or 'Nothing'} differs from what {options.out.name} generates.")
            return int(bool(other))
        for path, text in made.items():
            write_atomically(path, text.encode())
    except SkrrError as error:
        print(f"front: {error}", file=sys.stderr)
        return 2
    return 0


def _tables(cells: Cells) -> Cells | None:
    """What benchmarks.tables has drawn with the same weights."""
    found = Cells(TABLES) if TABLES.is_file() else None
    return found if found is not None and found.weights == cells.weights else None


def _holds(path: Path, text: str) -> bool:
    return path.is_file() and path.read_text(encoding="utf-8") == text


class _Run:
    """One call: what is asked for, and what is there already."""

    def __init__(self, options):
        given = {name: getattr(options, name) for name in ("search", "fit", "pictures")}
        given = {name: value for name, value in given.items() if value is not None}
        self.sizes = Sizes(**{**(QUICK if options.quick else {}), **given})
        self.targets = tuple(options.targets or (QUICK_TARGETS if options.quick else TARGETS))
        # Those of the corrections' search, so that one serves both.
        self.searched = tuple(sorted(self.targets if options.targets or options.quick else SEARCHED))
        formats = QUICK_FORMATS if options.quick else tuple(FORMATS)
        self.fill = options.fill
        self.cases = cases(self.targets, formats, bool(self.sizes.pictures) and not self.fill)
        self.only, self.fits, self.pipeline = options.only, options.fits, Pipeline(options.weights)
        self.cells = Cells(options.out, weights_digest(options.weights))
        self.known = Known(options.plans, self.cells.weights)
        names = {case.name for case in self.cases}
        drawn = self.known.drawn() if self.sizes.pictures and not options.quick else []
        self.cases += [case for case in drawn if case.name not in names and case.target in self.targets]
        plans = [f"{draw}/plan" for draw in sorted({case.draw for case in self.cases})]
        self.cells.planned = [*plans, *(case.name for case in self.cases)]
        torch_version = torch.__version__.partition("+")[0]
        self.cells.facts = {"sizes": asdict(self.sizes), "torch": torch_version, "threads": options.threads}
        self.storages: dict[int, Storage] = {}

    def all(self) -> None:
        """Measures what is planned, asked for and missing."""
        for case in self.cases:
            if self.fill and case.name in self.cells:
                continue
            if any(fnmatch.fnmatchcase(case.name, pattern) for pattern in self.only):
                self.case(case)

    def case(self, case: Case) -> None:
        """One cell, and the search before it."""
        order = []
        if case.target is not None:
            level = self._levels(case.draw)[key_of(case.target)]
            if "absent" in level:
                print(f"{case.name}: {level['absent']}", file=sys.stderr)
                return
            order = level["order"]
        storage = self._storage(case.draw)
        known = self.known.measured(case, order, storage.bench)
        content = [order, case.way, case.stored, storage.bench.identity]
        drawn = {name: known[name] for name in DRAWN} if known and "right" in known else None
        content += [storage.bench.pictured] if case.pictures or drawn else []
        removed = {"removed": level["sparsity"] if order else 0.0, "power": storage.power}
        # The other draws' fits would serve one cell each.
        if known and case.draw and case.way != "plain":
            measure = lambda: {**removed, **storage.taken(case, order, known)}  # noqa: E731
        else:
            measure = lambda: {**removed, **storage.measure(case, order, drawn)}  # noqa: E731
        self._value(case.name, content, measure)

    def _levels(self, draw: int) -> dict:
        search = Search("skrr", draw, self.sizes.search, self.searched, reuse=False)
        content = search.to_json()
        measure = lambda: self.known.plan(draw, content) or find_levels(self.pipeline, search)  # noqa: E731
        return self._value(f"{draw}/plan", content, measure)["levels"]

    def _storage(self, draw: int) -> Storage:
        if draw not in self.storages:
            self.storages[draw] = Storage(Bench(self.pipeline, self.sizes, draw), self.fits)
        return self.storages[draw]

    def _value(self, name: str, content, measure):
        return self.cells.value(name, [MEANING, content], measure)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.front", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, default=CELLS, help="where the cells are kept")
    parser.add_argument("--text", type=Path, default=PAGE, help="the page")
    parser.add_argument("--picture", type=Path, default=PICTURE, help="the page's picture, SVG")
    parser.add_argument("--plans", type=Path, default=PLANS, help="cells of benchmarks.corrections")
    parser.add_argument("--fits", type=Path, metavar="DIR", help="keeps fits there, for the next call (nowhere)")
    parser.add_argument("--weights", type=Path, default=WEIGHTS, metavar="DIR", help="a pipeline (the shipped one)")
    parser.add_argument("--targets", type=float, nargs="+", metavar="SPARSITY", help="0.25 0.33 0.42 0.50 0.62")
    parser.add_argument("--pictures", type=int, help="of a pictured cell (510)")
    parser.add_argument("--search", type=int, help="captions of the search")
    parser.add_argument("--fit", type=int, help="captions of the fit")
    parser.add_argument("--only", nargs="+", default=("*",), metavar="NAME", help="cells, with * and ?")
    parser.add_argument("--threads", type=int, default=1, help="of PyTorch (1)")
    parser.add_argument("--quick", action="store_true", help="fewer captions, sizes and formats, no pictures")
    parser.add_argument("--fill", action="store_true", help="D alone, of cells that are missing")
    parser.add_argument("--page", action="store_true", help="write page and picture only")
    parser.add_argument("--check", action="store_true", help="check page and picture only")
    return parser
