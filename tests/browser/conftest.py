"""A real ComfyUI server on CPU and a real browser, for the tests of what the pack shows on ComfyUI's page.

Needs $COMFYUI_PATH, Playwright for Python under that ComfyUI's Python, and a Chromium ($CHROMIUM, or on the path).
What lacks something is not collected. $SKRR_FRONT_END names the folder of another front end than ComfyUI's own.
Screenshots are kept in artefacts/, to be looked at.
"""

import importlib.util
import os
import sys
from pathlib import Path

import pytest

PACK = Path(__file__).resolve().parents[2]
# The engine is what the drawn values are held against. At the end: the pack's nodes/ stands in nobody's way.
sys.path.append(str(PACK))

if importlib.util.find_spec("playwright") and os.environ.get("COMFYUI_PATH"):
    from .comfy_page import ARGUMENTS, ComfyPage, chromium, settings
else:
    chromium = lambda: None  # noqa: E731
collect_ignore_glob = [] if os.environ.get("COMFYUI_PATH") else ["test_*.py"]
if chromium() is None:
    pages = "apply demo deprecated errors face free given help_page language one_node picture search undo workflows"
    collect_ignore_glob += [f"test_{name}.py" for name in pages.split()]


@pytest.fixture(scope="session")
def server():
    """One server for all tests; every test brings workflows of its own. It computes with one thread: without a graphics
    card the page is drawn by the processors, and threads that wait for one another would wait for the drawing too."""
    from ..comfy.server import Server, find_comfy_roots

    threads = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    other = os.environ.get("SKRR_FRONT_END")
    args = ("--front-end-root", other) if other else ()
    with Server(find_comfy_roots()[0], env=threads, args=args) as running:
        yield running


@pytest.fixture(scope="session")
def browser():
    """One Chromium."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as play:
        chrome = play.chromium.launch(executable_path=chromium(), args=ARGUMENTS)
        yield chrome
        chrome.close()


@pytest.fixture(scope="module", params=["canvas", "vue"])
def renderer(request):
    """ComfyUI's two renderers."""
    return request.param


@pytest.fixture(scope="session")
def opened():
    """(renderer, palette) -> the tab that its tests share: opening ComfyUI takes longer than most of them. One at a
    time: every open page is drawn again and again, without a graphics card by the processor that a search needs."""
    return {}


@pytest.fixture
def tabs(server, browser, renderer, opened):
    """tabs(palette="dark") -> a tab with ComfyUI open; `fresh`: in a browser that knows nothing; `beside` a tab: a
    second one of the same browser. At the end, no tab may hold a complaint of the pack."""
    used, guests = [], []

    def tab_for(palette: str = "dark", *, fresh: bool = False, beside: ComfyPage | None = None) -> ComfyPage:
        settings(server, renderer == "vue", palette)
        tab = None if fresh or beside else opened.get((renderer, palette))
        if tab is None:
            if not (fresh or beside):
                while opened:
                    opened.popitem()[1].page.context.close()
            context = beside.page.context if beside else browser.new_context(viewport={"width": 1366, "height": 768})
            tab = ComfyPage(context.new_page(), server, f"{renderer} {palette}").open()
            if fresh or beside:
                guests.append(tab)
            else:
                opened[renderer, palette] = tab
        tab.complaints.clear()
        used.append(tab)
        return tab

    yield tab_for
    for tab in guests:
        tab.page.close()
    assert [complaint for tab in used for complaint in tab.complaints] == []


@pytest.fixture(scope="session")
def workflow(server):
    """workflow(name) -> an empty graph that knows the server's nodes; `.json()` is the file."""
    from ..comfy.workflow_maker import Graph

    info = server.object_info()
    return lambda name: Graph(name, info, "0")
