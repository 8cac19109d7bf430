"""Thumbnails of workflows: the graph in small, drawn from its file, under its name."""

import json
import re
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

__all__ = ["draw"]

WIDTH, HEIGHT, SCALE = 640, 400, 3
PAPER, INK, SOFT = "#1b1d23", "#f2f4f8", "#9aa4b5"
NODE, NODE_HEAD, OURS, OURS_HEAD, NOTE = "#353a45", "#4a5160", "#8a5a2b", "#c98233", "#2a2d35"
WIRES = {
    "CLIP": "#ffd500", "MODEL": "#b39ddb", "VAE": "#ff6e6e", "CONDITIONING": "#ffa931", "LATENT": "#ff9cf9",
    "IMAGE": "#64b5f6", "STRING": "#77ff77", "SKRR_PLAN": "#ff8c42", "SKRR_CALIBRATION": "#7fd1ae",
    "SKRR_PROJECTION": "#b39ddb",
}  # fmt: skip
TITLES = {
    "skrr_1_demo": ("Try it here", "no files needed: search, shrink, compare"),
    "skrr_2_free_flux2_klein": ("FLUX.2 klein", "same picture, less text encoder, no plan"),
    "skrr_2_free_z_image": ("Z-Image", "same picture, less text encoder, no plan"),
    "skrr_2_free_qwen_image": ("Qwen-Image", "same picture, less text encoder, no plan"),
    "skrr_2_free_wan": ("Wan 2.2", "same video, less text encoder on the card"),
    "skrr_2_free_ltx2": ("LTX-2", "same video, less text encoder, no plan"),
    "skrr_3_plan_flux1_dev": ("FLUX.1-dev", "published plan: T5-XXL 40 % smaller"),
    "skrr_3_plan_sd3": ("Stable Diffusion 3", "published plan: T5-XXL 40 % smaller"),
    "skrr_3_plan_pixart_sigma": ("PixArt-Sigma", "published plan: T5-XXL 42 % smaller"),
    "skrr_4_search": ("Search once", "a plan of your own, saved for later"),
    "skrr_4_compare": ("Dense against pruned", "same prompt, same seed, one report"),
    "skrr_4_load_less": ("Never load the rest", "read and save only what is kept"),
}


def draw(workflow: Path, picture: Path) -> None:
    """Writes the thumbnail of the file `workflow` as a JPEG of 640 x 400 pixels."""
    graph = json.loads(workflow.read_text(encoding="utf-8"))
    page = Image.new("RGB", (WIDTH * SCALE, HEIGHT * SCALE), PAPER)
    pen = ImageDraw.Draw(page)
    title, line = TITLES[workflow.stem]
    pen.text((28 * SCALE, 40 * SCALE), title, INK, ImageFont.load_default(34 * SCALE), "lm")
    pen.text((28 * SCALE, 78 * SCALE), line, SOFT, ImageFont.load_default(19 * SCALE), "lm")
    pen.text(((WIDTH - 28) * SCALE, 40 * SCALE), "Skrr", OURS_HEAD, ImageFont.load_default(24 * SCALE), "rm")
    _graph(pen, graph, (28, 108, WIDTH - 28, HEIGHT - 26))
    page.resize((WIDTH, HEIGHT), Image.Resampling.LANCZOS).save(picture, quality=90)


def _graph(pen, graph: dict, frame) -> None:
    nodes = {node["id"]: node for node in graph["nodes"] if node["type"] != "MarkdownNote"}
    left = min(node["pos"][0] for node in nodes.values())
    top = min(node["pos"][1] for node in nodes.values()) - 30
    right = max(node["pos"][0] + node["size"][0] for node in nodes.values())
    bottom = max(node["pos"][1] + node["size"][1] for node in nodes.values())
    # Stretched to the frame: a thumbnail shows the order of things, not their sizes.
    wide, high = (frame[2] - frame[0]) / (right - left), (frame[3] - frame[1]) / (bottom - top)

    def place(x: float, y: float) -> tuple[float, float]:
        return SCALE * (frame[0] + (x - left) * wide), SCALE * (frame[1] + (y - top) * high)

    for _, source, slot, target, entry, kind in graph["links"]:
        a, b = nodes[source], nodes[target]
        start = place(a["pos"][0] + a["size"][0], a["pos"][1] + 14 + 21 * slot)
        end = place(b["pos"][0], b["pos"][1] + 14 + 21 * min(entry, 6))
        _wire(pen, start, end, WIRES.get(kind, SOFT))
    for node in nodes.values():
        ours = node["type"].startswith("Skrr")
        x, y = node["pos"]
        box = [*place(x, y - 30), *place(x + node["size"][0], y + node["size"][1])]
        pen.rounded_rectangle(box, 4 * SCALE, OURS if ours else NODE)
        head = [box[0], box[1], box[2], min(box[3], box[1] + max(9 * SCALE, 30 * high * SCALE))]
        pen.rounded_rectangle(head, 4 * SCALE, OURS_HEAD if ours else NODE_HEAD)
        if ours:
            _name(pen, node["type"].removeprefix("Skrr"), box)


def _wire(pen, start, end, colour: str) -> None:
    """A curve that leaves and arrives level, as the page draws them."""
    reach = max(abs(end[0] - start[0]) / 2, 18 * SCALE)
    points = []
    for step in range(41):
        t = step / 40
        a, b, c, d = (1 - t) ** 3, 3 * (1 - t) ** 2 * t, 3 * (1 - t) * t**2, t**3
        x = a * start[0] + b * (start[0] + reach) + c * (end[0] - reach) + d * end[0]
        points.append((x, (a + b) * start[1] + (c + d) * end[1]))
    pen.line(points, colour, round(1.6 * SCALE), "curve")


def _name(pen, name: str, box) -> None:
    """A node's name in the middle of its box, as large as fits."""
    words = re.sub(r"(?<=[a-z])(?=[A-Z])", "\n", name).replace("CLIPLoader", "CLIP\nLoader")
    for size in (17, 15, 13, 11, 9):
        font = ImageFont.load_default(size * SCALE)
        left, top, right, bottom = pen.multiline_textbbox((0, 0), words, font, align="center")
        if right - left < box[2] - box[0] - 6 * SCALE and bottom - top < box[3] - box[1] - 14 * SCALE:
            place = ((box[0] + box[2]) / 2, (box[1] + box[3]) / 2 + 4 * SCALE)
            pen.multiline_text(place, words, INK, font, "mm", align="center")
            return
