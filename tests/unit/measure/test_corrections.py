"""A place with a correction: what it computes, that the sweep measures it as measuring alone does, and its digests."""

import random
from functools import partial

import pytest
import torch

from skrr_engine.digest import digest_json
from skrr_engine.errors import SkrrError
from skrr_engine.measure.execute import Call, Correction, advance, as_json, assign, encode, source_of
from skrr_engine.measure.sweep import Trie, measure_many
from skrr_engine.running.checkpoint import Checkpoint
from skrr_engine.running.run import Run
from skrr_engine.running.trial import Trial
from skrr_engine.search.exact import choose_exactly

WIDTH = 16


def bridge(seed, rank=2):
    """`h <- h + B(h)` of low rank; where a sub-block runs, it comes on top of what that adds."""
    generator = torch.Generator().manual_seed(seed)
    down, up = (torch.randn(*s, generator=generator, dtype=torch.float64) for s in ((WIDTH, rank), (rank, WIDTH)))

    def added(hidden, own):
        made = 0.1 * (hidden @ down @ up)
        return made if own is None else own + made

    return Correction(f"bridge-{seed}", added)


def refitted(seed):
    """A matrix behind what the sub-block adds; nothing to do where none runs."""
    noise = torch.randn(WIDTH, WIDTH, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    matrix = torch.eye(WIDTH, dtype=torch.float64) + 0.1 * noise
    return Correction(f"refit-{seed}", lambda hidden, own: torch.zeros_like(hidden) if own is None else own @ matrix)


def drawn(rng, count, corrections):
    """A random assignment: kept, skipped and re-used places, each with a correction or without."""
    found = []
    for place in range(count):
        source = rng.choice([place, place, None, *range(place % 2, count, 2)])
        correction = rng.choice([None, None, *corrections])
        found.append(source if correction is None else Call(source, correction))
    return tuple(found)


def families(rng, count, corrections, size):
    """Random assignments that share their beginnings with others, as those of a search do."""
    found = [drawn(rng, count, corrections)]
    while len(found) < size:
        cut = rng.randrange(count)
        found.append(rng.choice(found)[:cut] + drawn(rng, count, corrections)[cut:])
    return list(dict.fromkeys(found))


def close(objective, found):
    return all(
        value.to_json() == pytest.approx(objective.measure(places).to_json(), rel=1e-9, abs=1e-13)
        for places, value in found.items()
    )


@pytest.mark.parametrize("source", [2, None, 4], ids=["kept", "skipped", "re-used"])
def test_a_correction_answers_for_its_place(tiny, source):
    stack, correct = tiny.stack(), bridge(1)
    batch = tiny.rows().batches[0]
    hidden, context = stack.embed(batch)
    own = None if source is None else stack.run(source, hidden, context)
    before = hidden.clone()
    found = advance(stack, Call(source, correct), hidden, context)
    assert torch.equal(hidden, before)
    assert torch.equal(found, hidden + correct.added(hidden, own))
    assert not torch.allclose(found, advance(stack, source, hidden, context), rtol=1e-3)


def test_a_refitted_matrix_equals_a_model_with_that_matrix(tiny):
    """Behind the output matrix of the sub-block that is kept: as though that itself were another."""
    correct, changed = refitted(3), tiny.t5()
    matrix = correct.added(torch.eye(WIDTH), torch.eye(WIDTH, dtype=torch.float64))
    weight = changed.encoder.block[1].layer[1].DenseReluDense.wo.weight
    weight.data.copy_(matrix.T @ weight.data)
    stack, other = tiny.stack(), type(tiny.stack())(changed)
    for batch in tiny.rows().batches:
        ours = encode(stack, assign(8, [1], corrections={3: correct}), batch)["sequence"]
        torch.testing.assert_close(ours, encode(other, assign(8, [1]), batch)["sequence"], rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("tokens", [1, 1000])
def test_a_sweep_equals_measuring_alone(tiny, seed, tokens):
    rng = random.Random(seed)
    stack = tiny.clip_stack(layers=4, layer=2) if seed % 3 == 2 else tiny.stack(umt5=bool(seed % 2))
    objective = tiny.objective(stack, project=seed % 3 != 2)
    some = families(rng, 8, [bridge(1), bridge(2), refitted(3)], 24)
    kinds = {(e.source is None, e.source == n) for a in some for n, e in enumerate(a) if isinstance(e, Call)}
    assert kinds == {(True, False), (False, True), (False, False)}  # skipped, kept, re-used: corrected all of them
    trie = Trie(some, set(stack.taps.values()))
    objective.room = lambda: int(tokens * trie.widest * WIDTH * 4 * 1.25) + 1
    found = measure_many(objective, some)
    assert list(found) == some
    assert close(objective, found)


def test_two_corrections_of_one_source_stay_apart(tiny):
    objective = tiny.objective(tiny.stack())
    some = [assign(8, [3], corrections={3: c, 5: d}) for c in (bridge(1), bridge(2)) for d in (bridge(1), refitted(1))]
    some += [assign(8, [3]), assign(8, [3], corrections={3: bridge(1)})]
    found = measure_many(objective, some)
    assert close(objective, found)
    assert len({value.value for value in found.values()}) == len(some)


def test_equal_corrections_share_their_stream(tiny):
    """The work is that of the distinct prefixes; a bridge alone runs no sub-block."""
    objective = tiny.objective(tiny.stack())
    for portion in objective.portions:
        objective.dense(portion)
    some = [assign(8, [1, last], corrections={1: bridge(7)}) for last in (4, 5, 6)]
    before = objective.applications
    measure_many(objective, some)
    prefixes = {a[: n + 1] for a in some for n in range(8) if source_of(a[n]) is not None}
    assert objective.applications - before == len(prefixes) * objective.tokens
    before = objective.applications
    objective.measure(some[0])
    assert objective.applications - before == 6 * objective.tokens


def test_a_source_is_used_in_a_row_whatever_its_corrections(tiny):
    """So its weights travel once a chunk."""
    one, two, other = bridge(1), bridge(2), refitted(3)
    entries = [None, 2, Call(4, one), Call(None, two), Call(2, other), 4, Call(2, one), Call(None, one)]
    ((*steps,),) = Trie([(entry,) for entry in entries], {1}).steps
    assert steps[0][0] is None
    sources = [source_of(entry) for entry, _ in steps]
    assert sources == [None, None, None, 2, 2, 2, 4, 4]


def test_digests_of_plain_assignments_are_what_they_were():
    """Journals of searches that were begun before there were corrections stay readable."""
    plain = assign(6, [1, 4], {4: 2})
    assert digest_json(as_json(plain)) == digest_json(plain) == digest_json([0, None, 2, 3, 2, 5])


def test_digests_tell_corrections_apart():
    digests = {
        digest_json(as_json(assign(6, [1], corrections=c)))
        for c in ({}, {1: bridge(1)}, {1: bridge(2)}, {2: bridge(1)}, {1: bridge(1), 2: bridge(1)})
    }
    assert len(digests) == 5
    assert digest_json(as_json(assign(6, [1], corrections={1: bridge(1)}))) in digests


def test_a_choice_among_corrections_is_resumed_from_disk(tiny, tmp_path):
    """The choosers take assignments with corrections, and a journal knows them again."""
    objective = tiny.objective(tiny.stack())
    some = [assign(8, [i], corrections={i: c}) for i in (1, 3, 4) for c in (bridge(1), bridge(2))] + [assign(8, [3])]

    def chosen():
        run = Run(objective, Checkpoint(tmp_path / "run", "one"))
        return [t.assignment for t in choose_exactly(run, [Trial(objective, a) for a in some], 3)]

    first, before = chosen(), objective.applications
    assert first == sorted(some, key=lambda a: objective.measure(a).value)[:3]
    before = objective.applications
    assert chosen() == first and objective.applications == before


def test_what_runs_the_same_is_written_the_same():
    again = partial(Correction, "bridge-1", lambda hidden, own: hidden)
    assert Call(3, bridge(1)) == Call(3, again()) and hash(Call(3, bridge(1))) == hash(Call(3, again()))
    assert Call(3, bridge(1)) != 3 and assign(4, [1], corrections={}) == assign(4, [1]) == (0, None, 2, 3)
    assert str(Call(None, bridge(1))) == "nothing, corrected by bridge-1"
    with pytest.raises(SkrrError, match="no identity; expected a digest"):
        Correction("", lambda hidden, own: hidden)
