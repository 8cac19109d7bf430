"""Pictures side by side in one PNG: a row a caption, a column a plan, words above and beside."""

from collections.abc import Sequence
from pathlib import Path

import torch
from PIL import Image, ImageDraw, ImageFont

from ...disk import new_file

__all__ = ["save_grid"]

SCALE, GAP, LEFT, TOP = 2, 8, 330, 56
PAPER, INK, GOOD, BAD = (250, 249, 246), (32, 32, 36), (30, 140, 70), (200, 50, 40)


def save_grid(
    path: Path, columns: Sequence[str], captions: Sequence[str], pictures: torch.Tensor, right: torch.Tensor
) -> None:
    """Writes `pictures`, (columns, captions, 3, h, w) from 0 to 1, enlarged and framed green where `right`,
    (columns, captions) bool, says that the picture is what the caption asks for, and red elsewhere."""
    side = SCALE * pictures.shape[-1]
    size = (LEFT + len(columns) * (side + GAP) + GAP, TOP + len(captions) * (side + GAP) + GAP)
    sheet = Image.new("RGB", size, PAPER)
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(15)
    for c, title in enumerate(columns):
        at = (LEFT + c * (side + GAP) + side / 2, TOP / 2)
        draw.multiline_text(at, title, INK, font, anchor="mm", align="center")
    for r, caption in enumerate(captions):
        top = TOP + r * (side + GAP)
        text = _wrapped(caption, font)
        draw.multiline_text((LEFT - 2 * GAP, top + side / 2), text, INK, font, anchor="rm", align="right")
        for c in range(len(columns)):
            left = LEFT + c * (side + GAP)
            pixels = (pictures[c, r].clamp(0, 1) * 255).round().byte().permute(1, 2, 0).contiguous()
            sheet.paste(Image.fromarray(pixels.numpy()).resize((side, side), Image.Resampling.BICUBIC), (left, top))
            frame = GOOD if right[c, r] else BAD
            draw.rectangle((left - 2, top - 2, left + side + 1, top + side + 1), outline=frame, width=2)
    with new_file(path) as temporary:
        sheet.save(temporary, "PNG")


def _wrapped(text: str, font) -> str:
    lines = [""]
    for word in text.split():
        longer = f"{lines[-1]} {word}".strip()
        if lines[-1] and font.getlength(longer) > LEFT - 4 * GAP:
            lines.append(word)
        else:
            lines[-1] = longer
    return "\n".join(lines)
