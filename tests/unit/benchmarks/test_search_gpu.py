"""The benchmark of a card runs at small size on the CPU and prints what it promises."""

import json
import sys

import pytest
import torch

from benchmarks import search_gpu


def test_small(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["search_gpu", "--small", "--device", "cpu", "--work-ratio", "20"])
    search_gpu.main()
    found = json.loads(capsys.readouterr().out)
    assert found["resident"]["resident_sub_blocks"] == 16 and found["resident"]["copied_bytes"] == 0
    assert 0 < found["budget"]["resident_sub_blocks"] < 16 and found["budget"]["copied_bytes"] > 0
    assert found["largest_difference"] == 0
    assert found["budget_time_ratio"] == found["budget"]["seconds"] / found["resident"]["seconds"]
    for run in (found["resident"], found["budget"]):
        assert run["share"] == pytest.approx(run["flops"] / found["matmul"]["flops"])
        assert run["notices"] == [] and run["float32"]["seconds"] > 0
        assert run["candidates"][0] == 16 < run["candidates"][1]
    assert "PROJECTED" in found["projection"]["what"]
    hours = found["projection"]["published_hours"] / 20 + found["projection"]["of_which_float32_hours"]
    assert found["projection"]["fast_hours"] == pytest.approx(hours)


def test_flops_are_those_of_the_distinct_prefixes():
    """By hand: 2 x width x (4 x 64) for an attention, 2 x width x (3 x 160) for a feed-forward."""
    stack = search_gpu.make_stack(search_gpu.SMALL, search_gpu.Card("cpu"))
    dense = tuple(range(16))
    attention, feed_forward = 2 * 64 * 4 * 64, 2 * 64 * 3 * 160
    assert search_gpu.flops(stack, [[dense]], 10) == 10 * 8 * (attention + feed_forward)
    without_last = (*dense[:15], None)
    assert search_gpu.flops(stack, [[dense, without_last]], 1) == 8 * (attention + feed_forward)
    without_first = (None, *dense[1:])
    assert search_gpu.flops(stack, [[dense, without_first]], 1) == 15 * attention + 16 * feed_forward


def test_the_largest_shapes_are_those_of_t5_xxl():
    """Counted without making them."""
    with torch.device("meta"):
        config = search_gpu.T5Config(**search_gpu.XXL, feed_forward_proj="gated-gelu")
        model = search_gpu.T5EncoderModel(config)
    assert sum(parameter.numel() for parameter in model.parameters()) == 4_762_310_656
