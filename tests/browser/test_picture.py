"""A picture made behind a pinned plan carries the plan: dropped on another page, it is made again without a search."""

import uuid

import numpy
from PIL import Image
from playwright.sync_api import expect

from ..comfy.tiny_models import image_side


def painting(workflow):
    """A file that searches a tiny encoder for a moment, and paints a picture with the smaller one."""
    graph = workflow(f"picture {uuid.uuid4()}")
    models = graph.node("SkrrTestModels", (0, 0), family="pixart", seed=21)
    links = {"clip": models[1], "model": models[0]}
    prompts = graph.node("SkrrCalibrate", (0, 200), **links, limit=2)
    settings = {"calibration": prompts[0], "beam": 1, "sparsity": 0.01, "name": "carried"}
    found = graph.node("SkrrSearch", (360, 0), 400, **links, **settings)
    smaller = graph.node("SkrrApply", (800, 0), 400, clip=models[1], plan=found[0], sparsity=0.01)
    text, empty = (
        graph.node("CLIPTextEncode", (1240, y), clip=smaller[0], text=each) for y, each in ((0, "a"), (200, ""))
    )
    side = image_side("pixart")
    latent = graph.node("EmptyLatentImage", (1240, 400), width=side, height=side)
    sampler = graph.node(
        "KSampler", (1600, 0), model=models[0], positive=text[0], negative=empty[0], latent_image=latent[0], steps=1,
    )  # fmt: skip
    decoded = graph.node("VAEDecode", (1600, 400), samples=sampler[0], vae=models[2])
    graph.node("SaveImage", (1960, 0), images=decoded[0], filename_prefix="carried ")
    return graph.json()


def picture_of(tab):
    """Presses Run and waits for a new picture; its path."""
    folder = tab.server.base / "output"
    known = set(folder.glob("carried *.png"))
    tab.run()
    for _ in range(600):
        new = set(folder.glob("carried *.png")) - known
        queue = tab.ask("/queue")
        if new and not queue["queue_running"] and not queue["queue_pending"]:
            (path,) = new
            return path
        tab.page.wait_for_timeout(200)
    raise AssertionError("no picture came")


def pixels(path):
    with Image.open(path) as picture:
        return numpy.asarray(picture)


def test_a_picture_carries_the_pinned_plan(tabs, workflow):
    tab = tabs()
    tab.drop(painting(workflow))
    tab.look_at("SkrrSearch", 0.8)
    searched = picture_of(tab)
    expect(tab.part("SkrrSearch", "state")).to_have_text("Search done")
    tab.panel("SkrrSearch").get_by_role("button", name="Pin plan into workflow").click()
    expect(tab.panel("SkrrSearch").get_by_role("button", name="Unpin")).to_be_visible()
    text, searches = tab.widget("SkrrSearch", "pinned"), tab.runs()
    pinned = picture_of(tab)
    assert (pixels(pinned) == pixels(searched)).all()

    tab.ask("/free", {"free_memory": True, "unload_models": True})  # nothing may come out of the server's cache
    fresh = tabs(fresh=True)
    fresh.drop_file(pinned.read_bytes(), "from a friend.png", "image/png")
    fresh.look_at("SkrrSearch", 0.8)
    expect(fresh.panel("SkrrSearch").get_by_role("button", name="Unpin")).to_be_visible()
    assert fresh.widget("SkrrSearch", "pinned") == text
    again = picture_of(fresh)
    assert (pixels(again) == pixels(searched)).all()
    assert fresh.runs() == searches, "the picture's workflow searched"
    fresh.picture("carried by a picture")
