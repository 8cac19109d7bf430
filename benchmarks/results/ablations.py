"""The page's second part: costs, beam sizes, Re-use, projection and null term, and the magnitude study."""

from collections.abc import Sequence

from skrr_engine.demo.world.world import TASKS

from ..tables.layout import ABLATED
from ..tables.plans import key_of
from ..tables.statistics import Estimate
from .reading import Measured, claim, fact, interval_text, paper, signed, summary, table

__all__ = ["beams", "cost", "magnitude", "projection", "reuse"]

KEY = key_of(ABLATED)
NAMES = {
    "dense": "dense", "shortgpt": "ShortGPT", "shortgpt+": "ShortGPT with re-use", "laco": "LaCo",
    "finercut": "FinerCut", "finercut+": "FinerCut with re-use", "skrr": "Skrr, skip only", "skrr+": "Skrr",
}  # fmt: skip
# The tasks that the paper's table 3 prints.
PRINTED = (0, 2, 3)
NOTHING = ["Not measured yet."]


def cost(m: Measured) -> list[str]:
    """Table 2."""
    if not m.there("cost"):
        return NOTHING
    found = m["cost"]
    rows, encoders = [], found["encoders"]
    dense = encoders["dense"]
    for name, one in encoders.items():
        rows.append(
            (NAMES[name], f"{100 * one['sparsity']:.1f}", f"{one['parameters']:,}", f"{one['bytes']:,}",
             f"{one['macs'] / 1e6:.1f}", f"{one['macs'] / dense['macs']:.3f}", f"{1000 * one['seconds']:.1f}",
             f"{one['ratio']:.3f}")
        )  # fmt: skip
    head = ("encoder", "sparsity %", "parameters", "bytes", "MACs, million", "÷ dense", "encode ms", "÷ dense")
    lines = [table(head, rows), ""]
    share = 2 * dense["macs"] / found["picture"]
    facts = m.cells.facts
    lines.append(
        f"MACs are multiply-accumulates of one prompt of {found['tokens']} tokens (the paper's count); the encoder's "
        f"two passes are {100 * share:.1f} % of a whole picture here, where the denoiser is small. Times are medians "
        f"of {facts['sizes']['repeats']} rounds of {found['together']} prompts on {facts['threads']} threads, in which "
        "all take turns; their ratios are medians of the rounds' ratios. Bytes are those of the file. Magnitude "
        "pruning is not in the table: its zeros take the room and the time of the dense encoder."
    )
    rows = [
        (one["method"], f"{one['sparsity']:.1f}", f"{one['params_B']:.2f}", f"{one['mem_GB']:.2f}",
         f"{one['tflops']:.2f}") for one in paper()["table 2"]
    ]  # fmt: skip
    head = ("encoder", "sparsity %", "parameters, 10⁹", "memory, GB", "TFLOPs")
    lines += ["", "The paper's table 2 (whole pipeline):", "", table(head, rows), ""]
    return lines + summary(_cost_claims(encoders))


def _cost_claims(encoders: dict) -> list[tuple[str, str]]:
    """Counted, or timed in one run; the published signs come from table 2."""
    dense, skrr, found = encoders["dense"], encoders.get("skrr+"), []
    printed = {row["method"]: row for row in paper()["table 2"]}
    if skrr and "skrr" in encoders:
        more = skrr["bytes"] - encoders["skrr"]["bytes"]
        found.append(fact("re-use costs no bytes", more == 0, f"{more:,} bytes more than skipping alone"))
    if skrr and "finercut" in encoders:
        gap = (skrr["macs"] - encoders["finercut"]["macs"]) / dense["macs"]
        more = printed["Skrr"]["tflops"] - printed["FinerCut"]["tflops"]
        what = "Skrr computes more than FinerCut, since what is re-used runs"
        found.append(fact(what, gap > 0, f"{gap:+.3f} of the dense MACs", f"{more:+.2f} TFLOPs a picture"))
    if skrr:
        figure = f"{skrr['ratio']:.3f} of the dense time"
        found.append(fact("Skrr encodes faster than the dense encoder", skrr["ratio"] < 1, figure))
    return found


def _row(m: Measured, text: str, names: Sequence[str]) -> tuple[str, ...]:
    tasks = [f"{value:.2f}" for value in m.tasks(names)]
    measures = [f"{m.median(names, 'projected', field):.4g}" for field in ("value", "null")]
    norm = f"{m.median(names, 'projected', 'null_norm'):.2f}"
    return (text, f"{len(names)} × {m.pictures(names)}", *tasks, interval_text(m.mean(names), 3),
            f"{m.mean(names, 'ssim').value:.3f}", *measures, norm)  # fmt: skip


HEAD = ("", "draws × pictures", *TASKS, "overall", "SSIM", "D", "its null term", "null norm")


