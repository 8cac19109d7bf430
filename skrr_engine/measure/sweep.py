"""Many assignments in one pass over the weights.

The assignments form a trie over their places: whatever two of them share from the start is one stream. A sweep
goes place by place and brings every live stream of every prompt in the chunk through a sub-block before the next
one is touched, many streams stacked in one call. So a sub-block's weights are needed once a chunk: what is not on the
device travels there while the one before it computes (`feeding`), in the order told here. A chunk is as many rows as
the room for streams holds; memory that runs out all the same halves the chunk, and the sweep goes on.

Stacking changes the shape of the matrix products, so results equal `Objective.measure` up to rounding (1e-15 of `D`
in float64, 1e-6 in float32), not bit for bit.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence

import torch

from ..encoders.stack import Outputs
from ..errors import SkrrError
from ..events import Notice, Step
from .discrepancy import Discrepancy
from .execute import Assignment, Entry, advance, source_of
from .objective import Objective, Tally, Terms
from .portions import Portion

__all__ = ["measure_many", "sweep"]

# A stacked stream that is skipped by one of its members stays alive a place longer than that member needs it.
SLACK = 1.25

Sink = Callable[[int, Portion, Terms], None]


def measure_many(objective: Objective, assignments: Iterable[Assignment]) -> dict[Assignment, Discrepancy]:
    """The discrepancy of every distinct assignment. Reports a Step for each assignment and chunk."""
    tallies = {assignment: Tally(objective) for assignment in assignments}
    rows = sum(portion.rows for portion in objective.portions)

    def sink(number: int, portion: Portion, terms: Terms) -> None:
        in_order[number].note(portion, terms)
        objective.report(Step(portion.rows / rows))

    in_order = list(tallies.values())
    sweep(objective, list(tallies), objective.portions, sink)
    return {assignment: tally.total() for assignment, tally in tallies.items()}


def sweep(objective: Objective, assignments: Sequence[Assignment], portions: Sequence[Portion], sink: Sink) -> None:
    """Runs every one of the distinct `assignments` over `portions` and hands the errors on: `sink(number of the
    assignment, portion or a part of one, Terms)`, each row of each assignment once."""
    if not assignments:
        return
    objective.prepare()
    trie = Trie(assignments, set(objective.stack.taps.values()))
    left = _parts(portions, min(_token_limit(objective, trie), objective.call_tokens))
    while left:
        chunk = _fill(left, _token_limit(objective, trie))
        try:
            found = _measured(objective, trie, chunk)
        except (RuntimeError, MemoryError) as error:
            if not _out_of_memory(error):
                raise
            found = None
        if found is not None:
            for number, portion, terms in found:
                sink(number, portion, terms)
            continue
        # Outside of `except`: there the failed call's tensors would still be held by its traceback.
        smaller = _halved(objective, chunk)
        if len(smaller) > 1 or smaller[0].rows < chunk[0].rows:
            left[:0] = smaller
        elif len(assignments) > 1:
            middle = len(assignments) // 2
            for start, part in ((0, assignments[:middle]), (middle, assignments[middle:])):
                sweep(objective, part, chunk, lambda n, portion, terms, start=start: sink(start + n, portion, terms))
        else:
            raise SkrrError(
                f"There is not enough memory for a single prompt of {chunk[0].batch.length} tokens. Close other "
                "programs, or search on a smaller encoder or with shorter prompts."
            )


def _measured(objective: Objective, trie: "Trie", chunk: Sequence[Portion]) -> list[tuple[int, Portion, Terms]]:
    """The errors of every assignment on every portion; their dense features come first, in a pass of their own."""
    missing = [part for part in map(objective.without_dense, chunk) if part is not None]
    if missing:
        dense = _Chunk(objective, Trie([objective.dense_assignment], set(objective.stack.taps.values())), missing)
        for portion, _, outputs in dense.run():
            objective.keep_dense(portion, outputs)
    found = []
    for portion, some, outputs in _Chunk(objective, trie, chunk).run():
        terms = objective.terms(portion, outputs, len(some))
        for number, a in enumerate(some):
            part = slice(number * portion.rows, (number + 1) * portion.rows)
            norms = terms.norms and tuple(norm[part] for norm in terms.norms)
            found.append((a, portion, Terms(terms.squared[part], terms.cosine[part], norms)))
    return found


class Trie:
    """The distinct prefixes of some assignments. `node[t][a]` is the prefix of assignment `a` before place `t`;
    `steps[t]` lists (entry, [(node before, node behind)]) of place `t`, skips first, all entries of a source in a row:
    two corrections of one source are two entries."""

    def __init__(self, assignments: Sequence[Assignment], taps: set[int]):
        self.assignments = assignments
        self.node, self.steps = [[0] * len(assignments)], []
        for place in range(len(assignments[0])):
            branches = [(node, a[place]) for node, a in zip(self.node[-1], assignments, strict=True)]
            child = {branch: n for n, branch in enumerate(dict.fromkeys(branches))}
            by_entry: dict[Entry, list[tuple[int, int]]] = {}
            for (node, entry), n in child.items():
                by_entry.setdefault(entry, []).append((node, n))
            self.node.append([child[branch] for branch in branches])
            first = {source: n for n, source in enumerate(dict.fromkeys(map(source_of, by_entry)))}
            self.steps.append(sorted(by_entry.items(), key=lambda item: _turn(item[0], first)))
        # Streams alive at once: those of the widest place, and the states that are read later.
        inner = (len(set(self.node[tap])) for tap in taps if tap < len(self.steps))
        self.widest = max(len(set(nodes)) for nodes in self.node) + sum(inner)

    def entries(self) -> Iterable[Entry]:
        """What runs in one pass, in order."""
        return (entry for steps in self.steps for entry, _ in steps)


def _turn(entry: Entry, first: dict[int | None, int]) -> tuple:
    """Sorts the entries of a place: skips, which only pass a stream on, then those that compute, source by source."""
    return entry is not None, source_of(entry) is not None, first[source_of(entry)]


class _Chunk:
    """One pass over the weights: all assignments of a trie over some portions, once."""

    def __init__(self, objective: Objective, trie: Trie, portions: Sequence[Portion]):
        self.objective, self.stack, self.trie, self.portions = objective, objective.stack, trie, portions
        self.contexts: dict[tuple[int, int], object] = {}
        self.streams: list[dict[int, torch.Tensor]] = []
        self.states: list[dict[str, dict[int, torch.Tensor]]] = [{} for _ in portions]

    def run(self) -> Iterable[tuple[Portion, list[int], Outputs]]:
        """(portion, some assignments, the outputs for that portion of all of them, stacked), one group after the
        other."""
        for at, portion in enumerate(self.portions):
            hidden, self.contexts[at, 1] = self.stack.embed(portion.batch)
            self.streams.append({0: hidden})
        if self.stack.feeder is not None:
            self.stack.feeder.expect(n for n in map(source_of, self.trie.entries()) if n is not None)
        for place, steps in enumerate(self.trie.steps):
            self._tap(place)
            self._place(steps)
        self._tap(len(self.trie.steps))
        return (found for at in range(len(self.portions)) for found in self._finish(at))

    def _tap(self, place: int) -> None:
        for name, tap in self.stack.taps.items():
            if tap == place:
                for states, streams in zip(self.states, self.streams, strict=True):
                    states[name] = dict(streams)

    def _place(self, steps) -> None:
        """Brings all streams behind one place, sub-block by sub-block. A stream is let go when its last successor is
        there."""
        behind = [{} for _ in self.portions]
        waiting = [Counter(node for _, pairs in steps for node, _ in pairs) for _ in self.portions]
        for entry, pairs in steps:
            for at in range(len(self.portions)):
                for some in self._groups(self.portions[at], pairs):
                    behind[at].update(self._behind(at, entry, some))
                    for node, _ in some:
                        waiting[at][node] -= 1
                        if not waiting[at][node]:
                            del self.streams[at][node]
        self.streams = behind

    def _behind(self, at: int, entry: Entry, some: list[tuple[int, int]]) -> Iterable[tuple[int, torch.Tensor]]:
        """(node behind, its stream) for `some` of the streams of portion `at`, stacked."""
        portion, streams = self.portions[at], self.streams[at]
        if entry is None:
            return [(child, streams[node]) for node, child in some]
        stacked = torch.cat([streams[node] for node, _ in some])
        stacked = advance(self.stack, entry, stacked, self._context(at, len(some)), self.objective.report)
        if source_of(entry) is not None:
            self.objective.applications += portion.tokens * len(some)
        return zip((child for _, child in some), stacked.split(portion.rows), strict=True)

    def _groups(self, portion: Portion, items: list) -> Iterable[list]:
        """`items` in groups of a power of two that fit one call, so that few distinct shapes occur."""
        most = max(1, self.objective.call_tokens // self.objective.shrunk // portion.tokens)
        while items:
            size = 1 << (min(most, len(items)).bit_length() - 1)
            yield items[:size]
            items = items[size:]

    def _context(self, at: int, copies: int):
        """The context for `copies` stacked streams of a portion, from the encoder's own embed."""
        if (at, copies) not in self.contexts:
            self.contexts[at, copies] = self.stack.embed(self.portions[at].times(copies).batch)[1]
        return self.contexts[at, copies]

    def _finish(self, at: int) -> Iterable[tuple[Portion, list[int], Outputs]]:
        portion, states = self.portions[at], self.states[at]
        for some in self._groups(portion, list(range(len(self.trie.assignments)))):
            stacked = {
                name: torch.cat([streams[self.trie.node[self.stack.taps[name]][a]] for a in some])
                for name, streams in states.items()
            }
            yield portion, some, self.stack.finish(stacked, self._context(at, len(some)))


