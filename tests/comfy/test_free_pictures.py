"""Pictures through a real server, made with the whole text encoder and without its free parts: equal bit for bit."""

import tempfile
from pathlib import Path

import numpy
import pytest

from .graphs import language_graph, saved_pictures
from .server import Server, find_comfy_roots
from .tiny_language import write_umt5

FILE = "umt5_xxl.safetensors"
MADE = {"class_type": "SkrrApply", "inputs": {"clip": ["models", 1], "sparsity": 0.4}}
WHOLE = {"class_type": "CLIPLoader", "inputs": {"clip_name": FILE, "type": "wan"}}
NAMES = {"file1": FILE, "file2": "none", "file3": "none", "file4": "none", "type": "wan", "device": "default"}
READ = {"class_type": "SkrrCLIPLoader", "inputs": {**NAMES, "sparsity": 0.4}}
# Family -> where the whole CLIP comes from, what makes the smaller one, and what that says. What is free of Wan is its
# embedding table alone, which Skrr Apply keeps off a card; on a processor it is free for Skrr CLIP Loader.
FAMILIES = {
    "klein": (None, MADE, "9 layers, 558.72 kB, removed: this CLIP reads layers 9, 18 and 27 of 36"),
    "z_image": (None, MADE, "1 layer, 62.08 kB, removed: this CLIP reads layer 35 of 36"),
    "qwen_image": (None, MADE, "the part for pictures and sounds, 69.40 MB, removed"),
    "wan": (WHOLE, READ, "the embedding table, 16.41 MB, stays in its file"),
}


@pytest.fixture(scope="module")
def server():
    with tempfile.TemporaryDirectory(prefix="skrr-models-") as folder:
        encoders = Path(folder) / "text_encoders"
        encoders.mkdir()
        write_umt5(encoders / FILE)
        with Server(find_comfy_roots()[0], models=Path(folder)) as running:
            yield running


def in_one_graph(family):
    """Two samplers on one MODEL, with the whole CLIP and with the one without its free parts."""
    whole, free, _ = FAMILIES[family]
    graph = language_graph(family)
    if whole is not None:
        graph["whole"] = whole
        for name in ("text", "empty"):
            graph[name]["inputs"]["clip"] = ["whole", 0]
    once = ("text", "empty", "sampler", "decode", "save")
    for name in once:
        inputs = dict(graph[name]["inputs"])
        for key, value in inputs.items():
            if key == "clip":
                inputs[key] = ["free", 0]
            elif isinstance(value, list) and value[0] in once:
                inputs[key] = [f"{value[0]} again", value[1]]
        graph[f"{name} again"] = {"class_type": graph[name]["class_type"], "inputs": inputs}
    return graph | {"free": free, "report": {"class_type": "PreviewAny", "inputs": {"source": ["free", 1]}}}


@pytest.mark.parametrize("family", FAMILIES)
def test_the_picture_is_the_same(server, family):
    result = server.run(in_one_graph(family), timeout=600)
    whole, free = (saved_pictures(server, result, name) for name in ("save", "save again"))
    assert len(whole) == len(free) == (5 if family == "wan" else 1)
    assert all(picture.std() > 5 for picture in whole)
    assert all(numpy.array_equal(ours, theirs) for ours, theirs in zip(free, whole, strict=True))
    assert FAMILIES[family][2] in " ".join(result.outputs["report"]["text"])
