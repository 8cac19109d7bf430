"""ComfyUI's page in a headless Chromium, as a person uses it: open, drop a file, press Run, look at a node's panel."""

import base64
import json
import os
import shutil
import urllib.request
from pathlib import Path

from playwright.sync_api import Page, expect

__all__ = ["ARGUMENTS", "ComfyPage", "chromium", "settings"]

ARTEFACTS = Path(__file__).parent / "artefacts"
ARGUMENTS = (
    "--no-sandbox --disable-gpu --disable-background-networking --disable-component-update --disable-sync "
    "--no-first-run --hide-scrollbars"
).split()
SECONDS = 1000  # Playwright counts in thousandths
LOOK_EVERY = 200
# Everything is slow on a small machine that does other work too; ComfyUI's page, of thousands of modules, most of all.
PATIENCE, OPENING = 60 * SECONDS, 180 * SECONDS
expect.set_options(timeout=PATIENCE)
# ComfyUI covers the page while it starts, and takes the cover away when its fading out has ended. In a headless
# browser that end is sometimes never told (two covers in one frame), and an unseen cover swallows every click.
NO_COVER = """
const sheet = new CSSStyleSheet()
sheet.replaceSync(".p-overlay-mask-leave { display: none !important }")
document.adoptedStyleSheets.push(sheet)
"""
# A warning of the front end is printed from a file of its own: who caused it is in the stack.
DEPRECATED = """
Error.stackTraceLimit = 60
for (const kind of ["log", "info", "warn", "debug"]) {
  const say = console[kind]
  console[kind] = (...given) => {
    say.apply(console, given)
    const stack = new Error().stack
    if (/deprecated/i.test(given.join(" ")) && /skrr-for-comfyui/.test(stack)) console.error(given.join(" "), stack)
  }
}
"""
READY = "window.app?.extensionManager && window.app.rootGraph?.nodes && !document.querySelector('#splash-loader')"


def chromium() -> str | None:
    """The browser: $CHROMIUM, or one on the path."""
    names = ("chromium", "chromium-browser", "google-chrome")
    return os.environ.get("CHROMIUM") or next((found for found in map(shutil.which, names) if found), None)


def settings(server, vue: bool, palette: str) -> None:
    """Chooses renderer and palette as the settings dialog would, before a page is opened."""
    chosen = {"Comfy.VueNodes.Enabled": vue, "Comfy.ColorPalette": palette, "Comfy.TutorialCompleted": True}
    chosen["LiteGraph.Canvas.MaximumFps"] = 10  # drawn without a GPU: the search needs the processor too
    request = urllib.request.Request(f"http://127.0.0.1:{server.port}/settings", json.dumps(chosen).encode())
    urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request).read()


