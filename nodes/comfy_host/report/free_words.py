"""The free parts in words: each with its bytes, and why no picture reads it."""

from ..clip.free import FreePart

__all__ = ["free_lines"]

NAMES = {
    "layers": "{count} layers",
    "norm": "the last norm",
    "projection": "the pooled output's projection",
    "head": "the language-model head",
    "tower": "the part for pictures and sounds",
    "table": "the embedding table",
}
UNITS = ((1e9, "GB"), (1e6, "MB"), (1e3, "kB"))


def free_lines(free: tuple[FreePart, ...], from_files: bool = False) -> list[str]:
    """A line a part; nothing where nothing was free. `from_files`: the CLIP was loaded without them."""
    lines = ["Free, with no bit of any picture changed:"] if free else []
    for part in free:
        name = NAMES[part.kind].format(count=len(part.paths)).replace("1 layers", "1 layer")
        gone = "not read" if from_files else "removed"
        if part.kind == "table":
            gone = "stays in its file" if from_files else "stays in RAM, off the card"
        lines.append(f"{part.slot}: {name}, {_size(part.size)}, {gone}: {part.why}.")
    return lines


def _size(size: int) -> str:
    unit, name = next((unit for unit in UNITS if size >= unit[0]), UNITS[-1])
    return f"{size / unit:.2f} {name}"
