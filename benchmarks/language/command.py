"""Plans and corrections on two trained language models: `COMFYUI_PATH=… python -m benchmarks.language`.

Runs under ComfyUI's own Python, with the pip packages of `models.py` installed there. Finds plans with the published
method's fast search, with a search that knows of corrections, with ShortGPT and by chance; corrects them in several
ways; and measures the error of the features and the KL divergence of the next token's distribution on held-out prompts
of other people. Keeps what it finds in a JSON file, cell by cell, and a search or fit under way in a folder: stop it
whenever you like, the next call goes on. Then writes the page.

    --held-out FILE the prompts that judge (.txt, .jsonl or .csv); without it the 64 short ones of the pack
    --only '*/30/*' measures cells of these names alone
    --page          measures nothing and writes the page again
    --check         measures nothing and says whether the page is what the file generates
"""

import argparse
import fnmatch
import hashlib
import os
import sys
import tempfile
from dataclasses import asdict, replace
from pathlib import Path

from benchmarks.generated import settle
from benchmarks.language.cases import TARGETS, Case, cases
from benchmarks.language.models import MODELS, Missing, find_file
from benchmarks.language.page import CELLS, PAGE, page
from benchmarks.tables.cells import Cells
from skrr_engine.digest import digest_json
from skrr_engine.errors import SkrrError
from skrr_engine.files.prompt_files import builtin_prompts, read_prompts

__all__ = ["main"]

# Raised when a measurement means something else than before.
MEANING = 1


def main(argv=None) -> int:
    """Measures what is missing and writes the page; returns 0, 1 for a page that differs, 2 after an error."""
    options = _parser().parse_args(argv)
    try:
        if not (options.page or options.check):
            _measure(options)
        return settle(options.text, page(Cells(options.out)), options.out, options.check)
    except (SkrrError, Missing) as error:
        print(f"language: {error}", file=sys.stderr)
        return 2


def _measure(options) -> None:
    if "COMFYUI_PATH" not in os.environ:
        raise SkrrError("COMFYUI_PATH is not set; set it to the folder of a ComfyUI and run its Python.")
    files = {slot: find_file(MODELS[slot]) for slot in MODELS}
    texts = read_prompts(options.held_out) if options.held_out else builtin_prompts("short")
    # Before ComfyUI: from then on the pack is imported as ComfyUI does it.
    import torch

    from benchmarks.free.measuring import start_comfyui
    from benchmarks.language.measuring import Bench, Sizes

    release, pack = start_comfyui()
    torch.set_num_threads(options.threads)
    given = {name: getattr(options, name) for name in ("tokens", "search", "fit")}
    sizes = replace(Sizes(), **{name: value for name, value in given.items() if value is not None})
    run = _Run(options, release, {slot: Bench(pack, MODELS[slot], sizes, texts, options.work) for slot in MODELS})
    run.cells.facts |= {
        "comfyui": release, "torch": torch.__version__.partition("+")[0], "sizes": asdict(sizes),
        "held out": options.held_out.name if options.held_out else "the pack's short set", "threads": options.threads,
    }  # fmt: skip
    run.files = {slot: _sha256(file) for slot, file in files.items()}
    run.searched = {name: getattr(sizes, name) for name in ("tokens", "search", "selection")}
    run.searched["dense"] = min(sizes.dense, sizes.fit)
    run.judged = [asdict(sizes), digest_json(texts)]
    with torch.inference_mode():
        run.all()


class _Run:
    """One call: what is asked for, and what is there already."""

    def __init__(self, options, release: str, benches: dict):
        self.options, self.benches = options, benches
        self.cells = Cells(options.out, "language models")
        self.cases = cases(tuple(MODELS), tuple(options.targets or TARGETS))
        self.cells.planned = [one.name for one in self.cases]
        # What plans depend on, and what measurements do too.
        self.files: dict = {}
        self.searched: dict = {}
        self.judged: list = []

    def all(self) -> None:
        """Measures what is planned, asked for and missing."""
        for case in self.cases:
            if any(fnmatch.fnmatchcase(case.name, pattern) for pattern in self.options.only):
                self.case(case)

    def case(self, case: Case) -> None:
        """One cell, and the plan before it."""
        bench = self.benches[case.slot]
        plan = self._plan(case)
        content = [plan["order"], case.way, self.judged]
        measure = lambda: {"share": plan["share"], **bench.measure(plan["order"], case.way)}  # noqa: E731
        self._value(case, case.name, content, measure)

    def _plan(self, case: Case) -> dict:
        """The plan of the case's source; those of smaller sizes come with that of the largest."""
        key = f"{100 * case.target:.0f}"
        name = f"{case.slot}/plan/{case.source}/{key}"
        make = lambda: self.benches[case.slot].plans(case.source, (case.target,))[key]  # noqa: E731
        return self._value(case, name, ["plan", case.source, case.target, self.searched], make)

    def _value(self, case: Case, name: str, content, measure):
        return self.cells.value(name, [MEANING, self.files[case.slot], content], measure, _short)


def _short(found: dict) -> str:
    return ", ".join(f"{name} {found[name]:.3f}" for name in ("share", "error", "KL") if name in found)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.language", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, default=CELLS, help="where the cells are kept")
    parser.add_argument("--text", type=Path, default=PAGE, help="the page")
    parser.add_argument("--held-out", type=Path, metavar="FILE", help="prompts that judge")
    parser.add_argument("--targets", type=float, nargs="+", metavar="SHARE", help="of the live layers: 0.3 0.2 0.4 0.1")
    parser.add_argument("--tokens", type=int, help="of a prompt, of the longest")
    parser.add_argument("--search", type=int, help="prompts of the search")
    parser.add_argument("--fit", type=int, help="prompts of the fit")
    parser.add_argument("--only", nargs="+", default=("*",), metavar="NAME", help="cells, with * and ?")
    parser.add_argument("--threads", type=int, default=1, help="of PyTorch (1)")
    parser.add_argument("--work", type=Path, default=Path(tempfile.gettempdir()) / "skrr-language", metavar="DIR",
                        help="keeps what a stopped search or fit goes on from")  # fmt: skip
    parser.add_argument("--page", action="store_true", help="write the page only")
    parser.add_argument("--check", action="store_true", help="check the page only")
    return parser
