"""The sweep: equal to measuring alone, one pass over the weights, within its room, and when memory runs out."""

import pytest
import torch

from skrr_engine.errors import SkrrError
from skrr_engine.events import Notice, Tick
from skrr_engine.measure.execute import assign
from skrr_engine.measure.objective import Objective
from skrr_engine.measure.sweep import Trie, _Chunk, measure_many, sweep


def assignments(count):
    """The dense encoder, every single skip, two pairs, and re-use from both sides."""
    found = [assign(count, ()), *(assign(count, [i]) for i in range(count))]
    found += [assign(count, [1, 4]), assign(count, [1, 5]), assign(count, [2, 4], {2: 0, 4: 6})]
    return [*found, assign(count, [2, 4], {4: 0})]


def close(objective, found):
    return all(
        value.to_json() == pytest.approx(objective.measure(places).to_json(), rel=1e-9, abs=1e-13)
        for places, value in found.items()
    )


@pytest.mark.parametrize("tokens", [1, 12, 1000])
def test_equal_to_measuring_alone_for_any_size_of_a_chunk(tiny, tokens):
    """Room for one row at a time, for a few, for all."""
    stack = tiny.stack()
    objective = tiny.objective(stack)
    trie = Trie(assignments(8), {8})
    objective.room = lambda: int(tokens * trie.widest * stack.architecture.width * 4 * 1.25) + 1
    found = measure_many(objective, assignments(8))
    assert list(found) == assignments(8)
    assert close(objective, found)


def test_equal_to_measuring_alone_on_clip_and_umt5(tiny):
    """An inner tap and a pooled output; an attention that brings its own position table."""
    for objective in (tiny.objective(tiny.clip_stack(layers=4), project=False), tiny.objective(tiny.stack(umt5=True))):
        assert close(objective, measure_many(objective, assignments(8)))


def test_the_work_is_that_of_the_distinct_prefixes(tiny):
    objective = tiny.objective(tiny.stack())
    some = assignments(8)
    objective.prepare()
    for portion in objective.portions:
        objective.dense(portion)
    before = objective.applications
    measure_many(objective, some)
    prefixes = {places[: n + 1] for places in some for n in range(8) if places[n] is not None}
    assert objective.applications - before == len(prefixes) * objective.tokens


def test_a_sub_block_is_used_once_a_chunk(tiny):
    """All streams of all lengths pass through a sub-block before the next one is touched."""
    stack, used = tiny.stack(), []
    for block in stack.subblocks:
        spy = block.residual
        object.__setattr__(
            block, "residual", lambda h, c, spy=spy, index=block.index: (used.append(index), spy(h, c))[1]
        )
    objective = tiny.objective(stack)
    for portion in objective.portions:
        objective.dense(portion)
    used.clear()
    measure_many(objective, [assign(8, [i]) for i in range(8)])
    assert used == sorted(used) and set(used) == set(range(8))


def limited(stack, tokens, error):
    """The stack, raising `error` for calls of more than `tokens` tokens."""
    for block in stack.subblocks:

        def residual(hidden, context, inner=block.residual):
            if hidden.shape[0] * hidden.shape[1] > tokens:
                raise error
            return inner(hidden, context)

        object.__setattr__(block, "residual", residual)
    return stack


ERRORS = [
    torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
    RuntimeError("[enforce fail at alloc_cpu.cpp:118] DefaultCPUAllocator: can't allocate memory: you tried to ..."),
    RuntimeError("[enforce fail at alloc_cpu.cpp:114] data. DefaultCPUAllocator: not enough memory: you tried ..."),
    RuntimeError("MPS backend out of memory (MPS allocated: 8.00 GB)"),
    MemoryError(),
]


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: f"{type(error).__name__} {str(error)[:12]}")
def test_out_of_memory_halves_the_chunk_and_says_so_once(tiny, error):
    events = []
    plain = tiny.objective(tiny.stack())
    expected = measure_many(plain, assignments(8))
    for portion in (objective := tiny.objective(tiny.stack())).portions:
        objective.dense(portion)
    limited(objective.stack, 7, error)
    objective.report = events.append
    found = measure_many(objective, assignments(8))
    assert [e.text for e in events if isinstance(e, Notice)] == [
        "Memory ran out: the search goes on with fewer prompts at a time, which takes a little longer."
    ]
    assert objective.shrunk > 1
    for places, value in expected.items():
        assert found[places].to_json() == pytest.approx(value.to_json(), rel=1e-9, abs=1e-13)


def test_no_room_for_a_single_prompt_is_said(tiny):
    objective = tiny.objective(tiny.stack())
    for portion in objective.portions:
        objective.dense(portion)
    limited(objective.stack, 4, torch.cuda.OutOfMemoryError("CUDA out of memory"))
    with pytest.raises(SkrrError, match="not enough memory for a single prompt of 5 tokens"):
        measure_many(objective, assignments(8))