def beams(m: Measured) -> list[str]:
    """Table 3."""
    methods = {beam: "skrr+" if beam == 3 else f"beam {beam}" for beam in (1, 2, 3, 4)}
    rows = [_row(m, f"beam {beam}", m.draws(name, KEY)) for beam, name in methods.items() if m.draws(name, KEY)]
    printed = {row["k"]: [row["tasks"][task] for task in PRINTED] for row in paper()["table 3"]}
    claims = []
    for beam in (1, 2, 4):
        ours, theirs = m.pairs("skrr+", methods[beam], KEY)
        if ours:
            gap = (sum(printed[3]) - sum(printed[beam])) / len(PRINTED)
            same = sum(m[a]["variant"] == m[b]["variant"] for a, b in zip(ours, theirs, strict=True))
            what = f"beam 3 scores above beam {beam} (single object, counting, colours; the same plan in {same} of "
            what += f"{len(ours)} draws)"
            claims.append(claim(what, m.difference(ours, theirs, tasks=PRINTED), gap))
    head = ("beam", *(TASKS[task] for task in PRINTED), "sparsity %", "DreamSim")
    shown = [
        (str(row["k"]), *(f"{row['tasks'][task]:.3f}" for task in PRINTED), f"{row['sparsity']:.1f}",
         f"{row['dreamsim']:.3f}") for row in paper()["table 3"]
    ]  # fmt: skip
    return _section(rows, "table 3 (its beam 4 is at a lower sparsity than the others)", table(head, shown), claims)


def reuse(m: Measured) -> list[str]:
    """Table A11."""
    rows, claims = [], []
    off, on = paper()["table A11"]
    for name in ("skrr", "finercut", "shortgpt"):
        for mark in ("", "+"):
            names = m.draws(name + mark, KEY)
            if names:
                rows.append(_row(m, f"{NAMES[name].partition(',')[0]}, {'with' if mark else 'no'} re-use", names))
        ours, theirs = m.pairs(f"{name}+", name, KEY)
        if ours:
            gap = on["overall"] - off["overall"] if name == "skrr" else None
            text = NAMES[name].partition(",")[0]
            claims.append(claim(f"re-use raises the score of {text}", m.difference(ours, theirs), gap))
            likeness = f"{on['dreamsim'] - off['dreamsim']:+.3f} (DreamSim)" if name == "skrr" else None
            what = f"re-use makes the pictures of {text} more like the dense ones (SSIM)"
            claims.append(claim(what, m.difference(ours, theirs, "ssim"), likeness))
    shown = _published(paper()["table A11"], lambda row: f"Skrr, {'with' if row['reuse'] else 'no'} re-use")
    return _section(rows, "table A11", shown, claims)


def projection(m: Measured) -> list[str]:
    """Table A13, and the null term, for which the paper prints no table."""
    methods = {"skrr+": "Skrr", "no projection": "without projection", "no null term": "without null term"}
    rows = [_row(m, text, m.draws(name, KEY)) for name, text in methods.items() if m.draws(name, KEY)]
    without, with_ = paper()["table A13"]
    claims = []
    for name, gap, likeness in (
        ("no projection", with_["overall"] - without["overall"], with_["dreamsim"] - without["dreamsim"]),
        ("no null term", None, None),
    ):
        ours, theirs = m.pairs("skrr+", name, KEY)
        if ours:
            claims.append(claim(f"Skrr scores above Skrr {methods[name]}", m.difference(ours, theirs), gap))
            text = f"{likeness:+.3f} (DreamSim)" if likeness else None
            what = f"its pictures are more like the dense ones than {methods[name]} (SSIM)"
            claims.append(claim(what, m.difference(ours, theirs, "ssim"), text))
    shown = _published(paper()["table A13"], lambda row: f"{'with' if row['projection'] else 'without'} projection")
    return _section(rows, "table A13", shown, claims)


def _published(rows: Sequence[dict], name) -> str:
    head = ("", *TASKS, "overall", "DreamSim")
    tasks = [[f"{value:.2f}" for value in row["tasks"]] for row in rows]
    ends = [(f"{row['overall']:.3f}", f"{row['dreamsim']:.3f}") for row in rows]
    return table(head, [(name(row), *task, *end) for row, task, end in zip(rows, tasks, ends, strict=True)])


def _section(rows: list, name: str, shown: str, claims: list) -> list[str]:
    if not rows:
        return NOTHING
    return [table(HEAD, rows), "", f"The paper's {name}:", "", shown, "", *summary(claims)]


def magnitude(m: Measured) -> list[str]:
    """The study's rates."""
    rates = paper()["magnitude study"]
    texts = {
        "study/encoder": f"text encoder {100 * rates['text encoder']:.1f} %",
        "study/denoiser": f"denoiser {100 * rates['denoiser']:.0f} %",
        "study/both": "both",
    }
    names = [name for name in texts if m.there(name, "dense")]
    rows = [(*_row(m, texts[name], [name]), signed(m.difference([name], ["dense"]))) for name in names]
    if not rows:
        return NOTHING
    losses = [claim(f"magnitude pruning, {texts[name]}, leaves the score (loss below 0.05)", _spare(m, name))
              for name in names]  # fmt: skip
    return [table((*HEAD, "against dense"), rows), "", *summary(losses)]


def _spare(m: Measured, name: str) -> Estimate:
    """0.05 less the loss."""
    gap = m.difference([name], ["dense"])
    return Estimate(gap.value + 0.05, gap.low + 0.05, gap.high + 0.05)
