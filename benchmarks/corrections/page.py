"""docs/corrections.md out of the measured cells: every figure on it is computed here."""

from pathlib import Path

import torch

from benchmarks.corrections.cases import CURVE, CURVE_AT, DRAWS, PICTURED, TARGETS, WAYS, Case
from benchmarks.tables.cells import Cells
from benchmarks.tables.plans import key_of
from benchmarks.tables.statistics import Estimate, estimate
from skrr_engine.demo.world.world import TASKS

__all__ = ["CELLS", "PAGE", "page"]

PACK = Path(__file__).resolve().parents[2]
CELLS, PAGE = PACK / "docs" / "results" / "corrections.json", PACK / "docs" / "corrections.md"
BEST = "bridge, all"
NAMES = {
    "plain": "as published (skip)",
    "bias": "+ bias",
    "bridge": "+ bridge, rank 16",
    "next": "+ re-fit, next",
    "all": "+ re-fit, all",
    "bridge, all": "+ bridge and re-fit, all",
}


def page(cells: Cells) -> str:
    """The whole page, Markdown."""
    parts = ["# Corrections on the small pipeline", "", *_about(cells), ""]
    for title, section in (
        ("The discrepancy", _discrepancy),
        ("Pictures", _pictures),
        ("The targets", _targets),
        ("How many captions the fit needs", _curve),
        ("What was taken", _sites),
    ):
        parts += [f"## {title}", "", *section(cells), ""]
    return "\n".join(parts)


def _about(cells: Cells) -> list[str]:
    facts = cells.facts
    sizes, seconds = facts["sizes"], sum(cell["seconds"] for cell in cells.cells.values())
    lines = [
        "Made by `python -m benchmarks.corrections` from [results/corrections.json](results/corrections.json), "
        f"measured in {seconds / 60:.0f} minutes of work ({facts['threads']} threads, on a CPU, PyTorch "
        f"{facts['torch']}). Nothing on this page is written by hand.",
        "",
        f"- **Plans** are those of the fast search on {sizes['search']} calibration captions, skip only, on each of "
        f"{DRAWS} draws. \"As published\" is such a plan alone.",
        f"- **Fits** are on {sizes['fit']} other calibration captions, with {sizes['selection']} more that choose the "
        "ridge at every place and decide whether anything is taken at all. Re-fitted matrices are stored as float16, "
        "as the file has them.",
        f"- **D, null norm and pictures** are of captions in wordings and shape-colour pairs that none of these has: "
        f"{6 * sizes['held_out']} captions for D, {6 * -(-sizes['pictures'] // 6)} others for pictures. Null norm is "
        "that of the projected null prompt ÷ the dense one.",
        "- **Differences** are paired, caption by caption at the same noise; 95 % bootstraps over captions within "
        "their tasks and over draws.",
    ]
    if cells.missing:
        lines.append(f"- **Missing**: {len(cells.missing)} of {len(cells.planned)} cells: {', '.join(cells.missing)}.")
    return lines


def _of(cells: Cells, target: float, way: str) -> list[dict]:
    """The values of all draws that are there."""
    names = [Case(draw, target, way).name for draw in range(DRAWS)]
    return [cells[name] for name in names if name in cells]


def _mean(found: list[dict], name: str) -> float:
    return sum(one[name] for one in found) / len(found)


def _bytes(count: float) -> str:
    return f"{count / 1024:.0f} KiB"


