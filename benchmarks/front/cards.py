"""README's recommendation: what each step costs, and what to load for which model on which card.

Steps are measured on the small pipeline. Sizes of real encoders are those of docs/results/free.json, counted from
ComfyUI's own classes in 16 bit, less what goes free and the table that stays in RAM, times the bits of a format: the
latter is computed, not measured.
"""

import json
from pathlib import Path

from benchmarks.front.cases import BEST, Case
from benchmarks.front.page import label, shown
from benchmarks.front.points import against, dense_of, points
from benchmarks.tables.cells import Cells
from skrr_engine.measure.quality import quality_of
from skrr_engine.plans.presets import load_preset

__all__ = ["BEGIN", "END", "README", "block", "in_readme", "read_free"]

PACK = Path(__file__).resolve().parents[2]
README, FREE = PACK / "README.md", PACK / "docs" / "results" / "free.json"
BEGIN, END = "<!-- made by python -m benchmarks.front -->", "<!-- end -->"
STEPS = (
    Case("fp8 scaled"), Case("Q4_0"), Case("3 bit"), Case("2 bit"), Case("fp16", 0.42), Case("fp16", 0.42, BEST),
    Case("Q4_0", 0.42), Case("Q4_0", 0.42, BEST), Case("3 bit", 0.42, BEST), Case("Q4_0", 0.62, BEST),
)  # fmt: skip
MODELS = (
    "FLUX.1", "SD 3", "FLUX.2 klein 4B", "FLUX.2 klein 9B", "FLUX.2 dev", "Qwen-Image", "Z-Image", "HunyuanVideo",
    "LTX-2", "Wan", "Lumina 2",
)  # fmt: skip
CARDS = (4, 6, 8, 12, 16, 24)
# Bits a weight, best first.
FORMATS = {"16 bit": 16, "fp8": 8, "4 bit": 4.5}
# What a card keeps for the rest of a program and for an encoder's own work, in GB. A chosen number.
ROOM = 1.5
# Models with a published plan for their T5-XXL, which PixArt's CLIP is alone, and what is asked of it.
PLANS, T5_ALONE, ASKED = {"FLUX.1": "flux1-dev", "SD 3": "sd3"}, "PixArt, Chroma", 0.4


def block(cells: Cells, free: dict) -> str:
    """The lines between the marks, Markdown."""
    return "\n".join([BEGIN, *_steps(cells), "", *_cards(free), END])


def in_readme(text: str, made: str) -> str:
    """README with another block."""
    before, _, rest = text.partition(BEGIN)
    return before + made + rest.partition(END)[2]


def read_free() -> dict[str, dict]:
    """model -> its row, of the newest ComfyUI."""
    found = json.loads(FREE.read_text(encoding="utf-8"))
    return found[max(found, key=lambda name: [int(part) for part in name.split(".")])]


def _steps(cells: Cells) -> list[str]:
    found = points(cells)
    there, dense = {point.case.name: point for point in found}, dense_of(found)
    if dense is None:
        return ["Not measured."]
    lines = ["| the encoder of the small pipeline, as | of fp16's bytes | right pictures, against dense | in words |"]
    lines += ["|---|---:|---:|---|", f"| {label(dense.case, dense.found)} | 1.00 | {dense.score:.3f} | |"]
    for case in STEPS:
        point = there.get(case.name)
        if point is not None and point.score is not None:
            words = quality_of(point.found["turned"]).grade
            gap = shown(against(point, dense))
            lines.append(f"| {label(case, point.found)} | {point.bytes / dense.bytes:.2f} | {gap} | {words} |")
    return lines


def _cards(free: dict) -> list[str]:
    cards = " | ".join(f"{size} GB" for size in CARDS)
    lines = [f"| image model | dense, 16 bit | {cards} |", f"|---|---:|{'---|' * len(CARDS)}"]
    for model in MODELS:
        options = _options(model, free)
        fitting = [[f"{name}: {size:.1f}" for name, size in options if size + ROOM <= card] for card in CARDS]
        cells = [names[0] if names else "" for names in fitting]
        lines.append(f"| {model} | {free[model]['bytes'] / 1e9:.1f} | {' | '.join(cells)} |")
    return lines


def _options(model: str, free: dict) -> list[tuple[str, float]]:
    """What can be loaded and the GB that it takes on the card, best first."""
    row = free[model]
    kept = row["bytes"] - sum(row["free"].values())
    found = [(name, kept * bits / 16 / 1e9) for name, bits in FORMATS.items()]
    if model in PLANS:
        taken = free[T5_ALONE]["bytes"] * load_preset(PLANS[model]).level_for(ASKED).sparsity
        bits = FORMATS["4 bit"]
        found.append((f"4 bit and {100 * ASKED:.0f} % less", (kept - taken) * bits / 16 / 1e9))
    return found
