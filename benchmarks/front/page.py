"""docs/front.md out of the measured cells: every figure on it is computed here."""

from dataclasses import replace
from pathlib import Path

from benchmarks.front.cases import BEST, TARGETS, WAYS, Case
from benchmarks.front.formats import FORMATS
from benchmarks.front.points import Point, against, dense_of, front_of, over_draws, points
from benchmarks.front.relation import drawn_encoders, relation
from benchmarks.tables.cells import Cells
from benchmarks.tables.statistics import Estimate

__all__ = ["CELLS", "PAGE", "PICTURE", "label", "page", "shown"]

PACK = Path(__file__).resolve().parents[2]
CELLS = PACK / "docs" / "results" / "front.json"
PAGE, PICTURE = PACK / "docs" / "front.md", PACK / "docs" / "front.svg"
CORRECTED = {"plain": "as published (skip)", "bridge, all": "bridge and re-fit, all", "all": "re-fit, all"}
# What a reader asks: is the first, which is smaller, as good as the second?
QUESTIONS = (
    (Case("Q4_0", 0.42, BEST), Case("3 bit")),
    (Case("Q4_0", 0.42, BEST), Case("2 bit")),
    (Case("Q4_0", 0.42, BEST), Case("Q4_0")),
    (Case("Q4_0", 0.25, BEST), Case("Q4_0")),
    (Case("Q4_0", 0.25, BEST), Case("3 bit")),
    (Case("Q4_0", 0.42), Case("3 bit")),
    (Case("Q4_0", 0.62, BEST), Case("2 bit")),
    (Case("3 bit", 0.42, BEST), Case("2 bit")),
    (Case("fp16", 0.42), Case("Q8_0")),
    (Case("fp16", 0.42, BEST), Case("Q8_0")),
    (Case("fp8 scaled", 0.42, BEST), Case("Q4_0")),
    (Case("Q4_0"), Case("fp16")),
)


def page(cells: Cells, tables: Cells | None = None) -> str:
    """The whole page, Markdown. `tables` are the cells of benchmarks.tables, of the same weights."""
    found = points(cells)
    parts = ["# What to load for how many bytes", "", *_about(cells), ""]
    parts += [f"![Bytes against score, with the front]({PICTURE.name})", ""]
    for title, section in (
        ("What was drawn", _drawn),
        ("Which of two", _questions),
        ("Where each stops being worth it", _ends),
        ("What a change of the features costs", lambda found: _change(found, tables)),
        ("The discrepancy of all", _grid),
    ):
        parts += [f"## {title}", "", *section(found), ""]
    return "\n".join(parts)


def label(case: Case, found: dict) -> str:
    """The case in a word or two."""
    if case.target is None:
        return f"{case.stored}, dense"
    way = {"plain": "plain", "bridge, all": "corrected", "all": "re-fitted"}[case.way]
    return f"{case.stored}, {100 * found['removed']:.0f} % {way}"


def shown(gap: Estimate) -> str:
    """A difference with its interval."""
    return f"{gap.value:+.3f} ({gap.low:+.3f} … {gap.high:+.3f})"


