"""The page's picture: bytes against score, every drawn encoder, the front as a line. SVG, written by hand."""

import math
from html import escape

from benchmarks.front.page import label
from benchmarks.front.points import Point, dense_of, front_of, over_draws, points
from benchmarks.tables.cells import Cells

__all__ = ["draw"]

WIDTH, HEIGHT = 860, 460
LEFT, RIGHT, TOP, BOTTOM = 62, 24, 64, 58
INK, GREY, PAPER, FRONT = "#333", "#777", "#fbfaf7", "#c2571a"
# Colour and shape: nobody has to tell colours apart.
KINDS = {"dense": ("#3d6fb4", "circle"), "plain": ("#8a8a8a", "cross"), "corrected": ("#3c8558", "square")}
NAMES = {"dense": "dense, in fewer bits", "plain": "pruned as published", "corrected": "pruned and corrected"}
SHARES = (1.0, 0.7, 0.5, 0.35, 0.25, 0.18, 0.13, 0.09, 0.06)


def draw(cells: Cells) -> str:
    """The whole file."""
    drawn = over_draws([point for point in points(cells) if point.score is not None])
    dense = dense_of(drawn)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" '
        'font-family="Helvetica, Arial, sans-serif" font-size="12">',
        f'<rect width="{WIDTH}" height="{HEIGHT}" rx="10" fill="{PAPER}"/>',
        f'<text x="{LEFT}" y="28" fill="{INK}" font-size="16" font-weight="bold">Bytes of the text encoder against the '
        "share of right pictures</text>",
    ]
    if dense is None:
        return "\n".join([*parts, f'<text x="{LEFT}" y="52" fill="{INK}">Not measured.</text>', "</svg>", ""])
    plane = _Plane(drawn, dense)
    parts += [*_legend(), *plane.axes(), plane.line(front_of(drawn))]
    parts += [plane.mark(point) for point in drawn]
    parts += plane.labels(front_of(drawn), drawn)
    return "\n".join([*parts, "</svg>", ""])


def _kind(point: Point) -> str:
    if point.case.target is None:
        return "dense"
    return "plain" if point.case.way == "plain" else "corrected"


def _legend() -> list[str]:
    parts, x = [], LEFT + 6
    for kind, name in NAMES.items():
        parts += [_shape(kind, x, 46), f'<text x="{x + 11}" y="50" fill="{INK}">{name}</text>']
        x += 40 + 6.4 * len(name)
    parts.append(f'<path d="M{x:.0f} 46h26" stroke="{FRONT}" stroke-width="2"/>')
    parts.append(f'<text x="{x + 33:.0f}" y="50" fill="{INK}">the front</text>')
    return parts


def _shape(kind: str, x: float, y: float) -> str:
    colour, shape = KINDS[kind]
    if shape == "circle":
        return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="5" fill="{colour}"/>'
    if shape == "square":
        return f'<rect x="{x - 4.5:.1f}" y="{y - 4.5:.1f}" width="9" height="9" fill="{colour}"/>'
    return f'<path d="M{x - 4:.1f} {y - 4:.1f}l8 8m0 -8l-8 8" stroke="{colour}" stroke-width="2.4"/>'


class _Plane:
    """Where a point stands: bytes by their logarithm, more to the right; the score upwards."""

    def __init__(self, drawn: list[Point], dense: Point):
        self.dense = dense
        least = min(point.bytes for point in drawn) / dense.bytes
        self.shares = [share for share in SHARES if share >= least * 0.8]
        self.low = min(self.shares[-1], least * 0.95)
        scores = [point.score for point in drawn]
        self.bottom, self.top = math.floor(20 * min(scores)) / 20 - 0.02, math.ceil(20 * max(scores)) / 20

    def x(self, share: float) -> float:
        part = math.log(share / self.low) / math.log(1.03 / self.low)
        return LEFT + part * (WIDTH - LEFT - RIGHT)

    def y(self, score: float) -> float:
        return HEIGHT - BOTTOM - (score - self.bottom) / (self.top - self.bottom) * (HEIGHT - TOP - BOTTOM)

    def at(self, point: Point) -> tuple[float, float]:
        return self.x(point.bytes / self.dense.bytes), self.y(point.score)

    def axes(self) -> list[str]:
        foot, parts = HEIGHT - BOTTOM, []
        for share in self.shares:
            x = self.x(share)
            parts.append(f'<path d="M{x:.1f} {TOP}V{foot}" stroke="#e4e1d8"/>')
            shown = f"{100 * share:g} %"
            parts.append(f'<text x="{x:.1f}" y="{foot + 18}" fill="{GREY}" text-anchor="middle">{shown}</text>')
        score = math.ceil(20 * self.bottom) / 20
        while score <= self.top + 1e-9:
            y = self.y(score)
            parts.append(f'<path d="M{LEFT} {y:.1f}H{WIDTH - RIGHT}" stroke="#e4e1d8"/>')
            parts.append(f'<text x="{LEFT - 8}" y="{y + 4:.1f}" fill="{GREY}" text-anchor="end">{score:.2f}</text>')
            score += 0.05
        middle = (LEFT + WIDTH - RIGHT) / 2
        parts.append(
            f'<text x="{middle:.0f}" y="{HEIGHT - 14}" fill="{INK}" text-anchor="middle">bytes, of dense fp16 '
            "(logarithmic); score on the left</text>"
        )
        return parts

    def line(self, front: list[Point]) -> str:
        path = " L".join(f"{x:.1f} {y:.1f}" for x, y in map(self.at, front))
        return f'<path d="M{path}" fill="none" stroke="{FRONT}" stroke-width="2"/>'

    def mark(self, point: Point) -> str:
        return f"<g><title>{escape(label(point.case, point.found))}: {point.score:.3f}</title>{self.shape(point)}</g>"

    def shape(self, point: Point) -> str:
        return _shape(_kind(point), *self.at(point))

    def labels(self, front: list[Point], drawn: list[Point]) -> list[str]:
        """Names where there is room, those of the front first; the others are in the marks' titles."""
        parts: list[str] = []
        taken = [(x - 6, y - 6, x + 6, y + 6) for x, y in map(self.at, drawn)]
        names = {point.case.name for point in front}
        for point in [*front, *(one for one in drawn if one.case.name not in names)]:
            text, (x, y) = label(point.case, point.found), self.at(point)
            size = 5.9 * len(text)
            beside = [(x + 8, y + 4, "start"), (x - 8 - size, y + 4, "end")]
            over = [(x - size / 2, y - 9, "middle"), (x - size / 2, y + 18, "middle")]
            over += [(x - 30, y - 9, "start"), (x + 6 - size, y - 9, "end")]
            # The line goes on beside a point of the front.
            for left, base, anchor in over + beside if point.case.name in names else beside + over:
                box = (left, base - 10, left + size, base + 3)
                if box[0] > LEFT and box[2] < WIDTH - 4 and not any(_meet(box, other) for other in taken):
                    taken.append(box)
                    at = {"start": left, "end": left + size, "middle": x}[anchor]
                    weight = ' font-weight="bold"' if point.case.name in names else ""
                    parts.append(
                        f'<text x="{at:.1f}" y="{base:.1f}" fill="{INK}" text-anchor="{anchor}"{weight} '
                        f'font-size="11">{escape(text)}</text>'
                    )
                    break
        return parts


def _meet(one: tuple, other: tuple) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]
