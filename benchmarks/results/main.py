"""The page's first part: whether the world is hard enough, table 1, and what other calibration captions change."""

import math

from skrr_engine.demo.world.world import TASKS

from ..tables.layout import ABLATED, TARGETS
from ..tables.plans import key_of
from ..tables.statistics import Estimate
from .reading import Measured, claim, interval_text, paper, signed, summary, table

__all__ = ["draws", "headroom", "table_1"]

ROWS = {
    "skrr+": "Skrr", "skrr": "Skrr, skip only", "finercut": "FinerCut", "shortgpt": "ShortGPT", "laco": "LaCo"
}  # fmt: skip
PUBLISHED = {"finercut": "FinerCut", "shortgpt": "ShortGPT", "laco": "LaCo"}
# Which of the paper's three levels stands beside a target.
LEVEL = {0.25: 0, 0.33: 1, 0.42: 2}


def headroom(m: Measured) -> list[str]:
    """Whether a broken encoder shows in the score."""
    rows = []
    if m.there("dense"):
        found = m.mean(["dense"])
        met = "met" if found.value >= 0.90 else "not met; at least 0.75 " + ("is" if found.value >= 0.75 else "is not")
        rows.append((f"dense, {m.pictures(['dense'])} pictures", interval_text(found, 3), "0.90", met))
    if m.there("renders"):
        found = m.mean(["renders"])
        rows.append(("the judge on true renders", f"{found.value:.4f}", "0.995", _met(found.value >= 0.995)))
    chances = {"null caption": "pictures of the null caption", "shuffled": "dense pictures of another caption"}
    for name, text in chances.items():
        if m.there(name):
            rows.append((f"chance: {text}", interval_text(m.mean([name]), 3), "", ""))
    if m.there("all skipped", *chances):
        found, chance = m.mean(["all skipped"]), max(m.mean([name]).high for name in chances)
        met = _met(found.low <= chance)
        rows.append(("all 48 sub-blocks skipped", interval_text(found, 3), f"chance (at most {chance:.3f})", met))
    plans = _random(m, key_of(ABLATED))
    if plans and m.there("dense"):
        losses = (m.values(["dense"], per_task=_size(m, plans)) - m.values(plans)).mean(dim=(1, 2))
        median = losses.quantile(0.5).item()
        text = f"median of {len(plans)} random plans at {key_of(ABLATED)} %: loss against dense"
        rows.append((text, f"{median:.3f} (all: {losses.min():.3f} … {losses.max():.3f})", "0.2", _met(median >= 0.2)))
    if m.there("dense", "other noise"):
        rows.append(("dense at other noise less dense", signed(m.difference(["other noise"], ["dense"])), "", ""))
    return [table(("check", "figure", "target", ""), rows)] if rows else ["Not measured yet."]


def _met(yes: bool) -> str:
    return "met" if yes else "not met"


def _size(m: Measured, names) -> int:
    return m.values(names).shape[2]


def _random(m: Measured, key: str) -> list[str]:
    return m.present([name for name in m.cells.planned if name.startswith(f"random/{key}/")])


def table_1(m: Measured) -> list[str]:
    """Every method near every sparsity, the paper's rows, and the claims."""
    lines, claims = [], []
    for target in TARGETS:
        key = key_of(target)
        lines += [f"### Near {key} %", "", table(_head(m), [row for row in _rows(m, key) if row]), ""]
        refused = [name for name in PUBLISHED if f"{name}/{key}/0" in m.cells and not m.there(f"{name}/{key}/0")]
        lines += [f"{ROWS[name]} has no row here: {m[f'{name}/{key}/0']['absent']}" for name in refused]
        lines += [""] if refused else []
        claims += _claims(m, target)
    return [*lines, "### The paper's table 1 (PixArt-Sigma)", "", _published(), "", *summary(claims)]


def _head(m: Measured) -> tuple[str, ...]:
    measures = ("overall", "against dense", "SSIM to dense", "Fréchet", "D, held out", "null norm")
    return ("encoder", "sparsity %", *TASKS, *measures)


def _rows(m: Measured, key: str):
    yield _row(m, "dense", ["dense"])
    for name, text in ROWS.items():
        yield _row(m, text, [f"{name}/{key}/0"])
    yield _row(m, "magnitude (zeros)", [f"magnitude/{key}"], float(key))
    plans = _random(m, key)
    yield _row(m, f"random, mean of {len(plans)}", plans) if plans else None