def _discrepancy(cells: Cells) -> list[str]:
    lines = [
        "Means over the draws. \"Of plain\" is D ÷ that of the plan alone, the worst draw in brackets. Bytes are what "
        "comes on top of the pruned encoder, and what a side file holds.",
        "",
        "| removed | corrections | draws | D | of plain | null norm | fit, s | extra bytes | side file |",
        "|---:|---|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for target in sorted(TARGETS):
        plain = _of(cells, target, "plain")
        for way in WAYS:
            found = _of(cells, target, way)
            if not found:
                continue
            row = f"| {100 * _mean(found, 'removed'):.1f} % | {NAMES[way]} | {len(found)} | {_mean(found, 'D'):.4f} |"
            if way == "plain":
                lines.append(f"{row} 1 | {_mean(found, 'null norm'):.3f} | | | |")
                continue
            shares = [one["D"] / other["D"] for one, other in zip(found, plain, strict=False)]
            row += f" {sum(shares) / len(shares):.2f} ({max(shares):.2f}) |" if shares else " |"
            lines.append(
                f"{row} {_mean(found, 'null norm'):.3f} | {_mean(found, 'seconds'):.0f} | "
                f"{_bytes(_mean(found, 'extra bytes'))} | {_bytes(_mean(found, 'side file bytes'))} |"
            )
    return lines


def _right(found: list[dict]) -> torch.Tensor:
    """(draws, captions) float64."""
    return torch.tensor([[int(one) for one in cell["right"]] for cell in found], dtype=torch.float64)


def _against(found: list[dict], other: torch.Tensor) -> Estimate:
    """The paired difference of the score from `other`, (1 or draws, captions)."""
    values = _right(found) - other
    each = values.shape[1] // len(TASKS)
    return estimate([range(n * each, (n + 1) * each) for n in range(len(TASKS))], values)


def _shown(found: Estimate) -> str:
    return f"{found.value:+.3f} ({found.low:+.3f} … {found.high:+.3f})"


def _drawn(cells: Cells, target: float, way: str) -> list[dict]:
    return [one for one in _of(cells, target, way) if "right" in one]


def _pictures(cells: Cells) -> list[str]:
    if "dense" not in cells:
        return ["Not measured."]
    dense = cells["dense"]
    tasks = list(dense["tasks"])
    scores = " | ".join(f"{dense['tasks'][task]:.2f}" for task in tasks)
    lines = [
        f"| removed | corrections | draws | {' | '.join(tasks)} | overall | against dense | against the plan alone |",
        f"|---:|---|---:|{'---:|' * (len(tasks) + 3)}",
        f"| 0 | dense | | {scores} | {dense['score']:.3f} | | |",
    ]
    for target in sorted(PICTURED[0]):
        plain = _drawn(cells, target, "plain")
        for way in WAYS:
            found = _drawn(cells, target, way)
            if not found:
                continue
            each = " | ".join(f"{sum(one['tasks'][task] for one in found) / len(found):.2f}" for task in tasks)
            paired = way != "plain" and len(plain) == len(found)
            beside = _shown(_against(found, _right(plain))) if paired else ""
            lines.append(
                f"| {100 * _mean(found, 'removed'):.1f} % | {NAMES[way]} | {len(found)} | {each} | "
                f"{_mean(found, 'score'):.3f} | {_shown(_against(found, _right([dense])))} | {beside} |"
            )
    return lines


def _targets(cells: Cells) -> list[str]:
    """What was to be shown, with a bridge and all re-fitted, and whether it was."""
    lines = [
        "With a bridge at every removed place and all kept output matrices fitted anew.",
        "", "| target | seen | met |", "|---|---|---|",
    ]  # fmt: skip

    def line(text: str, seen: str, met: bool) -> None:
        lines.append(f"| {text} | {seen} | {'yes' if met else 'no'} |")

    if "dense" in cells:
        dense = _right([cells["dense"]])
        found = {target: _drawn(cells, target, BEST) for target in PICTURED[0]}
        if found[0.42]:
            gap = _against(found[0.42], dense)
            met = gap.value > -0.02 and gap.low > -0.05
            line("42 %: score above dense - 0.02, the whole interval above - 0.05", _shown(gap), met)
        if found[0.50]:
            gap = _against(found[0.50], dense)
            line("50 %: score at most 0.03 below dense", _shown(gap), gap.value >= -0.03)
        plain = _drawn(cells, 0.33, "plain")
        if found[0.62] and len(found[0.62]) == len(plain):
            gap = _against(found[0.62], _right(plain))
            line("62 %: score at least that of 33 % as published", _shown(gap), gap.value >= 0)
    for target in sorted(TARGETS):
        found, plain = _of(cells, target, BEST), _of(cells, target, "plain")
        if target > 0.3 and found and len(found) == len(plain):
            share = _mean(found, "D") / _mean(plain, "D")
            line(f"{key_of(target)} %: D at most half of the plan's alone", f"{share:.2f}", share <= 0.5)
    return lines


def _curve(cells: Cells) -> list[str]:
    target, way = CURVE_AT
    lines = [
        f"{NAMES[way][2:].capitalize()}, {key_of(target)} % removed, first draw. The gap between both columns of D is "
        "what the choice cannot see of other wordings.",
        "",
        "| captions | positions | D, selection | D, report |", "|---:|---:|---:|---:|",
    ]  # fmt: skip
    usual = cells.facts["sizes"]["fit"]
    for count in sorted({*CURVE, usual}):
        name = Case(0, target, way, fit=None if count == usual else count).name
        if name in cells:
            one = cells[name]
            lines.append(f"| {count} | {one['positions']} | {one['selection'][1]:.4f} | {one['D']:.4f} |")
    return lines


def _sites(cells: Cells) -> list[str]:
    lines = [
        "Places at which something was taken, of all that were tried, over the draws; and the ridges chosen.",
        "", "| removed | corrections | taken | ridges |", "|---:|---|---:|---|",
    ]  # fmt: skip
    for target in sorted(TARGETS):
        for way in WAYS[1:]:
            sites = [site for one in _of(cells, target, way) for site in one["sites"]]
            if sites:
                ridges = [site["rho"] for site in sites if site["rho"] is not None]
                counts = ", ".join(f"{rho:g}: {ridges.count(rho)}" for rho in sorted(set(ridges)))
                taken = sum(site["taken"] for site in sites)
                lines.append(f"| {key_of(target)} % | {NAMES[way]} | {taken} of {len(sites)} | {counts} |")
    return lines
