"""docs/models.md, made from docs/results/free.json."""

__all__ = ["page_of", "shares"]

HEAD = """# Text encoders that ComfyUI loads, and what no picture reads of them

Made by `python -m benchmarks.free`; do not edit. Sizes are those of 16-bit weights, counted from the shapes of
ComfyUI's own classes; in other formats the shares are about the same.

*Free* is what Skrr Apply (with or without a plan) and Skrr CLIP Loader take out with no bit of any picture changed:
layers behind the last state that is read, the language-model head, norms that nothing reads, and the part that looks at
pictures, where the workflow shows the encoder none. The embedding table stays in RAM (with Skrr CLIP Loader in the
file): a prompt needs a few hundred of its rows. *Cut* tells whether Skrr Search and plans can remove more.

Tested: a small encoder of every family, made of ComfyUI's own class with random weights, gives the same conditioning
bit for bit before and after, on the releases named (`tests/comfy/clip/test_free.py`).
"""
SIZES = ("GB", "dead layers", "head", "tower", "table", "free", "with table")
ORDER = ("layers", "head", "norm", "projection", "tower")


def shares(row: dict) -> tuple[float, float]:
    """Percent of the whole CLIP that is free: without and with the embedding table."""
    free = sum(row["free"].get(kind, 0) for kind in ORDER)
    return 100 * free / row["bytes"], 100 * (free + row["free"].get("table", 0)) / row["bytes"]


def page_of(found: dict[str, dict]) -> str:
    """The page of what was measured, release -> family -> row; the newest release gives the figures."""
    releases = sorted(found, key=lambda name: [int(part) for part in name.split(".")], reverse=True)
    names = dict.fromkeys(name for release in releases for name in found[release])
    columns = ["model", "encoder", "kind", "reads", *SIZES, "cut", *releases]
    lines = [HEAD, f"| {' | '.join(columns)} |", "|" + "".join("---:|" if c in SIZES else "---|" for c in columns)]
    for name in names:
        row = next(found[release][name] for release in releases if name in found[release])
        there = ["yes" if name in found[release] else "no such model" for release in releases]
        lines.append("| " + " | ".join([name, row["encoder"], *_cells(row), *there]) + " |")
    return "\n".join(lines) + "\n"


def _cells(row: dict) -> list[str]:
    known = [shape for shape in row["encoders"].values() if shape["kind"]]
    kinds = ", ".join(dict.fromkeys(shape["kind"] for shape in known)) or "not known: left whole"
    reads = "; ".join(f"{slot} {shape['reads']}" for slot, shape in row["encoders"].items() if shape["kind"])
    without, with_table = shares(row)
    sizes = [_gb(row["free"].get(kind, 0)) for kind in ("layers", "head", "tower", "table")]
    searched = [slot for slot, shape in row["encoders"].items() if shape.get("searched")]
    if not row["free"]:
        size = _gb(row["bytes"]) if known else ""
        return [kinds, reads, size, *[""] * 4, "nothing", "nothing", ", ".join(searched) or "no"]
    shown = [f"{without:.1f} %", f"{with_table:.1f} %"]
    return [kinds, reads, _gb(row["bytes"]), *sizes, *shown, ", ".join(searched) or "not yet"]


def _gb(size: int) -> str:
    return f"{size / 1e9:.2f}" if size else ""
