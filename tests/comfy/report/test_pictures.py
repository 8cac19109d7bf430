"""Pictures that have no measures get a sentence, never a figure and never a raw error."""

import pytest
import torch

GOOD = torch.full((1, 8, 8, 3), 0.5)
BROKEN = {
    "no numbers": torch.full((1, 8, 8, 3), float("nan")),
    "infinite": torch.full((1, 8, 8, 3), float("inf")),
    "is empty": torch.zeros(0, 8, 8, 3),
    "has the shape (8, 8)": torch.zeros(8, 8),
}


@pytest.mark.parametrize("side", ["dense", "pruned"])
@pytest.mark.parametrize("words", BROKEN)
def test_broken_pictures_are_told(pack, words, side):
    compare = pack("nodes.comfy_host.report.pictures").compare_pictures
    pair, reason = compare(**{"dense": GOOD, "pruned": GOOD, side: BROKEN[words]})
    assert pair is None and words in reason and f"The {side} picture" in reason


def test_two_empty_batches_are_told(pack):
    empty = torch.zeros(0, 8, 8, 3)
    pair, reason = pack("nodes.comfy_host.report.pictures").compare_pictures(empty, empty)
    assert pair is None and "is empty" in reason


@pytest.mark.parametrize("side", ["dense", "pruned"])
def test_grey_against_colour_is_told(pack, side):
    """Of the same size: the sentence must not speak of sizes. Equal kinds are compared, alpha is left out."""
    compare = pack("nodes.comfy_host.report.pictures").compare_pictures
    pair, reason = compare(**{"dense": GOOD, "pruned": GOOD, side: GOOD[..., :1]})
    told = "1 dense, 3 pruned" if side == "dense" else "3 dense, 1 pruned"
    assert pair is None and reason.startswith(f"The pictures differ in their colour channels ({told})")
    for same in (GOOD[..., :1], torch.cat((GOOD, GOOD[..., :1]), dim=-1)):
        assert compare(same, same)[0].same
    assert compare(GOOD, torch.cat((GOOD, GOOD[..., :1]), dim=-1))[0].same
