"""Sub-blocks that travel: equal to those that stay, bit for bit, in two buffers, in order; and what a budget allows."""

from itertools import pairwise

import pytest
import torch

from skrr_engine.encoders.t5 import T5Stack
from skrr_engine.errors import SkrrError
from skrr_engine.measure.budget import LEAST_STREAMS, MOST_STREAMS, divide, feed
from skrr_engine.measure.copy_stream import Lane
from skrr_engine.measure.execute import assign
from skrr_engine.measure.feeding import Feeder, linears, stored_bytes
from skrr_engine.measure.sweep import measure_many

CPU = torch.device("cpu")
DEVICES = [CPU, *([torch.device("cuda")] if torch.cuda.is_available() else [])]


def assignments(count):
    """The dense encoder, single skips, and re-use from both sides: sources out of order."""
    found = [assign(count, ()), *(assign(count, [i]) for i in range(count))]
    return [*found, assign(count, [2, 4], {2: 0, 4: 0}), assign(count, [1, 3], {1: 5, 3: 5})]


def fed(stack, resident=(), narrow=None, device=CPU):
    stack.feeder = Feeder(stack.subblocks, device, resident, narrow)
    return stack


STACKS = {
    "t5": lambda tiny, dtype: tiny.stack(dtype=dtype),
    "plain t5": lambda tiny, dtype: tiny.stack(dtype=dtype, feed_forward_proj="relu"),
    "umt5": lambda tiny, dtype: tiny.stack(dtype=dtype, umt5=True),
    "clip": lambda tiny, dtype: tiny.clip_stack(layers=4, dtype=dtype),
}


