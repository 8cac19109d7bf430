"""Free parts in the report: a line a part, in sizes that people read."""

import pytest


def lines(pack, *parts):
    """The report's lines of `parts`: (kind, how many, bytes)."""
    free = pack("nodes.comfy_host.clip.free").FreePart
    made = (free("qwen3_8b", kind, ("p",) * count, (36, 27, False), size, "so it is") for kind, count, size in parts)
    return pack("nodes.comfy_host.report.free_words").free_lines(tuple(made))


def test_a_line_a_part_with_its_size_and_why(pack):
    head, *said = lines(pack, ("layers", 9, 3_473_408_000), ("layers", 1, 386e6), ("table", 1, 1_244_659_712))
    assert head == "Free, with no bit of any picture changed:"
    assert said == [
        "qwen3_8b: 9 layers, 3.47 GB, removed: so it is.",
        "qwen3_8b: 1 layer, 386.00 MB, removed: so it is.",
        "qwen3_8b: the embedding table, 1.24 GB, stays in RAM, off the card: so it is.",
    ]


@pytest.mark.parametrize("size, words", [(8192, "8.19 kB"), (64, "0.06 kB"), (1e6, "1.00 MB"), (1e9, "1.00 GB")])
def test_no_part_weighs_nothing(pack, size, words):
    assert lines(pack, ("norm", 1, size))[1] == f"qwen3_8b: the last norm, {words}, removed: so it is."


def test_nothing_free_is_no_line(pack):
    assert lines(pack) == []