def _about(cells: Cells) -> list[str]:
    facts = cells.facts
    sizes = facts["sizes"]
    lines = [
        "Made by `python -m benchmarks.front` from [results/front.json](results/front.json), on the small pipeline "
        f"([small-pipeline.md](small-pipeline.md); {facts['threads']} thread, on a CPU, PyTorch {facts['torch']}). "
        "What [corrections.md](corrections.md) has measured of fp16 is taken from there. Nothing on this page is "
        "written by hand.",
        "",
        "- **Formats.** fp16, Q8_0, Q5_0 and Q4_0 (GGUF), fp8 and int8 with one scale a matrix, and nvfp4 are the "
        "formats themselves. 4, 3 and 2 bit are GGUF's Q4_K, Q3_K and Q2_K with a row in the place of blocks of 256, "
        "which this encoder's rows of 128 and 320 are not made of. Every matrix is stored, the embedding too; norms "
        "and the position table stay fp16.",
        "- **Bytes** are the whole encoder: scales, tables, and what corrections add.",
        f"- **Plans** are those of the fast search on {sizes['search']} captions, skip only. **Corrected**: a bridge "
        f"at every removed place and all kept output matrices fitted anew on {sizes['fit']} captions, in float32; then "
        "all of it but the bridges is stored in the format.",
        f"- **D** is of {6 * sizes['held_out']} captions that neither search nor fit has seen, **score** of "
        f"{6 * -(-sizes['pictures'] // 6)} others; differences are paired, caption by caption at the same noise, with "
        "95 % bootstraps.",
        "- **Encode times** are not measured: the small encoder's say nothing of a large one's.",
        "- int8 with rotated weights (convrot) is not among the formats.",
    ]
    if cells.missing:
        names = "; ".join(cells.missing[:8]) + ("; and more" if len(cells.missing) > 8 else "")
        lines.append(f"- **Missing**: {len(cells.missing)} of {len(cells.planned)} cells: {names}.")
    return lines


def _with_score(found: list[Point]) -> list[Point]:
    return [point for point in found if point.score is not None]


def _drawn(found: list[Point]) -> list[str]:
    dense, drawn = dense_of(found), _with_score(found)
    if dense is None:
        return ["Not measured."]
    best = {point.case for point in front_of(over_draws(drawn))}
    lines = [
        "Most bytes first. **Front**: nothing that is as small scores as well; of several draws the means count.",
        "",
        "| stored as | removed | corrections | draw | KiB | of fp16 | D | turned | score | against dense | front |",
        "|---|---:|---|---:|---:|---:|---:|---:|---:|---:|---|",
    ]
    for point in drawn:
        case, value = point.case, point.found
        way = CORRECTED[case.way] if case.target else ""
        gap = "" if point is dense else shown(against(point, dense))
        lines.append(
            f"| {case.stored} | {100 * value['removed']:.0f} % | {way} | {case.draw if case.target else ''} | "
            f"{point.bytes / 1024:.0f} | {point.bytes / dense.bytes:.3f} | {value['D']:.4f} | {_turned(point)} | "
            f"{point.score:.3f} | {gap} | {'front' if replace(case, draw=0) in best else ''} |"
        )
    return lines


def _turned(point: Point) -> str:
    return f"{point.found['turned']:.2f}" if "turned" in point.found else ""


def _questions(found: list[Point]) -> list[str]:
    there = {point.case.name: point for point in _with_score(found)}
    lines = [
        "The first against the second, on the same captions at the same noise.",
        "", "| the first | the second | bytes, first ÷ second | score, first − second | so the first is |",
        "|---|---|---:|---:|---|",
    ]  # fmt: skip
    missing = []
    for one, other in QUESTIONS:
        if one.name in there and other.name in there:
            a, b = there[one.name], there[other.name]
            gap = against(a, b)
            lines.append(
                f"| {label(a.case, a.found)} | {label(b.case, b.found)} | {a.bytes / b.bytes:.2f} | {shown(gap)} | "
                f"{_size(a, b)}, {_quality(gap)} |"
            )
        else:
            missing.append(f"{one.name} against {other.name}")
    if missing:
        lines += ["", f"Not measured: {'; '.join(missing)}."]
    return lines


def _size(one: Point, other: Point) -> str:
    return "smaller" if one.bytes < other.bytes else "larger"


def _quality(gap: Estimate) -> str:
    if gap.low > 0:
        return "better"
    return "worse" if gap.high < 0 else f"not told apart (± {gap.smallest:.3f})"


