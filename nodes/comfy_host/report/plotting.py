"""Skrr Report's figures as one picture, drawn with Pillow, which ComfyUI brings along."""

import math
from statistics import median

import numpy
import torch
from PIL import Image, ImageDraw, ImageFont

from .comparing import Comparison
from .pictures import PicturePair
from .probing import Change
from .verdict import FP8_LAYER, percent, size_in_words, time_in_words

__all__ = ["draw"]

WIDTH, MARGIN, LABELS, VALUES = 1000, 40, 210, 130
# Drawn twice as large and scaled down: Pillow's circles and slanted lines have jagged edges.
SCALE = 2
PAPER, INK, SOFT, LINE = "#ffffff", "#1d2129", "#667080", "#d8dce3"
DENSE, PRUNED, WARM = "#a3adba", "#1f77b4", "#d2691e"
GOOD, BAD = "#2e7d4f", "#b3402a"
HEADS = {"unchanged": GOOD, "about as good": GOOD, "much worse": BAD, "large change": BAD}
# The scale of the changes: shares from 0.1 % to 1,000 %, in powers of ten.
LEAST, MOST = -3, 1
GAIN = 4


def draw(
    comparison: Comparison,
    judged: tuple[str, str],
    pair: PicturePair | None = None,
    dense_picture=None,
    pruned_picture=None,
) -> torch.Tensor:
    """The plot as an IMAGE: (1, height, 1000, 3), float32 in 0 to 1. `judged` is what `verdict` returned; the first
    pictures of the two batches are shown if `pair` has their measures."""
    sheet = _Sheet(1400 + 260 * len(comparison.encoders))
    _head(sheet, comparison, *judged)
    _sizes(sheet, comparison)
    if comparison.seconds[0]:
        _times(sheet, comparison)
    _changes(sheet, comparison)
    if pair is not None:
        _pictures(sheet, pair, dense_picture, pruned_picture)
    return sheet.tensor()


class _Sheet:
    """A page that fills from the top; all lengths in pixels of the finished picture."""

    def __init__(self, height: int):
        self.image = Image.new("RGB", (SCALE * WIDTH, SCALE * height), PAPER)
        self.pen = ImageDraw.Draw(self.image)
        self.y = MARGIN - 10
        self.fonts = {}

    def font(self, size: int):
        if size not in self.fonts:
            self.fonts[size] = ImageFont.load_default(SCALE * size)
        return self.fonts[size]

    def width_of(self, text: str, size: int) -> float:
        return self.pen.textlength(text, self.font(size)) / SCALE

    def fitting(self, text: str, size: int, width: float) -> str:
        """`text`, its middle left out where it is wider than `width`."""
        if self.width_of(text, size) <= width:
            return text
        keep = len(text) - 1
        while keep > 2 and self.width_of(_shortened(text, keep), size) > width:
            keep -= 1
        return _shortened(text, keep)

    def lines(self, text: str, size: int, width: float) -> list[str]:
        """`text` in lines no wider than `width`, broken between words."""
        found = [""]
        # A percent sign stays with its number.
        for word in (part.replace("\0", " ") for part in text.replace(" %", "\0%").split()):
            longer = f"{found[-1]} {word}".strip()
            if self.width_of(longer, size) <= width:
                found[-1] = longer
            else:
                found.append(self.fitting(word, size, width))
        return found

    def text(self, x: float, y: float, text: str, size: int = 19, color: str = INK, anchor: str = "lm"):
        self.pen.text((SCALE * x, SCALE * y), text, color, self.font(size), anchor)

    def box(self, left: float, top: float, right: float, bottom: float, color: str, radius: float = 0):
        corners = [SCALE * left, SCALE * top, max(SCALE * right, SCALE * left + 2), SCALE * bottom]
        self.pen.rounded_rectangle(corners, SCALE * radius, color)

    def line(self, x1: float, y1: float, x2: float, y2: float, color: str = LINE, width: float = 1):
        self.pen.line([SCALE * x1, SCALE * y1, SCALE * x2, SCALE * y2], color, round(SCALE * width))

    def mark(self, x: float, y: float, radius: float, color: str, beyond: int = 0):
        """A dot, or where the value lies off the scale an arrow to the left (-1) or right (1)."""
        if beyond:
            back = x - beyond * radius
            corners = [(x + beyond * (radius + 3), y), (back, y - radius), (back, y + radius)]
            self.pen.polygon([(SCALE * a, SCALE * b) for a, b in corners], color)
        else:
            self.pen.ellipse([SCALE * bound for bound in (x - radius, y - radius, x + radius, y + radius)], color)

    def section(self, title: str, remark: str = ""):
        self.y += 20
        self.line(MARGIN, self.y, WIDTH - MARGIN, self.y)
        self.y += 26
        self.text(MARGIN, self.y, title, 21)
        if remark:
            room = WIDTH - 2 * MARGIN - self.width_of(title, 21) - 24
            self.text(WIDTH - MARGIN, self.y, self.fitting(remark, 16, room), 16, SOFT, "rm")
        self.y += 26

    def tensor(self) -> torch.Tensor:
        height = round(self.y + MARGIN - 10)
        page = self.image.crop((0, 0, SCALE * WIDTH, SCALE * height))
        page = page.resize((WIDTH, height), Image.Resampling.LANCZOS)
        return torch.from_numpy(numpy.asarray(page).astype(numpy.float32) / 255)[None]