def _row(m: Measured, text: str, names: list[str], sparsity: float | None = None) -> tuple[str, ...] | None:
    """None where nothing is measured."""
    if not m.there(*names):
        return None
    removed = sum(m[name]["sparsity"] for name in names) / len(names)
    tasks = [m.mean(names, tasks=(task,)) for task in range(len(TASKS))]
    scores = [f"{found.value:.2f} ± {found.smallest:.2f}" for found in tasks]
    distance = m[names[0]]["frechet"] if len(names) == 1 else None
    against = signed(m.difference(names, ["dense"])) if m.there("dense") and names != ["dense"] else ""
    return (
        text,
        f"{100 * removed if sparsity is None else sparsity:.1f}",
        *scores,
        interval_text(m.mean(names)),
        against,
        f"{m.mean(names, 'ssim').value:.3f}",
        f"{distance[0]:.3f} ± {1.96 * distance[1]:.3f}" if distance else "",
        f"{m.median(names, 'projected', 'value'):.4g}",
        f"{m.median(names, 'projected', 'null_norm'):.2f}",
    )


def _published() -> str:
    head = ("encoder", "sparsity %", *TASKS, "overall", "DreamSim", "FID")
    rows = []
    for row in paper()["table 1"]:
        tasks = [f"{value:.2f}" for value in row["tasks"]]
        measures = (f"{row['overall']:.3f}", f"{row['dreamsim']:.3f}", f"{row['fid']:.2f}")
        rows.append((row["method"], f"{row['sparsity']:.1f}", *tasks, *measures))
    return table(head, rows)


def _printed(method: str, target: float) -> dict | None:
    """The paper's row of `method` beside `target`."""
    rows = [row for row in paper()["table 1"] if row["method"] == method]
    return rows[LEVEL[target]] if target in LEVEL else None


def _claims(m: Measured, target: float) -> list[tuple[str, str]]:
    key, found = key_of(target), []
    skrr, ours = f"skrr+/{key}/0", _printed("Skrr", target)
    others = {name: [f"{name}/{key}/0"] for name in PUBLISHED}
    others |= {"magnitude": [f"magnitude/{key}"], "random plans": _random(m, key)}
    for name, cells in others.items():
        if not (cells and m.there(skrr, *cells)):
            continue
        printed = _printed(PUBLISHED[name], target) if name in PUBLISHED else None
        shown = ROWS.get(name, name)
        gap = ours["overall"] - printed["overall"] if printed else None
        found.append(claim(f"near {key} %, Skrr scores above {shown}", m.difference([skrr], cells), gap))
        if name in PUBLISHED:
            gap = f"{ours['dreamsim'] - printed['dreamsim']:+.3f} (DreamSim)" if printed else None
            what = f"near {key} %, its pictures are more like the dense ones than those of {shown} (SSIM)"
            found.append(claim(what, m.difference([skrr], cells, "ssim"), gap))
    if m.there(skrr, "dense"):
        dense = paper()["table 1"][0]["fid"]
        gap = f"{dense - ours['fid']:+.2f} (FID)" if ours else None
        found.append(claim(f"near {key} %, its Fréchet distance is below the dense one's", _closer(m, skrr), gap))
    return found


def _closer(m: Measured, name: str) -> Estimate:
    """The dense encoder's Fréchet distance less that of `name`; the errors are added as if independent."""
    (dense, error), (other, error_) = m["dense"]["frechet"], m[name]["frechet"]
    half = 1.96 * math.hypot(error, error_)
    return Estimate(dense - other, dense - other - half, dense - other + half)


def draws(m: Measured) -> list[str]:
    """The methods at one sparsity over several draws of calibration captions."""
    key, rows, claims = key_of(ABLATED), [], []
    for name, text in ROWS.items():
        names = m.draws(name, key)
        if not names:
            continue
        scores = " ".join(f"{score:.3f}" for score in m.values(names).mean(dim=(1, 2)).tolist())
        rows.append((text, str(m.pictures(names)), interval_text(m.mean(names), 3), scores))
        ours, theirs = m.pairs("skrr+", name, key)
        if name != "skrr+" and ours:
            # Table A11 and table 1 print one draw.
            what = f"over {len(ours)} draws, Skrr scores above {text}"
            claims.append(claim(what, m.difference(ours, theirs), _gap(name)))
    if not rows:
        return ["Not measured yet."]
    return [table(("method", "pictures a draw", "overall", "draw by draw"), rows), "", *summary(claims), *_fast(m)]


def _fast(m: Measured) -> list[str]:
    """Whether the fast search finds the plans of the exact one, on the captions that both had."""
    exact, fast = "plan/skrr/0", "plan/skrr, fast/0"
    if not m.there(exact, fast):
        return []
    lines = []
    for key, one in m[exact]["levels"].items():
        ours, theirs = set(one["order"]), set(m[fast]["levels"][key]["order"])
        lines.append(f"{len(ours & theirs)} of {len(ours)} near {key} %")
    return ["", f"The fast search skips the same sub-blocks as the exact one: {', '.join(lines)}."]


def _gap(name: str) -> float | None:
    printed = _printed(PUBLISHED[name], ABLATED) if name in PUBLISHED else None
    return _printed("Skrr", ABLATED)["overall"] - printed["overall"] if printed else None
