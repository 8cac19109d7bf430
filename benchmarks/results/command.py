"""docs/results.md out of the measured cells: `python -m benchmarks.results`.

Every figure and every verdict of the page is computed here from docs/results/tables.json and, beside it, search.json
and search_curve.json; nothing on it is written by hand. `--check` says whether the page is what the files generate.
"""

import argparse
import sys
from pathlib import Path

from benchmarks.generated import settle
from benchmarks.results.ablations import beams, cost, magnitude, projection, reuse
from benchmarks.results.correlation import central_claim
from benchmarks.results.main import draws, headroom, table_1
from benchmarks.results.reading import Measured, paper
from benchmarks.results.search import curve_section, read_json, search_section
from benchmarks.tables.cells import Cells
from benchmarks.tables.cost import STEPS
from skrr_engine.errors import SkrrError

__all__ = ["CELLS", "PAGE", "main", "page"]

PACK = Path(__file__).resolve().parents[2]
CELLS, PAGE = PACK / "docs" / "results" / "tables.json", PACK / "docs" / "results.md"
SECTIONS = (
    ("Is the world hard enough?", headroom, "Whether a broken text encoder shows in the score at all."),
    (
        "Table 1: methods at matched sparsity", table_1,
        "\"Skrr\" is skip and re-use. Of each method the rung nearest to the sparsity is taken. The magnitude rows set "
        "weights to zero and remove none. The random row is the floor.",
    ),
    (
        "Other calibration captions", draws,
        "The same at one sparsity over several draws of calibration captions; the intervals cover the draws too.",
    ),
    ("Table 2: cost", cost, "Of the text encoder; the paper prints the whole pipeline."),
    ("Table 3: beam size", beams, "Skrr at one sparsity, over several draws of calibration captions."),
    ("Table A11: re-use", reuse, "With Algorithm 2 on top of three methods' skips, and without."),
    ("Table A13: projection, and the null term", projection, "Skrr with one thing left out of its discrepancy."),
    (
        "Does the discrepancy tell the score?", central_claim,
        "The paper's central claim: plans ranked by their discrepancy on held-out captions against their score. "
        "Positive means that a lower discrepancy goes with a higher score. The sparsity alone is a predictor too; "
        "what the discrepancy adds is seen at one sparsity. The ceiling is what a perfect predictor would reach with "
        "so few pictures a plan.",
    ),
    (
        "Magnitude pruning at the study's rates", magnitude,
        "\"Efficient Pruning of Text-to-Image Models\" (arXiv 2411.15113) settles on these shares of zeros. It prints "
        "other measures on other models, so there is no figure to set beside.",
    ),
)  # fmt: skip
SEARCHES = (
    ("What the search takes", "search", search_section),
    ("How many prompts a search needs", "search_curve", curve_section),
)


def main(argv=None) -> int:
    """Writes the page, or checks it; returns 0, 1 for a page that differs, 2 after an error."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.results", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--cells", type=Path, default=CELLS, metavar="FILE")
    parser.add_argument("--out", type=Path, default=PAGE, metavar="FILE")
    parser.add_argument("--check", action="store_true", help="write nothing")
    options = parser.parse_args(argv)
    try:
        if not options.cells.is_file():
            raise SkrrError(f"{options.cells.name} is not there; python -m benchmarks.tables measures it.")
        return settle(options.out, page(Cells(options.cells)), options.cells, options.check)
    except SkrrError as error:
        print(f"results: {error}", file=sys.stderr)
        return 2


def page(cells: Cells) -> str:
    """The whole page, Markdown."""
    measured = Measured(cells)
    parts = ["# Results on the small pipeline", "", *_about(cells), ""]
    for title, section, text in SECTIONS:
        parts += [f"## {title}", "", *([text, ""] if text else []), *section(measured), ""]
    for title, name, section in SEARCHES:
        found = read_json(cells.path.parent / f"{name}.json")
        text = f"What `python -m benchmarks.{name}` printed: [results/{name}.json](results/{name}.json)."
        parts += [f"## {title}", "", *([text, ""] if found else []), *section(found), ""]
    return "\n".join(parts)


def _about(cells: Cells) -> list[str]:
    facts = cells.facts
    sizes, seconds = facts["sizes"], sum(cell["seconds"] for cell in cells.cells.values())
    lines = [
        "Made by `python -m benchmarks.results` from [results/tables.json](results/tables.json), which "
        f"`python -m benchmarks.tables` measured in {seconds / 60:.0f} minutes of work ({facts['threads']} threads a "
        f"process, on a CPU with {facts['processors']} processors, PyTorch {facts['torch']}). Nothing on this page is "
        f"written by hand. The paper's figures are those of {paper()['source'].partition(' Tasks:')[0]}",
        "",
        f"- **Pictures**: {STEPS} steps, guidance 4, of captions whose wordings and shape-colour pairs no calibration "
        f"uses. {sizes['per_task']} captions a task for the first draw of calibration captions, the first "
        f"{sizes['fewer']} of them for other draws and ablations, the first {sizes['few']} for random plans and "
        "correlations. All encoders draw the same captions from the same noise.",
        f"- **Searches** are on {sizes['prompts']} captions: exact for table 1, fast for Skrr's other draws and "
        f"ablations. D is measured on {6 * sizes['held_out']} other captions, in the wordings of the evaluation. Null "
        "norm is that of the projected null prompt ÷ the dense one.",
        "- **Scores**: shares of pictures that an exact judge reads as what the caption asks; overall is the mean of "
        "the six tasks. Intervals are 95 % bootstraps over captions within their tasks, and over plans where a row "
        "has several; differences are paired, caption by caption at the same noise.",
        f"- **SSIM** is to the dense picture at the same noise. {_ssim_floor(cells)}",
        f"- **Fréchet** distances are over 32 numbers out of the pipeline's own autoencoder, against "
        f"{6 * sizes['reference']} true renders, ± 1.96 jackknife errors. A sample this small makes them too large, "
        f"all of them alike. {_frechet_floor(cells)}",
        "- **Verdicts** follow one rule: a claim is *reproduced* where the whole 95 % interval of the difference lies "
        "on its side of 0, *not reproduced* where the whole interval lies on the other side, else *within noise*. "
        "Where the paper prints no figure it *holds* or *does not hold*. \"The sample can show\" is half the "
        "interval's width. Of 40 claims about nothing, one on each side would be outside by chance.",
    ]
    if cells.missing:
        lines.append(f"- **Missing**: {len(cells.missing)} of {len(cells.planned)} cells: {', '.join(cells.missing)}.")
    return lines


def _ssim_floor(cells: Cells) -> str:
    measured = Measured(cells)
    if not measured.there("other noise"):
        return ""
    return f"Dense pictures at other noise have {measured.mean(['other noise'], 'ssim').value:.3f}: the floor."


def _frechet_floor(cells: Cells) -> str:
    if "renders" not in cells:
        return ""
    value, error = cells["renders"]["frechet"]
    return f"True renders of the evaluated captions themselves have {value:.3f} ± {1.96 * error:.3f}: the floor."
