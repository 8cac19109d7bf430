"""Engine events -> ComfyUI's progress bar, its text under the node, and its cancel button."""

import logging
import time

import comfy.model_management as mm
from comfy.utils import ProgressBar
from comfy_execution.utils import get_executing_context
from server import PromptServer

from ....skrr_engine.events import Event, LevelDone, Notice, Phase, Progress, Step, Tick

__all__ = ["NodeProgress"]

# The bar counts thousandths of an evaluation; ComfyUI takes whole numbers.
GRAIN = 1000
TEXT_EVERY = 0.5


class NodeProgress:
    """Hand an instance to the engine as its `report`. Raises ComfyUI's interrupt exception within one sub-block
    call of a cancel (its class differs between releases: never catch it with `except Exception`). A context too: the
    line under the node stays there, so that at the end it must say no more than that the search has ended."""

    def __init__(self):
        self.bar = None
        self.done = self.total = 0.0
        self.best = self.now = self.notice = self.phase = ""
        self.spoken = 0.0

    def __enter__(self) -> "NodeProgress":
        return self

    def __exit__(self, kind, error, _) -> None:
        cancelled = isinstance(error, mm.InterruptProcessingException)
        self._say("Search done." if kind is None else "Search cancelled." if cancelled else "Search failed.")

    def __call__(self, event: Event) -> None:
        match event:
            case Tick():
                mm.throw_exception_if_processing_interrupted()
            case Phase(name=name, evaluations=evaluations):
                self.phase, self.done, self.total = name, 0.0, max(1, evaluations)
                self.bar = ProgressBar(round(self.total * GRAIN))
            case Step(evaluations=evaluations):
                # The Skip phase's total is an estimate from above; the bar must not overrun.
                self.done = min(self.done + evaluations, self.total)
                if self.bar is not None:
                    self.bar.update_absolute(round(self.done * GRAIN), round(self.total * GRAIN))
                self._speak(False)
            case Progress():
                self.now = event.describe()
                self._speak(False)
            case LevelDone(skipped=skipped, sparsity=sparsity, discrepancy=discrepancy, bytes_saved=saved):
                self.best = f"{skipped} skipped, {100 * sparsity:.2f} % smaller, discrepancy {discrepancy:.4g}"
                self.best += f", {_size(saved)} saved" if saved else ""
                self._speak(True)
            case Notice(text=text):
                logging.info("Skrr: %s", text)
                self.notice = text
                self._speak(True)

    def _speak(self, always: bool) -> None:
        """Text under the node, a few times a second at most."""
        now = time.monotonic()
        if always or now - self.spoken > TEXT_EVERY:
            self.spoken = now
            text = f"{self.phase}: {self.now or f'{self.done:.0f} of about {self.total:.0f} measurements'}."
            self._say(f"{text} {self.best} {self.notice}".strip())

    def _say(self, text: str) -> None:
        context = get_executing_context()
        if context is not None:
            PromptServer.instance.send_progress_text(text, context.node_id)


def _size(count: int) -> str:
    """Bytes in the largest unit of which there is at least one: "1.84 GB", "251.7 MB", "12.3 kB"."""
    if count >= 1e9:
        return f"{count / 1e9:.2f} GB"
    return f"{count / 1e6:.1f} MB" if count >= 1e6 else f"{count / 1e3:.1f} kB"
