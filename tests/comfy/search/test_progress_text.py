"""The text under a searching node: what was saved, in a unit that fits the encoder."""

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