def _token_limit(objective: Objective, trie: Trie) -> int:
    """Tokens of a chunk: what the room holds of the streams that are alive at once."""
    stack = objective.stack
    # float64 encoders are small ones of the tests.
    stream = stack.architecture.width * 4 * SLACK
    return max(1, int(objective.room() / objective.shrunk / (trie.widest * stream)))


def _parts(portions: Sequence[Portion], limit: int) -> list[Portion]:
    """Portions cut so that each has at most `limit` tokens, or one row."""
    found = []
    for portion in portions:
        size = max(1, limit // portion.batch.length)
        starts = range(0, portion.rows, size)
        parts = [portion.take(range(start, min(start + size, portion.rows))) for start in starts]
        found += parts if len(parts) > 1 else [portion]
    return found


def _fill(left: list[Portion], limit: int) -> list[Portion]:
    """Takes a chunk's portions from the head of `left`: one at least."""
    chunk = [left.pop(0)]
    while left and sum(portion.tokens for portion in chunk) + left[0].tokens <= limit:
        chunk.append(left.pop(0))
    return chunk


def _halved(objective: Objective, chunk: list[Portion]) -> list[Portion]:
    """The rows of a chunk that did not fit, in smaller portions; later chunks are smaller from the start."""
    if objective.shrunk == 1:
        objective.report(
            Notice("Memory ran out: the search goes on with fewer prompts at a time, which takes a little longer.")
        )
    objective.shrunk *= 2
    return [half for portion in chunk for half in portion.halves()]


def _out_of_memory(error: Exception) -> bool:
    """CUDA and ROCm have a class of their own; the CPU's and the Mac's allocators only say so."""
    if isinstance(error, torch.cuda.OutOfMemoryError | MemoryError):
        return True
    text = str(error).lower()
    return any(phrase in text for phrase in ("out of memory", "not enough memory", "can't allocate memory"))
