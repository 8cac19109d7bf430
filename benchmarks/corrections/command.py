"""What corrections win on the small pipeline: `python -m benchmarks.corrections`.

Finds plans with the fast search on several draws of calibration captions, with stand-ins in the search, or by chance;
corrects them (with nothing, Re-use, a bias or a bridge at every removed place, the next kept sub-block behind each run
of removed ones or all fitted anew, or both); measures D, the null prompt's norm and, for some, the score of pictures,
all on captions in wordings and pairs that search, fit and selection never saw. Keeps what it finds in a JSON file, cell
by cell: stop it whenever you like, the next call goes on. Then writes the page.

    --quick         600 captions to fit on instead of 3,000, two sizes, one draw, no pictures
    --only '0/42/*' measures cells of these names alone
    --page          measures nothing and writes the page again
    --check         measures nothing and says whether the page is what the file generates
"""

import argparse
import fnmatch
import sys
from dataclasses import asdict, replace
from pathlib import Path

import torch

from benchmarks.corrections.cases import BOUND, Case, cases
from benchmarks.corrections.measuring import Bench, Sizes
from benchmarks.corrections.page import CELLS, PAGE, page
from benchmarks.corrections.plans import STAND_IN_FIT, random_levels, stand_in_levels
from benchmarks.corrections.reuse_bound import reuse_bound
from benchmarks.generated import settle
from benchmarks.tables.cells import Cells
from benchmarks.tables.command import weights_digest
from benchmarks.tables.plans import Search, find_levels, key_of
from skrr_engine.corrections.sites import KINDS
from skrr_engine.demo.layout import WEIGHTS
from skrr_engine.demo.pipeline import Pipeline
from skrr_engine.errors import SkrrError

__all__ = ["main"]

# Raised when a measurement means something else than before.
MEANING, FITTED = 2, 2
QUICK = {"fit": 600, "selection": 64, "held_out": 20, "pictures": 0}
QUICK_TARGETS = (0.42, 0.62)


def main(argv=None) -> int:
    """Measures what is missing and writes the page; returns 0, 1 for a page that differs, 2 after an error."""
    options = _parser().parse_args(argv)
    torch.set_num_threads(options.threads)
    try:
        if not (options.page or options.check):
            _Run(options).all()
        return settle(options.text, page(Cells(options.out)), options.out, options.check)
    except SkrrError as error:
        print(f"corrections: {error}", file=sys.stderr)
        return 2


