"""docs/corrections.md out of the measured cells: every figure on it is computed here."""

from pathlib import Path

import torch

from benchmarks.corrections.cases import BOUND, CURVE, CURVE_AT, DRAWS, FITTED, TARGETS, WAYS, Case
from benchmarks.tables.cells import Cells
from benchmarks.tables.plans import key_of
from benchmarks.tables.statistics import Estimate, estimate, spearman
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
    "re-use": "as published (skip and Re-use)",
    "stand-ins: bridge, all": "found with stand-ins, + bridge and re-fit, all",
    "random: plain": "random sub-blocks",
    "random: bridge, all": "random sub-blocks, + bridge and re-fit, all",
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
        ("Re-use, and the paper's condition for it", _bound),
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
        f"{DRAWS} draws. \"As published\" is such a plan alone. \"Random\" leaves out as many attentions and "
        "feed-forwards as it does.",
        f"- **Fits** are on {sizes['fit']} other calibration captions, with {sizes['selection']} more that choose the "
        "ridge at every place and decide whether anything is taken at all. Re-fitted matrices are stored as float16, "
        "as the file has them.",
        f"- **D, null norm and pictures** are of captions in wordings and shape-colour pairs that none of these has: "
        f"{6 * sizes['held_out']} captions for D, {6 * -(-sizes['pictures'] // 6)} others for pictures. Null norm is "
        "that of the projected null prompt ÷ the dense one.",
        "- **Fit, s** is by the clock, on a machine that did other work beside.",
        "- **Differences** are paired, caption by caption at the same noise; 95 % bootstraps over captions within "
        "their tasks and over draws.",
    ]
    if cells.missing:
        names = "; ".join(cells.missing[:6]) + ("; and more" if len(cells.missing) > 6 else "")
        lines.append(f"- **Missing**: {len(cells.missing)} of {len(cells.planned)} cells: {names}.")
    return lines


def _of(cells: Cells, target: float, way: str, needs: str = "D") -> dict[int, dict]:
    """draw -> the values that are there and hold `needs`."""
    names = {draw: Case(draw, target, way).name for draw in range(DRAWS)}
    return {draw: cells[name] for draw, name in names.items() if name in cells and needs in cells[name]}


def _pairs(one: dict[int, dict], other: dict[int, dict]) -> list[tuple[dict, dict]]:
    """Of the draws that both have."""
    return [(one[draw], other[draw]) for draw in sorted(one.keys() & other.keys())]


def _mean(found: dict[int, dict], name: str) -> float:
    return sum(one[name] for one in found.values()) / len(found)


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
            shares = [one["D"] / other["D"] for one, other in _pairs(found, plain)]
            row += f" {sum(shares) / len(shares):.2f} ({max(shares):.2f}) |" if shares else " |"
            if way not in FITTED:
                lines.append(f"{row} {_mean(found, 'null norm'):.3f} | | | |")
                continue
            lines.append(
                f"{row} {_mean(found, 'null norm'):.3f} | {_mean(found, 'seconds'):.0f} | "
                f"{_bytes(_mean(found, 'extra bytes'))} | {_bytes(_mean(found, 'side file bytes'))} |"
            )
    return lines


def _against(found: dict[int, dict], other: dict[int, dict] | dict) -> Estimate:
    """The paired difference of the score from that of `other`: of the same draws, or one cell for all draws."""
    pairs = [(one, other) for one in found.values()] if "right" in other else _pairs(found, other)
    marks = [[int(a) - int(b) for a, b in zip(one["right"], two["right"], strict=True)] for one, two in pairs]
    values = torch.tensor(marks, dtype=torch.float64)
    each = values.shape[1] // len(TASKS)
    return estimate([range(n * each, (n + 1) * each) for n in range(len(TASKS))], values)


def _shown(found: Estimate) -> str:
    return f"{found.value:+.3f} ({found.low:+.3f} … {found.high:+.3f})"


