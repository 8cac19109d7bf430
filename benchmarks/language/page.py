"""docs/language.md out of the measured cells: every figure on it is computed here."""

from pathlib import Path

from benchmarks.language.cases import RANDOM, TARGETS, WAYS, Case
from benchmarks.language.models import MODELS
from benchmarks.tables.cells import Cells

__all__ = ["CELLS", "PAGE", "page"]

PACK = Path(__file__).resolve().parents[2]
CELLS, PAGE = PACK / "docs" / "results" / "language.json", PACK / "docs" / "language.md"
SOURCES = {
    "paper": "published method (fast search, k = 3)",
    "stand-ins": "search with stand-ins, D per parameter",
    "shortgpt": "ShortGPT",
    **{f"random {seed}": f"random, draw {seed}" for seed in range(RANDOM)},
}
WORDS = {
    "plain": "none",
    "bias": "bias",
    "bridge": "bridge, rank 16",
    "next": "re-fit, next",
    "all": "re-fit, all",
    "bridge, next": "bridge and re-fit, next",
    "bridge, all": "bridge and re-fit, all",
}
# What was to be shown: corrected, at most so much of the published method's error near so much removed.
AT, GOAL = 0.3, 0.30


def page(cells: Cells) -> str:
    """The whole page, Markdown."""
    parts = ["# Plans and corrections on two trained language models", "", *_about(cells), ""]
    parts += ["## The target", "", *_target(cells), ""]
    for slot, model in MODELS.items():
        parts += [f"## {model.name}", "", *_table(cells, slot), ""]
    return "\n".join(parts)


def _about(cells: Cells) -> list[str]:
    facts = cells.facts
    sizes = facts["sizes"]
    lines = [
        "Made by `python -m benchmarks.language` from [results/language.json](results/language.json). Nothing on this "
        f"page is written by hand. Measured on a CPU, ComfyUI {facts['comfyui']}, PyTorch {facts['torch']}.",
        "",
        "- **Models** come inside pip packages: "
        + "; ".join(f"{one.name} (`{one.packages[0]}`, {one.licence})" for one in MODELS.values())
        + ". Read into float32, run by ComfyUI's own classes in a CLIP that hands on the state in front of the last "
        "layer, as Z-Image's and Lumina's do; the last layer is dead and counts nowhere.",
        "- **Removed** is the share of the live layers' parameters. There are no pictures behind these models.",
        "- **Error** is E|f - f'|² / E|f - mean f|², where f is that state behind an RMS norm, as those denoisers read "
        "it, every channel over its dense root mean square. Position 0, which sees only itself and holds most of the "
        "energy of SmolLM2's states, is left out. **KL** is the next token's distribution against the dense model's, "
        f"in nats, on {sizes['predicted']} of the prompts, behind the model's own last layer and head.",
        f"- **Prompts** are cut to {sizes['tokens']} tokens. The pack's own: {sizes['search']} find the plans, "
        f"{sizes['fit']} others are fitted on, {sizes['selection']} others choose the ridge at every place and whether "
        f"anything is taken. Error and KL are on {sizes['held_out']} prompts of other people "
        f"({facts['held out']}), by which nothing was chosen. No null prompt: a language model has none.",
        "- **Corrections** are bridges of rank 16 or biases at removed places, and output matrices of kept sub-blocks "
        "fitted anew (stored as float16): the next one behind each removed run, or all. \"Of published\" is the error "
        "÷ that of the published method's plan alone, at its own share.",
        "- One search and one fit a row: there are no intervals.",
    ]
    if cells.missing:
        names = "; ".join(cells.missing[:4]) + ("; and more" if len(cells.missing) > 4 else "")
        lines.append(f"- **Missing**: {len(cells.missing)} of {len(cells.planned)} cells: {names}.")
    return lines


def _of(cells: Cells, slot: str, target: float, source: str, way: str) -> dict | None:
    name = Case(slot, target, source, way).name
    return cells[name] if name in cells else None


def _target(cells: Cells) -> list[str]:
    """Whether the best corrected plan near 30 % has at most 0.30 of the published method's error, model by model."""
    lines = [
        f"Corrected, at most {GOAL:.2f} of the published method's error near {100 * AT:.0f} % removed.",
        "", "| model | published | best corrected | of published | met |", "|---|---:|---|---:|---|",
    ]  # fmt: skip
    for slot, model in MODELS.items():
        plain = _of(cells, slot, AT, "paper", "plain")
        found = {
            (source, way): one
            for source in SOURCES
            for way in WAYS
            if way != "plain" and (one := _of(cells, slot, AT, source, way)) is not None
        }
        if plain is None or not found:
            lines.append(f"| {model.name} | not measured | | | |")
            continue
        source, way = min(found, key=lambda key: found[key]["error"])
        best = found[source, way]
        share = best["error"] / plain["error"]
        lines.append(
            f"| {model.name} | {plain['error']:.3f} at {100 * plain['share']:.1f} % | {best['error']:.3f} at "
            f"{100 * best['share']:.1f} %: {SOURCES[source]}; {WORDS[way]} | {share:.2f} | "
            f"{'yes' if share <= GOAL else 'no'} |"
        )
    return lines


def _table(cells: Cells, slot: str) -> list[str]:
    lines = [
        "| removed | plan | corrections | error | of published | KL | extra bytes | places taken |",
        "|---:|---|---|---:|---:|---:|---:|---:|",
    ]
    for target in sorted(TARGETS):
        plain = _of(cells, slot, target, "paper", "plain")
        for source in SOURCES:
            for way in WAYS:
                one = _of(cells, slot, target, source, way)
                if one is None:
                    continue
                share = f"{one['error'] / plain['error']:.2f}" if plain else ""
                extra = f"{one['extra bytes'] / 1024:.0f} KiB" if "extra bytes" in one else ""
                taken = f"{one['taken']} of {one['sites']}" if "sites" in one else ""
                lines.append(
                    f"| {100 * one['share']:.1f} % | {SOURCES[source]} | {WORDS[way]} | {one['error']:.3f} | {share} | "
                    f"{one['KL']:.3f} | {extra} | {taken} |"
                )
    return lines if len(lines) > 2 else ["Not measured."]