def _shortened(text: str, keep: int) -> str:
    return f"{text[: (keep + 1) // 2].rstrip()}...{text[len(text) - keep // 2 :].lstrip()}"


def _head(sheet: _Sheet, comparison: Comparison, head: str, said: str) -> None:
    sheet.y += 16
    sheet.text(MARGIN, sheet.y, "Text encoder: dense against pruned", 28)
    width = sheet.width_of(head, 19) + 32
    sheet.box(WIDTH - MARGIN - width, sheet.y - 18, WIDTH - MARGIN, sheet.y + 18, HEADS.get(head, SOFT), 18)
    sheet.text(WIDTH - MARGIN - width / 2, sheet.y, head, 19, PAPER, "mm")
    sheet.y += 36
    prompt = " ".join(comparison.prompt.split())
    if not prompt:
        prompt = "the empty prompt"
    # Pillow's own font has ASCII only; boxes in place of letters tell nothing.
    if prompt.isascii():
        sheet.text(MARGIN, sheet.y, sheet.fitting(prompt, 17, WIDTH - 2 * MARGIN), 17, SOFT)
        sheet.y += 34
    for line in sheet.lines(said, 17, WIDTH - 2 * MARGIN):
        sheet.text(MARGIN, sheet.y, line, 17)
        sheet.y += 24
    sheet.y -= 12


def _pair_of_bars(sheet: _Sheet, label: str, values, most: float, shown, ranges=None) -> None:
    """A grey bar over a blue one, both with their value; `ranges` are (least, most) marked on the bars."""
    left, room = MARGIN + LABELS, WIDTH - 2 * MARGIN - LABELS - VALUES
    sheet.text(MARGIN, sheet.y + 18, sheet.fitting(label, 19, LABELS - 14))
    for number, (value, color) in enumerate(zip(values, (DENSE, PRUNED), strict=True)):
        top = sheet.y + 19 * number
        end = left + room * (value / most if most else 0)
        sheet.box(left, top, end, top + 16, color, 2)
        reach = end
        if ranges:
            low, high = (left + room * bound / most for bound in ranges[number])
            sheet.line(low, top + 8, high, top + 8, INK, 1.5)
            for x in (low, high):
                sheet.line(x, top + 4, x, top + 12, INK, 1.5)
            reach = max(end, high)
        sheet.text(reach + 10, top + 8, shown(value), 17, INK if number else SOFT)
    sheet.y += 52


def _sizes(sheet: _Sheet, comparison: Comparison) -> None:
    before, after = comparison.clip_bytes
    share = f"{100 * (1 - after / before):.1f} % smaller" if before else ""
    sheet.section("Size of the weights", f"grey dense, blue pruned; {share}")
    most = max(*comparison.clip_bytes, 1)
    for encoder in comparison.encoders:
        _pair_of_bars(sheet, encoder.slot, encoder.bytes, most, size_in_words)
    if len(comparison.encoders) > 1:
        _pair_of_bars(sheet, "whole CLIP", comparison.clip_bytes, most, size_in_words)
    sheet.y -= 8


def _times(sheet: _Sheet, comparison: Comparison) -> None:
    runs = len(comparison.seconds[0])
    counted = f"median of {runs} runs and their range" if runs > 1 else "one run"
    sheet.section("Time to encode this prompt", f"{comparison.device}, weights loaded; {counted}")
    middles = [median(seconds) for seconds in comparison.seconds]
    ranges = [(min(seconds), max(seconds)) for seconds in comparison.seconds]
    most = max(bound for pair in ranges for bound in pair)
    _pair_of_bars(sheet, "one encode", middles, most, time_in_words, ranges if runs > 1 else None)
    sheet.y -= 8