def _drawn(found: dict, gap: Estimate) -> str:
    return f"{_shown(gap)}, {len(found)} draw{'s' if len(found) > 1 else ''}"


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
    for target in sorted(TARGETS):
        plain = _of(cells, target, "plain", "right")
        for way in WAYS:
            found = _of(cells, target, way, "right")
            if not found:
                continue
            each = " | ".join(f"{sum(one['tasks'][task] for one in found.values()) / len(found):.2f}" for task in tasks)
            paired = way != "plain" and _pairs(found, plain)
            beside = _shown(_against(found, plain)) if paired else ""
            lines.append(
                f"| {100 * _mean(found, 'removed'):.1f} % | {NAMES[way]} | {len(found)} | {each} | "
                f"{_mean(found, 'score'):.3f} | {_shown(_against(found, dense))} | {beside} |"
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
        dense = cells["dense"]
        found = {target: _of(cells, target, BEST, "right") for target in TARGETS}
        if found[0.42]:
            gap = _against(found[0.42], dense)
            met = gap.value > -0.02 and gap.low > -0.05
            line("42 %: score above dense - 0.02, the whole interval above - 0.05", _drawn(found[0.42], gap), met)
        if found[0.50]:
            gap = _against(found[0.50], dense)
            line("50 %: score at most 0.03 below dense", _drawn(found[0.50], gap), gap.value >= -0.03)
        plain = _of(cells, 0.33, "plain", "right")
        if _pairs(found[0.62], plain):
            gap = _against(found[0.62], plain)
            line("62 %: score at least that of 33 % as published", _drawn(found[0.62], gap), gap.value >= 0)
    for target in sorted(TARGETS):
        pairs = _pairs(_of(cells, target, BEST), _of(cells, target, "plain"))
        if target > 0.3 and pairs:
            share = sum(one["D"] for one, _ in pairs) / sum(two["D"] for _, two in pairs)
            seen = f"{share:.2f}, {len(pairs)} draws" if len(pairs) > 1 else f"{share:.2f}, 1 draw"
            line(f"{key_of(target)} %: D at most half of the plan's alone", seen, share <= 0.5)
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
        for way in FITTED:
            sites = [site for one in _of(cells, target, way).values() for site in one["sites"]]
            if sites:
                ridges = [site["rho"] for site in sites if site["rho"] is not None]
                counts = ", ".join(f"{rho:g}: {ridges.count(rho)}" for rho in sorted(set(ridges)))
                taken = sum(site["taken"] for site in sites)
                lines.append(f"| {key_of(target)} % | {NAMES[way]} | {taken} of {len(sites)} | {counts} |")
    return lines


def _bound(cells: Cells) -> list[str]:
    name = f"{BOUND.name}/bound"
    if name not in cells:
        return ["Not measured."]
    plain, pairs = cells[name]["plain"], cells[name]["pairs"]
    near, far = ([d for _, _, distance, d in pairs if (distance < 1) == close] for close in (True, False))
    distances = [distance for _, _, distance, _ in pairs]
    ranks = spearman(*(torch.tensor([[row[column] for row in pairs]], dtype=torch.float64) for column in (2, 3)))
    return [
        "Theorem 3.2 promises a tighter *bound* where the re-used parameters are nearer to the removed ones than zero "
        f"is. {key_of(BOUND.target)} % removed, first draw, every removed place with each kept neighbour, one pair at "
        f"a time, on the captions of the report: the distance ÷ the norm is {min(distances):.2f} to "
        f"{max(distances):.2f}.",
        "",
        "| condition | pairs | D falls | D alone → with the best pair |", "|---|---:|---:|---:|",
        *(
            f"| {what} | {len(values)} | {sum(d < plain for d in values)} | "
            f"{f'{plain:.4f} → {min(values):.4f}' if values else ''} |"
            for what, values in (("holds", near), ("does not hold", far))
        ),
        "",
        f"Rank correlation of distance and D: {ranks.item():+.2f}.",
    ]  # fmt: skip