def _ends(found: list[Point]) -> list[str]:
    """Of each method what is on the front."""
    dense, drawn = dense_of(found), _with_score(found)
    if dense is None:
        return ["Not measured."]
    best = front_of(over_draws(drawn))
    methods = {"quantisation alone": lambda case: case.target is None and case.stored != "fp16"}
    for way, name in (("plain", "pruning as published"), ("bridge, all", "corrected pruning"), ("all", "re-fit alone")):
        methods[f"{name}, in fp16"] = lambda case, way=way: case.target and case.way == way and case.stored == "fp16"
        methods[f"{name}, quantised"] = lambda case, way=way: case.target and case.way == way and case.stored != "fp16"
    lines = ["| method | drawn | on the front | from … to, of fp16's bytes |", "|---|---:|---:|---|"]
    for name, belongs in methods.items():
        own = [point for point in over_draws(drawn) if belongs(point.case)]
        on = [point for point in best if belongs(point.case)]
        span = f"{on[0].bytes / dense.bytes:.3f} … {on[-1].bytes / dense.bytes:.3f}" if on else ""
        lines.append(f"| {name} | {len(own)} | {len(on)} | {span} |")
    return [*lines, "", "Differences within the intervals above decide here too: two neighbours may change places."]


def _change(found: list[Point], tables: Cells | None) -> list[str]:
    drawn = drawn_encoders(found, tables)
    curve, other = relation(drawn), relation(drawn, lambda one: one.moved)
    if curve is None:
        return ["Too few encoders were drawn."]
    corrected = [one for one in drawn if "bridge" in one.name]
    lines = [
        f"Over {curve.count} encoders that were drawn here or for [results.md](results.md), whatever was done to them, "
        f"the share of the dense score that is lost follows {curve.factor:.2f} × turned^{curve.power:.2f}, within "
        f"± {curve.band:.2f} × turned (two standard deviations, the sampling of the pictures included). **Turned** is "
        "the root of twice the mean of 1 − cos between dense and changed features. By D, which also counts how long "
        f"they are, what strays is {other.strays:.3f} of the score in place of {curve.strays:.3f}. The words of Skrr "
        "Report and of the panel rest on this curve (`skrr_engine/measure/quality.py`); it says nothing yet of other "
        "pipelines.",
        "",
        "| turned | lost, by the curve | within |", "|---:|---:|---|",
    ]  # fmt: skip
    for far in (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0):
        lost, band = curve.lost(far), curve.band * far
        low, high = max(0.0, lost - band), min(1.0, lost + band)
        lines.append(f"| {far:g} | {100 * lost:.1f} % | {100 * low:.1f} … {100 * high:.1f} % |")
    if corrected:
        off = sum(one.lost - curve.lost(one.turned) for one in corrected) / len(corrected)
        lines += ["", f"The {len(corrected)} corrected ones among them lost {off:+.3f} against the curve, in the mean."]
    lines += ["", "How far storing the dense encoder in fewer bits turns them:", "",
              "| stored as | turned | moved | of fp16's bytes |", "|---|---:|---:|---:|"]  # fmt: skip
    whole = max(point.bytes for point in found)
    lines += [
        f"| {point.case.stored} | {point.found['turned']:.3f} | {point.moved:.3f} | {point.bytes / whole:.3f} |"
        for point in found
        if point.case.target is None and point.case.stored != "fp16"
    ]
    return lines


def _grid(found: list[Point]) -> list[str]:
    there = {point.case.name: point for point in found}
    lines = ["First draw. D, and in brackets the bytes over those of dense fp16.", ""]
    lines += [f"| removed | corrections | {' | '.join(FORMATS)} |", f"|---:|---|{'---:|' * len(FORMATS)}"]
    whole = max((point.bytes for point in found), default=1)
    for target, way in [(None, "plain"), *((target, way) for target in TARGETS for way in WAYS)]:
        row = [there.get(Case(stored, target, way).name) for stored in FORMATS]
        if any(row):
            cells = ["" if one is None else f"{one.found['D']:.4f} ({one.bytes / whole:.3f})" for one in row]
            first = next(one for one in row if one)
            name = CORRECTED[way] if target else "dense"
            lines.append(f"| {100 * first.found['removed']:.0f} % | {name} | {' | '.join(cells)} |")
    return lines