def _changes(sheet: _Sheet, comparison: Comparison) -> None:
    measured = [encoder for encoder in comparison.encoders if encoder.change]
    sheet.section("How far the features moved", "root of the mean square, in % of the features' size")
    left, right = MARGIN + LABELS + 90, WIDTH - MARGIN - 90
    top = sheet.y + 20
    bottom = top + sum(len(_rows(encoder.change)) for encoder in measured) * 34 + 16 * (len(measured) - 1)

    def place(share: float) -> float:
        power = math.log10(share) if share > 0 else LEAST
        return left + (right - left) * (min(max(power, LEAST), MOST) - LEAST) / (MOST - LEAST)

    for power in range(LEAST, MOST + 1):
        sheet.line(place(10.0**power), top, place(10.0**power), bottom)
        sheet.text(place(10.0**power), bottom + 16, f"{100 * 10.0**power:g} %", 15, SOFT, "mm")
    for share, name in ((FP8_LAYER, "one layer in fp8"), (1.0, "as much as losing them")):
        sheet.line(place(share), top - 6, place(share), bottom, WARM, 1.5)
        sheet.text(place(share), top - 16, name, 15, WARM, "mm")
    sheet.y = top + 18
    for encoder in measured:
        sheet.text(MARGIN, sheet.y, sheet.fitting(encoder.slot, 17, 110), 17, SOFT)
        for name, share in _rows(encoder.change):
            sheet.text(left - 18, sheet.y, name, 17, anchor="rm")
            sheet.mark(place(share), sheet.y, 7, PRUNED, (share > 10.0**MOST) - (share < 10.0**LEAST))
            _beside(sheet, place(share), percent(share))
            sheet.y += 34
        sheet.y += 16
    sheet.y = bottom + 50
    for encoder in measured:
        found = encoder.change.discrepancy
        figures = (
            f"discrepancy {found.value:.4g}  |  cosine (1 - cos) {found.cosine:.4g}  |  "
            f"empty prompt's norm x {found.null_norm:.3g}"
        )
        sheet.text(MARGIN, sheet.y, sheet.fitting(encoder.slot, 17, left - MARGIN - 18), 17, SOFT)
        sheet.text(left, sheet.y, figures, 17)
        sheet.y += 28
    sheet.y -= 8


def _rows(change: Change) -> list[tuple[str, float]]:
    rows = [("prompt", change.relative), ("empty prompt", change.null_relative)]
    return rows if change.to_empty is None else [*rows, ("prompt, of the way to empty", change.to_empty)]


def _beside(sheet: _Sheet, x: float, text: str) -> None:
    """The value of a dot on a patch of paper, so that no line runs through it."""
    width = sheet.width_of(text, 17)
    right = x + 14 + width > WIDTH - MARGIN
    left = x - 14 - width if right else x + 14
    sheet.box(left - 3, sheet.y - 11, left + width + 3, sheet.y + 11, PAPER)
    sheet.text(left, sheet.y, text, 17)


def _pictures(sheet: _Sheet, pair: PicturePair, dense, pruned) -> None:
    psnr = "equal" if math.isinf(pair.psnr) else f"PSNR {pair.psnr:.1f} dB (one flat colour: {pair.flat_psnr:.1f} dB)"
    sheet.section("Pictures", f"{psnr}, mean difference {percent(pair.mean)}")
    a, b = (picture[0, ..., :3].float().cpu().clamp(0, 1) for picture in (dense, pruned))
    shown = [("dense", a), ("pruned", b), (f"difference x {GAIN}", ((a - b).abs() * GAIN).clamp(0, 1))]
    gap, y = 20, sheet.y
    room = (WIDTH - 2 * MARGIN - 2 * gap) / 3
    rows, columns = a.shape[:2]
    fit = SCALE * min(room / columns, room / rows)
    size = (max(1, round(columns * fit)), max(1, round(rows * fit)))
    for number, (name, values) in enumerate(shown):
        picture = Image.fromarray((values * 255).round().to(torch.uint8).numpy()).resize(size, Image.Resampling.LANCZOS)
        middle = MARGIN + room / 2 + number * (room + gap)
        sheet.image.paste(picture, (round(SCALE * middle - size[0] / 2), round(SCALE * y)))
        sheet.text(middle, y + size[1] / SCALE + 18, name, 17, SOFT, "mm")
    sheet.y = y + size[1] / SCALE + 26