@pytest.mark.parametrize("room", [1, 1 << 30], ids=["row by row", "one chunk"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("make", STACKS.values(), ids=STACKS.keys())
def test_travelling_equals_staying_bit_for_bit(tiny, make, dtype, room):
    def found(change):
        objective = tiny.objective(change(make(tiny, dtype)), project=False)
        objective.room = lambda: room
        return measure_many(objective, assignments(8))

    expected = found(lambda stack: stack)
    assert found(lambda stack: fed(stack, None)) == expected
    assert found(lambda stack: fed(stack, ())) == expected
    assert found(lambda stack: fed(stack, {0, 3, 4})) == expected


def test_measuring_alone_needs_no_order_told(tiny):
    expected = tiny.objective(tiny.stack())
    objective = tiny.objective(fed(tiny.stack(), {3}))
    for places in assignments(8):
        assert objective.measure(places) == expected.measure(places)


def test_a_sub_block_travels_once_a_chunk_and_those_that_stay_never(tiny):
    stack = fed(tiny.stack(), {0, 3, 4})
    objective = tiny.objective(stack)
    for portion in objective.portions:
        objective.dense(portion)
    stack.feeder.copied_bytes = 0
    measure_many(objective, assignments(8)[:9])
    away = [block for block in stack.subblocks if block.index not in {0, 3, 4}]
    own = [sum(layer.weight.nbytes for layer in linears(block)) for block in away]
    # In double precision 16 x 16 fits alignment; and one chunk holds everything.
    assert stack.feeder.copied_bytes == sum(own)
    assert [slot.memory.nbytes for slot in stack.feeder._slots] == 2 * [max(map(stored_bytes, away))]


def test_the_next_one_is_on_its_way_before_one_runs(tiny):
    """And never into the buffer of the one that runs."""
    log = []

    class Spy(Feeder):
        def fetch(self, index, target, slot):
            log.append(("copy", index))
            super().fetch(index, target, slot)

    stack = tiny.stack()
    stack.feeder = Spy(stack.subblocks, CPU, {4})
    for block in stack.subblocks:
        inner = block.residual
        object.__setattr__(
            block, "residual", lambda h, c, inner=inner, n=block.index: (log.append(("run", n)), inner(h, c))[1]
        )
    objective = tiny.objective(stack)
    measure_many(objective, [objective.dense_assignment])
    last = log[-1 - log[::-1].index(("copy", 0)) :]
    order = [entry for n, entry in enumerate(last) if n == 0 or entry != last[n - 1]]
    assert order == [
        ("copy", 0), ("copy", 1), ("run", 0), ("copy", 2), ("run", 1), ("copy", 3), ("run", 2), ("copy", 5),
        ("run", 3), ("run", 4), ("copy", 6), ("run", 5), ("copy", 7), ("run", 6), ("run", 7),
    ]  # fmt: skip


def test_an_order_that_begins_with_the_one_that_runs_is_kept(tiny):
    """The end of one pass and the begin of the next may be one sub-block: what follows travels all the same."""
    copied = []

    class Spy(Feeder):
        def fetch(self, index, target, slot):
            copied.append(index)
            super().fetch(index, target, slot)

    stack = tiny.stack()
    stack.feeder = Spy(stack.subblocks, CPU, ())
    hidden, context = stack.embed(tiny.rows().batches[0])
    stack.feeder.expect([3])
    stack.run(3, hidden, context)
    stack.feeder.expect([3, 5, 6])
    stack.run(3, hidden, context)
    assert copied == [3]
    stack.run(5, hidden, context)
    assert copied == [3, 5, 6]


def test_what_was_not_expected_is_fetched_and_the_order_forgotten(tiny):
    copied = []

    class Spy(Feeder):
        def fetch(self, index, target, slot):
            copied.append(index)
            super().fetch(index, target, slot)

    stack = tiny.stack()
    stack.feeder = Spy(stack.subblocks, CPU, ())
    hidden, context = stack.embed(tiny.rows().batches[0])
    stack.feeder.expect([1, 2, 3])
    for index, expected in ((5, [5]), (1, [5, 1]), (2, [5, 1, 2])):
        stack.run(index, hidden, context)
        assert copied == expected


def test_copies_and_calls_wait_for_each_other(tiny):
    """What a second stream needs: a copy begins after the last call that used its buffer, a call after its copy."""
    log = []

    class Marks(Lane):
        number = 0

        def mark(self, kind):
            self.number += 1
            log.append((kind, self.number))
            return self.number

        def copied(self):
            return self.mark("copied")

        def computed(self):
            return self.mark("computed")

        def copy_after(self, mark):
            log.append(("copy after", mark))

        def compute_after(self, mark):
            log.append(("compute after", mark))

        def host_after(self, mark):
            log.append(("host after", mark))

    stack = fed(tiny.stack())
    stack.feeder.lane = Marks(CPU)
    hidden, context = stack.embed(tiny.rows().batches[0])
    stack.feeder.expect(range(4))
    for n in range(4):
        stack.run(n, hidden, context)
    assert log == [
        ("computed", 1), ("computed", 2),  # the buffers are there
        ("copy after", 1), ("host after", None), ("copied", 3),  # 0 into the first
        ("compute after", 3),
        ("copy after", 2), ("host after", None), ("copied", 4),  # 1 into the second
        ("computed", 5),  # 0 has run
        ("compute after", 4),
        ("copy after", 5), ("host after", 3), ("copied", 6),  # 2 into the first
        ("computed", 7),
        ("compute after", 6),
        ("copy after", 7), ("host after", 4), ("copied", 8),
        ("computed", 9),
        ("compute after", 8),
    ]  # fmt: skip


def test_layers_are_as_they_were_whatever_happens(tiny):
    stack = fed(tiny.stack())
    layers = [layer for block in stack.subblocks for layer in linears(block)]
    own = layers[0].forward = lambda values: values @ layers[0].weight.T
    hidden, context = stack.embed(tiny.rows().batches[0])
    stack.run(0, hidden, context)
    with pytest.raises(RuntimeError):
        stack.run(0, hidden[..., :3], context)
    assert layers[0].__dict__["forward"] is own
    assert not any("forward" in layer.__dict__ for layer in layers[1:])


def test_a_sweep_that_broke_off_leaves_nothing_behind(tiny):
    class Stop(Exception):
        pass

    expected = measure_many(tiny.objective(tiny.stack()), assignments(8))
    objective = tiny.objective(fed(tiny.stack(), {1}))
    for calls in (1, 5, 30):
        left = [calls]

        def report(event, left=left):
            left[0] -= 1
            if left[0] == 0:
                raise Stop

        objective.report = report
        with pytest.raises(Stop):
            measure_many(objective, assignments(8))
    objective.report = lambda event: None
    assert measure_many(objective, assignments(8)) == expected


# --- what a search divides ---


def wide_stack(tiny):
    return T5Stack(tiny.t5(layers=6, dtype=torch.float32, d_model=64, d_ff=256, d_kv=8, num_heads=8))


def need(stack, **options):
    """(bytes of all matrices, buffers and a call)."""
    found = divide(1 << 40, stack, 512, 16)
    return sum(map(stored_bytes, stack.subblocks)), found.call + found.buffers


def test_all_stay_where_they_fit(tiny):
    stack = wide_stack(tiny)
    found = divide(1 << 40, stack, 512, 16)
    assert found.resident == set(range(12)) and found.streams == MOST_STREAMS
    weights, rest = need(stack)
    tight = divide(weights + rest + LEAST_STREAMS, stack, 512, 16)
    assert tight.resident == set(range(12)) and tight.streams == LEAST_STREAMS


def test_what_does_not_fit_travels_and_the_sum_is_within_the_budget(tiny):
    stack = wide_stack(tiny)
    weights, rest = need(stack)
    buffers = 2 * max(map(stored_bytes, stack.subblocks))
    least = rest + buffers + LEAST_STREAMS
    for total in range(least, weights + rest + LEAST_STREAMS, 50_000):
        found = divide(total, stack, 512, 16)
        stays = sum(stored_bytes(stack.subblocks[n]) for n in found.resident)
        assert len(found.resident) < 12 and found.streams >= LEAST_STREAMS
        assert stays + found.streams + found.call + found.buffers <= total
    assert found.resident
    with pytest.raises(SkrrError, match=r"There are 0\.\d GiB for the search on this device, and it needs 0\.3"):
        divide(least - 1, stack, 512, 16)


def test_those_that_stay_are_spread(tiny):
    """So that what travels has time to."""
    stack = wide_stack(tiny)
    weights, rest = need(stack)
    found = divide(rest + LEAST_STREAMS + weights * 3 // 4, stack, 512, 16)
    away = sorted(set(range(12)) - found.resident)
    assert 2 <= len(away) <= 8 and max(b - a for a, b in pairwise(away)) < 7


@pytest.mark.parametrize("device", DEVICES, ids=str)
def test_a_search_within_a_budget_measures_the_same(tiny, device):
    expected = measure_many(tiny.objective(wide_stack(tiny)), [assign(12, [3])])
    stack = wide_stack(tiny)
    weights, rest = need(stack)
    objective = tiny.objective(stack)
    if device.type == "cuda":
        for part in (stack.model.shared, stack.stack.final_layer_norm):
            part.to(device)
        for block in stack.subblocks:
            for module in block.modules:
                module.layer_norm.to(device)
        stack.stack.block[0].layer[0].SelfAttention.relative_attention_bias.to(device)
    found = feed(objective, device, rest + LEAST_STREAMS + weights * 3 // 4)
    assert objective.room() == found.streams
    for places, value in measure_many(objective, [assign(12, [3])]).items():
        assert value.value == pytest.approx(expected[places].value, rel=1e-4)
    assert stack.feeder.copied_bytes > 0