def test_other_errors_go_on(tiny):
    objective = tiny.objective(limited(tiny.stack(), 0, RuntimeError("shapes do not fit")))
    with pytest.raises(RuntimeError, match="shapes do not fit"):
        measure_many(objective, assignments(8))


def test_a_cancel_takes_effect_at_the_next_sub_block(tiny):
    class Stop(Exception):
        pass

    ticks = []

    def report(event):
        if isinstance(event, Tick):
            ticks.append(event)
            if len(ticks) == 20:
                raise Stop

    objective = tiny.objective(tiny.stack(), report=report)
    with pytest.raises(Stop):
        measure_many(objective, assignments(8))
    assert len(ticks) == 20


def test_after_memory_ran_out_calls_are_smaller(tiny):
    """As the chunk is halved, so are the tokens of one call."""
    stack, largest = tiny.stack(), []
    for block in stack.subblocks:

        def residual(hidden, context, inner=block.residual):
            largest.append(hidden.shape[0] * hidden.shape[1])
            return inner(hidden, context)

        object.__setattr__(block, "residual", residual)
    objective = tiny.objective(stack)
    objective.call_tokens = 40
    for shrunk, most in ((1, 40), (4, 10)):
        objective.shrunk = shrunk
        largest.clear()
        measure_many(objective, assignments(8))
        assert most / 2 < max(largest) <= most


def test_rows_that_do_not_fit_together_are_tried_alone_with_all_assignments(tiny):
    """Two portions of one row each: a row after the other shares all prefixes; fewer assignments would not."""
    objective = tiny.objective(tiny.stack())
    objective = Objective(objective.stack, tiny.rows(2), objective.projection)
    for portion in objective.portions:
        objective.dense(portion)
    fails = [MemoryError()]

    def fail_once(hidden, context, inner=objective.stack.subblocks[0].residual):
        if fails and hidden.shape[1] > 1:
            raise fails.pop()
        return inner(hidden, context)

    object.__setattr__(objective.stack.subblocks[0], "residual", fail_once)
    parts = [portion for portion in objective.portions if not portion.null]
    assert [portion.rows for portion in parts] == [1, 1]
    found = []
    before = objective.applications
    sweep(objective, assignments(8), parts, lambda n, portion, terms: found.append((portion.batch.row_ids, n)))
    count = len(assignments(8))
    assert found == [((row,), number) for row in (0, 1) for number in range(count)]
    prefixes = {places[: n + 1] for places in assignments(8) for n in range(8) if places[n] is not None}
    assert objective.applications - before == len(prefixes) * sum(portion.tokens for portion in parts)


def test_two_assignments_that_do_not_fit_together_are_measured_one_by_one(tiny):
    stack = tiny.stack()
    objective = Objective(stack, tiny.rows(1), tiny.objective(stack).projection)
    two = [assign(8, [0]), assign(8, [1])]
    expected = [objective.measure(places) for places in two]
    objective.room = lambda: 1
    for block in stack.subblocks:

        def residual(hidden, context, inner=block.residual):
            if len(hidden) > 1:
                raise MemoryError
            return inner(hidden, context)

        object.__setattr__(block, "residual", residual)
    found = measure_many(objective, two)
    assert [found[places].value for places in two] == [pytest.approx(value.value) for value in expected]


def test_no_call_has_more_tokens_than_one_may(tiny):
    """However much room there is: a portion of many rows is cut."""
    stack, calls = tiny.stack(), []
    for block in stack.subblocks:

        def residual(hidden, context, inner=block.residual):
            calls.append(hidden.shape[0] * hidden.shape[1])
            return inner(hidden, context)

        object.__setattr__(block, "residual", residual)
    objective = Objective(stack, tiny.rows(12), tiny.objective(stack).projection)
    objective.call_tokens = 14
    assert max(portion.tokens for portion in objective.portions) > 28
    measure_many(objective, [assign(8, [3])])
    assert 7 < max(calls) <= 14


def test_a_stream_is_let_go_when_all_that_follow_it_are_there(tiny, one_at_a_time, monkeypatch):
    """Else a place would hold its streams twice."""
    held, usual = [], _Chunk._behind

    def behind(self, at, entry, some):
        if entry is not None:
            held.append((entry, len(self.streams[at])))
        return usual(self, at, entry, some)

    objective = tiny.objective(tiny.stack())
    objective = Objective(objective.stack, tiny.rows(1), objective.projection, null_weight=0.0)
    objective.dense(objective.portions[0])
    monkeypatch.setattr(_Chunk, "_behind", behind)
    measure_many(objective, [assign(8, [i]) for i in range(4)])
    assert [count for entry, count in held if entry == 3] == [3, 2, 1]
    assert [count for entry, count in held if entry == 4] == [4, 3, 2, 1]