class ComfyPage:
    """One tab. `complaints` collects what the pack made the browser complain about."""

    def __init__(self, page: Page, server, tag: str):
        self.page, self.server, self.tag = page, server, tag
        self.complaints: list[str] = []
        page.set_default_timeout(PATIENCE)
        page.set_default_navigation_timeout(OPENING)
        page.add_init_script(NO_COVER)
        page.add_init_script(DEPRECATED)
        page.on("console", self._listen)
        page.on("pageerror", lambda error: self.complaints.append(f"uncaught: {error.stack}"))

    def _listen(self, message) -> None:
        said = f"{message.text} {message.location.get('url', '')}"
        # The server's files and routes of the pack have its name in their address. ComfyUI's registry, which its page
        # asks about packs of missing things, is not reached from here.
        if message.type in ("error", "warning") and "skrr" in said.lower() and "api.comfy.org" not in said:
            self.complaints.append(f"{message.type}: {said}")

    def open(self) -> "ComfyPage":
        """Loads the page, again if it was open."""
        self.page.goto(f"http://127.0.0.1:{self.server.port}/")
        self.page.wait_for_function(READY, timeout=OPENING)
        return self

    def reload(self) -> None:
        """Presses reload."""
        self.page.reload()
        self.page.wait_for_function(READY, timeout=OPENING)

    def drop(self, workflow: str, name: str = "dropped.json") -> None:
        """Drops a workflow file on the canvas."""
        self.drop_file(workflow.encode(), name, "application/json")
        self.page.wait_for_function(f"window.app.rootGraph.id === {json.dumps(json.loads(workflow)['id'])}")

    def drop_file(self, content: bytes, name: str, kind: str) -> None:
        """Drops any file on the canvas."""
        self.page.evaluate(
            """([content, name, type]) => {
              const bytes = Uint8Array.from(atob(content), (letter) => letter.charCodeAt(0))
              const data = new DataTransfer()
              data.items.add(new File([bytes], name, { type }))
              const how = { bubbles: true, cancelable: true, dataTransfer: data, clientX: 600, clientY: 500 }
              const canvas = document.querySelector("#graph-canvas")
              canvas.dispatchEvent(new DragEvent("dragover", how))
              canvas.dispatchEvent(new DragEvent("drop", how))
            }""",
            [base64.b64encode(content).decode(), name, kind],
        )

    def look_at(self, kind: str, scale: float = 1.0) -> None:
        """Brings the first node of a kind to the top left, below the menus; after a reload it takes a while to come."""
        self.page.wait_for_function("kind => app.rootGraph.nodes.some((each) => each.type === kind)", arg=kind)
        self.page.evaluate(
            """([kind, scale]) => {
              const node = app.rootGraph.nodes.find((each) => each.type === kind)
              app.canvas.ds.scale = scale
              app.canvas.ds.offset = [110 / scale - node.pos[0], 95 / scale - node.pos[1]]
              app.canvas.setDirty(true, true)
            }""",
            [kind, scale],
        )
        expect(self.panel(kind)).to_be_visible()

    def panel(self, kind: str):
        """The panel of the first node of a kind."""
        return self.page.locator(f".skrr-panel[data-node={kind}]").first

    def unfold(self, kind: str) -> None:
        """Opens what is under the panel's fold: the layer map and its figures."""
        fold = self.panel(kind).locator(".fold > summary")
        if fold.evaluate("summary => !summary.parentElement.open"):
            fold.click()
        expect(self.panel(kind).locator(".legend").first).to_be_visible()

    def part(self, kind: str, name: str):
        """A named part of its text."""
        return self.panel(kind).locator(f"[data-part={name}]")

    def states(self, kind: str) -> dict[int, str]:
        """Sub-block -> how the map shows it."""
        read = "cells => cells.map((cell) => [Number(cell.dataset.index), cell.dataset.state])"
        return dict(map(tuple, self.panel(kind).locator(".cell").evaluate_all(read)))

    def arcs(self, kind: str) -> set[tuple[int, int]]:
        """(place, source) of the arcs."""
        read = "arcs => arcs.map((arc) => [Number(arc.dataset.place), Number(arc.dataset.source)])"
        return set(map(tuple, self.panel(kind).locator(".arc").evaluate_all(read)))

    def points(self, kind: str) -> list[float]:
        """The discrepancies of the chart's points, in order."""
        read = "points => points.map((point) => Number(point.dataset.discrepancy))"
        return self.panel(kind).locator(".best").evaluate_all(read)

    def widget(self, kind: str, name: str):
        """A widget's value."""
        return self.page.evaluate(
            """([kind, name]) => {
              const node = app.rootGraph.nodes.find((each) => each.type === kind)
              return node.widgets.find((widget) => widget.name === name).value
            }""",
            [kind, name],
        )

    def set_widget(self, kind: str, name: str, value) -> None:
        """Sets a widget as the renderers do: its value, then its callback."""
        self.page.evaluate(
            """([kind, name, value]) => {
              const widget = app.rootGraph.nodes.find((n) => n.type === kind).widgets.find((w) => w.name === name)
              widget.value = value
              widget.callback?.(value)
            }""",
            [kind, name, value],
        )

    def run(self) -> None:
        """Presses Run."""
        self.page.get_by_test_id("queue-button").click()

    def cancel(self) -> None:
        """Presses ComfyUI's own cancel button: the one beside Run, or, as that one is dead after a reload until the
        next run begins, the one that appears below when its progress is pointed at."""
        beside = self.page.get_by_role("button", name="Cancel current run").first
        if beside.is_disabled():
            self.page.get_by_text("Current node:").first.hover()
            beside = self.page.get_by_role("button", name="Interrupt all running jobs").first
        beside.click()

    def picture(self, name: str) -> None:
        """Keeps a screenshot among the artefacts."""
        ARTEFACTS.mkdir(exist_ok=True)
        self.page.screenshot(path=ARTEFACTS / f"{name} {self.tag}.png")

    def ask(self, path: str, body=None):
        """What a route of the server answers; with a `body`, to a POST."""
        request = urllib.request.Request(f"http://127.0.0.1:{self.server.port}{path}")
        if body is not None:
            request.data = json.dumps(body).encode()
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(request, timeout=60) as answer:
            return json.loads(answer.read() or "null")

    def runs(self) -> list[dict]:
        """What the server knows of the searches of the workflow on the canvas: all but the levels."""
        return self.ask(f"/skrr/runs?workflow={self.page.evaluate('app.rootGraph.id')}")

    def search(self) -> dict:
        """Presses Run and waits until a search has begun."""
        before = len(self.runs())
        self.run()
        for _ in range(PATIENCE // LOOK_EVERY):
            runs = self.runs()
            if len(runs) > before:
                return runs[-1]
            self.page.wait_for_timeout(LOOK_EVERY)
        raise AssertionError("no search began")