class _Run:
    """One call: what is asked for, and what is there already."""

    def __init__(self, options):
        given = {name: getattr(options, name) for name in ("search", "fit", "pictures")}
        given = {name: value for name, value in given.items() if value is not None}
        self.sizes = Sizes(**{**(QUICK if options.quick else {}), **given})
        targets = tuple(options.targets or (QUICK_TARGETS if options.quick else ()))
        draws = options.draws or (1 if options.quick else None)
        asked = {**({"targets": targets} if targets else {}), **({"draws": draws} if draws else {})}
        self.cases = cases(pictures=bool(self.sizes.pictures), curve=not options.quick, **asked)
        self.only, self.pipeline = options.only, Pipeline(options.weights)
        self.cells = Cells(options.out, weights_digest(options.weights))
        draws = dict.fromkeys(case.draw for case in self.cases)
        plans = [f"{draw}/{name}" for draw in draws for name in ("plan", "stand-in plan")]
        self.bound = next((case for case in self.cases if case.name == BOUND.name), None)
        bound = [f"{BOUND.name}/bound"] if self.bound else []
        self.cells.planned = [*plans, "dense", *(case.name for case in self.cases), *bound]
        torch_version = torch.__version__.partition("+")[0]
        self.cells.facts = {"sizes": asdict(self.sizes), "torch": torch_version, "threads": options.threads}
        self.targets = tuple(sorted({case.target for case in self.cases}))
        self.benches: dict[tuple, Bench] = {}

    def all(self) -> None:
        """Measures what is planned, asked for and missing."""
        for case in [None, *self.cases]:
            name = "dense" if case is None else case.name
            if any(fnmatch.fnmatchcase(name, pattern) for pattern in self.only):
                self.dense() if case is None else self.case(case)
        if self.bound and any(fnmatch.fnmatchcase(f"{BOUND.name}/bound", pattern) for pattern in self.only):
            order, held_out = self._levels(self.bound)[key_of(BOUND.target)]["order"], self._bench(0, None)
            measure = lambda: reuse_bound(held_out.held_out, order)  # noqa: E731
            self._value(f"{BOUND.name}/bound", ["bound", order, held_out.report], measure)

    def dense(self) -> None:
        """The dense pipeline's pictures."""
        if self.sizes.pictures:
            bench = self._bench(0, None)
            self._value("dense", ["dense", bench.pictured], bench.dense)

    def case(self, case: Case) -> None:
        """One cell, and the search before it."""
        level = self._levels(case)[key_of(case.target)]
        if "absent" in level:
            print(f"{case.name}: {level['absent']}", file=sys.stderr)
            return
        bench = self._bench(case.draw, case.fit)
        content = [level["order"], case.kind, bench.identity, bench.pictured if case.pictures else None]
        content += [FITTED] if case.kind in KINDS else [bench.searched] if case.kind == "re-use" else []
        removed = {"removed": level["sparsity"]}
        measure = lambda: {**removed, **bench.measure(level["order"], case.kind, case.pictures)}  # noqa: E731
        self._value(case.name, content, measure)

    def _levels(self, case: Case) -> dict[str, dict]:
        """target -> what a plan of the case's kind leaves out, or why there is none."""
        draw, bench = case.draw, self._bench(case.draw, None)
        if case.plan == "stand-ins":
            fit = bench.fit[:STAND_IN_FIT]
            content = ["stand-ins", fit, bench.searched, list(self.targets)]
            find = lambda: stand_in_levels(self.pipeline, fit, bench.searched, self.targets)  # noqa: E731
            return self._value(f"{draw}/stand-in plan", content, find)["levels"]
        search = Search("skrr", draw, self.sizes.search, self.targets, reuse=False)
        found = self._value(f"{draw}/plan", search.to_json(), lambda: find_levels(self.pipeline, search))["levels"]
        return random_levels(self.pipeline, found, draw)["levels"] if case.plan == "random" else found

    def _bench(self, draw: int, fit: int | None) -> Bench:
        if (draw, fit) not in self.benches:
            sizes = self.sizes if fit is None else replace(self.sizes, fit=fit)
            self.benches[draw, fit] = Bench(self.pipeline, sizes, draw)
        return self.benches[draw, fit]

    def _value(self, name: str, content, measure):
        return self.cells.value(name, [MEANING, content], measure)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.corrections",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--out", type=Path, default=CELLS, help="where the cells are kept")
    parser.add_argument("--text", type=Path, default=PAGE, help="the page")
    parser.add_argument("--weights", type=Path, default=WEIGHTS, metavar="DIR", help="a pipeline (the shipped one)")
    parser.add_argument("--targets", type=float, nargs="+", metavar="SPARSITY", help="0.25 0.33 0.42 0.50 0.55 0.62")
    parser.add_argument("--draws", type=int, help="of calibration captions (3)")
    parser.add_argument("--pictures", type=int, help="of a pictured cell (510)")
    parser.add_argument("--search", type=int, help="captions of the search")
    parser.add_argument("--fit", type=int, help="captions of the fit")
    parser.add_argument("--only", nargs="+", default=("*",), metavar="NAME", help="cells, with * and ?")
    parser.add_argument("--threads", type=int, default=1, help="of PyTorch (1)")
    parser.add_argument("--quick", action="store_true", help="fewer captions, sizes and draws")
    parser.add_argument("--page", action="store_true", help="write the page only")
    parser.add_argument("--check", action="store_true", help="check the page only")
    return parser
