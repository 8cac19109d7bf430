"""The text under a searching node: what was saved, in a unit that fits the encoder."""

from contextlib import suppress
from types import SimpleNamespace

import pytest


@pytest.mark.parametrize(
    ("saved", "said"),
    [(1_840_000_000, "1.84 GB"), (1_000_000, "1.0 MB"), (251_658_240, "251.7 MB"), (12_345, "12.3 kB")],
)
def test_bytes_are_said_in_a_unit_that_fits(pack, saved, said):
    progress, events = pack("nodes.comfy_host.search.progress"), pack("skrr_engine.events")
    node = progress.NodeProgress()
    node(events.LevelDone(skipped=2, sparsity=0.1, discrepancy=0.5, bytes_saved=saved))
    assert node.best.endswith(f", {said} saved")


@pytest.mark.parametrize("ends, said", [(None, "done"), ("cancel", "cancelled"), (ValueError, "failed")])
def test_the_last_line_says_how_the_search_ended_and_no_older_discrepancy(pack, monkeypatch, ends, said):
    progress, events, lines = pack("nodes.comfy_host.search.progress"), pack("skrr_engine.events"), []
    server = SimpleNamespace(send_progress_text=lambda text, node: lines.append((text, node)))
    monkeypatch.setattr(progress.PromptServer, "instance", server, raising=False)
    monkeypatch.setattr(progress, "get_executing_context", lambda: SimpleNamespace(node_id="7"))
    error = progress.mm.InterruptProcessingException if ends == "cancel" else ends
    with suppress(error or ()), progress.NodeProgress() as node:
        node(events.LevelDone(skipped=2, sparsity=0.1, discrepancy=0.5, bytes_saved=1000))
        if error:
            raise error()
    assert "discrepancy 0.5" in lines[0][0]
    assert lines[-1] == (f"Search {said}.", "7")
