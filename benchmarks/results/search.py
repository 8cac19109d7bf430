"""The page's part on searching: what `python -m benchmarks.search` and `python -m benchmarks.search_curve` printed."""

import json
from pathlib import Path

from skrr_engine.jobs.regret import ENOUGH

from .reading import table

__all__ = ["curve_section", "read_json", "search_section"]

# What the search set out to reach: work and time over the published search, and the fast plans' excess.
WORK, TIME = {"exact": 3, "fast": 20}, {"exact": 3, "fast": 10}
MEAN, WORST = 0.01, 0.05


def read_json(path: Path) -> dict | None:
    """What is in the file; None where there is none."""
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None


def search_section(found: dict | None) -> list[str]:
    """Work, time, memory and quality of the exact and the fast search."""
    if found is None:
        return ["Not measured yet."]
    trained, quality = found["trained"], found["trained"]["quality"]
    work, extrapolated = trained["reference"]["work"]["total"], trained["reference"]["seconds_extrapolated"]
    passes = work / trained["reference"]["work"]["dense"]
    draws = quality["draws"]
    rows = [("published", f"{passes:,.0f}", "1", "", f"{extrapolated:,.0f} (extrapolated)", "1", "", "")]
    for mode in ("exact", "fast"):
        figures = trained[mode]
        every = [draw[mode]["work_ratio"] for draw in draws]
        peak = figures["peak_bytes"]
        rows.append((
            mode, f"{passes / figures['work_ratio']:,.0f}", f"{figures['work_ratio']:.2f} ({_span(every)})",
            _against(min(every), WORK[mode]), f"{figures['seconds']:,.0f}", f"{figures['seconds_ratio']:.2f}",
            _against(figures["seconds_ratio"], TIME[mode]), "" if peak is None else f"{peak / 2**20:.0f} MiB",
        ))  # fmt: skip
    head = ("search", "dense passes", "less work (draws)", "", "seconds", "less time", "", "peak over the encoder")
    lines = [
        f"The trained small encoder, {trained['prompts']} captions, {trained['levels']} levels, beam 3, re-use at "
        f"every level, {found['threads']} threads, PyTorch {found['torch']}. Work is counted, sub-block × token "
        "applications. The published search is not run here: its work is its closed form, its time that work at the "
        f"rate of {trained['reference']['measured']['evaluations']} whole evaluations in the same run.",
        "", table(head, rows), "",
    ]  # fmt: skip
    if "ceiling" in trained:
        skip = [draw["exact"]["skip_work_ratio"] for draw in draws]
        lines += [
            f"- **Skip alone**, exact: {skip[0]:.2f} times less work ({_span(skip)} over draws), fast: "
            f"{draws[0]['fast']['skip_work_ratio']:.2f}. The ceiling of exact tricks of this kind, with every level's "
            f"threshold and hard prompts known in advance, is {trained['ceiling']['skip_ratio']:.2f}, with re-use "
            f"{trained['ceiling']['ratio']:.2f}: an exact answer must see most prompts of trials that are so close."
        ]
    two = quality["exact_of_two_draws"]
    lines += [
        f"- **Quality** of the fast plans, their discrepancy on {quality['held_out']:,} held-out captions over that of "
        f"the exact plans, level by level over {len(draws)} draws: {100 * quality['mean_excess']:+.2f} % on average "
        f"({_against(-quality['mean_excess'], -MEAN, f'at most {100 * MEAN:.0f} %')}), "
        f"{100 * quality['worst_level']:+.2f} % at worst "
        f"({_against(-quality['worst_level'], -WORST, f'at most {100 * WORST:.0f} %')}), above 5 % at "
        f"{100 * quality['above_5_percent']:.0f} % of the levels; averaged over the draws, the worst level is at "
        f"{100 * max(_by_level(draws)):+.2f} %. For comparison, the exact plans of two draws: up to "
        f"{100 * two['worst_level']:+.2f} %, above 5 % at {100 * two['above_5_percent']:.0f} % of the levels.",
        *_random(found), *_projection(found),
    ]  # fmt: skip
    return lines


def _by_level(draws: list[dict]) -> list[float]:
    """The mean excess of each level that all draws have."""
    return [sum(values) / len(values) for values in zip(*(draw["excess"] for draw in draws), strict=False)]


def _random(found: dict) -> list[str]:
    lines = []
    if "random" in found:
        case = found["random"]
        for mode in ("exact", "fast"):
            figures = case[mode]
            same = "the same plan" if figures["equal"] else "another plan"
            lines.append(
                f"- **{case['encoder']}**, {case['prompts']} prompts, {case['levels']} levels, {mode} against the "
                f"published search, really run: {same}, {figures['work_ratio']:.2f} times less work, "
                f"{figures['seconds_ratio']:.2f} times less time "
                f"({_against(figures['seconds_ratio'], TIME[mode], f'at least {TIME[mode]}')})."
            )
    if "small" in found:
        small = found["small"]
        lines.append(f"- **Equality** in float64 on small random encoders: {small['equal']} of {small['encoders']}.")
    return lines


def _projection(found: dict) -> list[str]:
    projection = found["projection"]
    setting, passes = projection["setting"], projection["dense_passes"]
    return [
        f"- **Projected, not measured**, by Skip's ratios: the paper's setting ({setting['sub_blocks']} sub-blocks, "
        f"{setting['levels']} levels, beam {setting['beam']}, {setting['prompts']:,} prompts), Skip alone: "
        f"{passes['published']:,.0f} dense passes published, {passes['exact']:,.0f} exact, {passes['fast']:,.0f} fast."
    ]


def curve_section(found: dict | None) -> list[str]:
    """The excess of the discrepancy over the number of prompts."""
    if found is None:
        return ["Not measured yet."]
    rows = [(size, f"{100 * excess:+.1f} %") for size, excess in found["excess"].items()]
    return [
        f"Fast searches on so many captions, {found['draws']} draws each: the discrepancy of their plans on held-out "
        f"captions over that of the plan found on {found['most']:,}, mean over levels and draws. A search with a limit "
        f"of time takes as many prompts as fit, and none beyond an excess of {100 * ENOUGH:.1f} %.",
        "", table(("captions", "excess"), rows),
    ]  # fmt: skip


def _span(values: list[float]) -> str:
    return f"{min(values):.2f} … {max(values):.2f}"


def _against(value: float, target: float, words: str = "") -> str:
    """met or not met; `target` as text where it is not plain."""
    return f"{words or f'at least {target}'}: {'met' if value >= target else 'not met'}"
