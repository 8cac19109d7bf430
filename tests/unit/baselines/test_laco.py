"""LaCo's merges against transformers' own modules with blocks taken out, and its schedule against the notebook's."""

import copy
import hashlib
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file

from skrr_engine.baselines.laco import LacoRung, LacoSettings, collapse, merge_order, merged_stack, merged_state
from skrr_engine.baselines.ladder import make_plan, nearest
from skrr_engine.baselines.rebuilt import measure_rebuilt, state_of
from skrr_engine.encoders.clip import ClipStack
from skrr_engine.encoders.t5 import T5Stack
from skrr_engine.errors import SkrrError
from skrr_engine.events import Phase, Step
from skrr_engine.files.files import write_pruned
from skrr_engine.measure.calibration import Row, make_calibration
from skrr_engine.measure.execute import assign, encode
from skrr_engine.opening.open_encoder import open_encoder
from skrr_engine.plans.architecture import T5_XXL

ALL = LacoSettings(threshold=-2)
# Hosts and the library add in different orders.
CLOSE = dict(rtol=1e-9, atol=1e-9)


def blocks_of(model):
    return model.encoder.block if hasattr(model, "shared") else getattr(model, "text_model", model).encoder.layers


def with_merge(model, base):
    """The rule written out on the modules: copy block base + 1's matrices behind block base's norms, drop it."""
    model = copy.deepcopy(model)
    blocks = blocks_of(model)
    follower = dict(blocks[base + 1].named_modules())
    for name, module in blocks[base].named_modules():
        if isinstance(module, torch.nn.Linear):
            module.weight.data.copy_(follower[name].weight.data)
    del blocks[base + 1]
    return model


def library_output(model, batch):
    with torch.no_grad():
        return model(input_ids=batch.tokens).last_hidden_state


def slow_similarity(dense, merged, calibration):
    """The cosine of everything that one prompt makes, as one long vector; the mean over prompts."""
    cosines = []
    for batch in calibration.batches:
        for row in range(len(batch.row_ids)):
            read = batch.weights["sequence"][row] > 0
            a, b = (library_output(model, batch)[row][read].flatten() for model in (dense, merged))
            cosines.append((a @ b / (a.norm() * b.norm())).item())
    return sum(cosines) / len(cosines)


def slow_collapse(model, calibration, enough, threshold=0.7, lowest=1, interval=2):
    """The notebook's loop over real modules, one merge at a time; sweeps until `enough` blocks are gone. Returns
    the merged model and (place in the list as it is then, similarity, accepted) of every trial."""
    current, trials, goal = model, [], len(blocks_of(model)) - enough
    while len(blocks_of(current)) > goal:
        place, size = len(blocks_of(current)) - 2, len(blocks_of(current))
        while place >= lowest and len(blocks_of(current)) > goal:
            trial = with_merge(current, place)
            similarity = slow_similarity(model, trial, calibration)
            trials.append((place, similarity, similarity > threshold))
            if similarity > threshold:
                current, place = trial, place - interval
            else:
                place -= 1
        if len(blocks_of(current)) == size:
            break
    return current, trials


def places(trials):
    """Each trial's base as a place in the list of blocks that are left, as the notebook counts."""
    gone, found = set(), []
    for trial in trials:
        found.append(trial.base - sum(block < trial.base for block in gone))
        if trial.accepted:
            gone.add(trial.follower)
    return found


@pytest.mark.parametrize("base", range(3))
@pytest.mark.parametrize("make", ["t5", "umt5", "clip"])
def test_a_merge_is_the_followers_matrices_behind_the_bases_norms(tiny, make, base):
    """Block 0 too, whose table of positions must stay."""
    model = tiny.clip(layers=4) if make == "clip" else tiny.t5(umt5=make == "umt5")
    stack = (ClipStack if make == "clip" else T5Stack)(model)
    sources = tuple({base: base + 1, base + 1: base}.get(n, n) for n in range(4))
    rung = LacoRung((2 * base + 2, 2 * base + 3), 0.0, sources, 0.0)
    merged = merged_stack(stack, rung)
    expected = with_merge(model, base)
    for batch in tiny.rows(pooled=make == "clip").batches:
        found = encode(merged, assign(8, rung.order), batch)["sequence"]
        torch.testing.assert_close(found, library_output(expected, batch), **CLOSE)
        assert not torch.allclose(found, encode(stack, assign(8, rung.order), batch)["sequence"])


@pytest.mark.parametrize("threshold", [-2, 0.7, 0.9, 0.95, 0.99])
@pytest.mark.parametrize("make", ["t5", "clip"])
def test_the_whole_loop_equals_the_notebooks(tiny, make, threshold):
    """Trials, similarities, and the output of the merged encoder, over two sweeps and for merges that fail."""
    model = tiny.t5(layers=7, seed=5) if make == "t5" else tiny.clip(layers=7, seed=5)
    stack = (T5Stack if make == "t5" else ClipStack)(model)
    calibration = tiny.rows(pooled=make == "clip")
    enough = 5
    target = stack.architecture.sparsity(range(2 * enough))
    found = collapse(stack, calibration, target, LacoSettings(threshold=threshold))
    expected, trials = slow_collapse(model, calibration, enough, threshold)
    assert places(found.trials) == [place for place, _, _ in trials]
    assert [trial.accepted for trial in found.trials] == [accepted for _, _, accepted in trials]
    assert [trial.similarity for trial in found.trials] == pytest.approx([s for _, s, _ in trials], abs=1e-9)
    assert len(found.rungs) == 7 - len(blocks_of(expected))
    if found.rungs:
        merged, rung = merged_stack(stack, found.rungs[-1]), found.rungs[-1]
        for batch in calibration.batches:
            out = encode(merged, assign(14, rung.order), batch)["sequence"]
            torch.testing.assert_close(out, library_output(expected, batch), **CLOSE)


def test_thresholds_of_that_test_accept_all_some_and_nothing(tiny):
    stack, calibration = tiny.stack(layers=7, seed=5), tiny.rows()
    target = stack.architecture.sparsity(range(10))
    numbers = []
    for threshold in (-2, 0.9, 0.95, 0.99):
        found = collapse(stack, calibration, target, LacoSettings(threshold=threshold))
        numbers.append((len(found.rungs), len(found.trials) - len(found.rungs)))
    assert numbers[0] == (5, 0)
    assert any(accepted and refused for accepted, refused in numbers)
    assert numbers[-1][0] == 0
    assert stack.identity == tiny.stack(layers=7, seed=5).identity, "the encoder was changed"


def test_the_published_sequence():
    """All merges accepted on 24 blocks: 22 down to 12, to 8, to 4 for the three levels; 11 blocks a sweep."""
    found = merge_order(T5_XXL, LacoSettings(), lambda sources, skip: 1.0, 0.5)
    assert [t.base for t in found.trials[:11]] == [22, 20, 18, 16, 14, 12, 10, 8, 6, 4, 2]
    assert [t.follower for t in found.trials[:11]] == [23, 21, 19, 17, 15, 13, 11, 9, 7, 5, 3]
    assert [round(100 * found.rungs[n - 1].sparsity, 3) for n in (6, 8, 10)] == [24.309, 32.412, 40.515]
    assert found.rungs[5].order == (46, 47, 42, 43, 38, 39, 34, 35, 30, 31, 26, 27)
    # Then from the top of the 13 that are left: 0 1 2 4 6 … 22. Block 22 runs 23's matrices, so 20 runs those next.
    assert [(t.base, t.follower) for t in found.trials[11:]] == [(20, 22), (16, 18)]
    assert found.rungs[-1].sources[20] == 23
    assert found.rungs[-1].sparsity >= 0.5 > found.rungs[-2].sparsity


def test_a_refusal_moves_down_by_one_and_the_threshold_itself_refuses():
    scores = iter([0.7, 0.71, 0.5, 0.9])
    found = merge_order(T5_XXL, LacoSettings(), lambda sources, skip: next(scores), 0.08)
    assert [(t.base, t.accepted) for t in found.trials] == [(22, False), (21, True), (19, False), (18, True)]
    assert found.rungs[-1].order == (44, 45, 38, 39)
    assert [rung.similarity for rung in found.rungs] == [0.71, 0.9]


def test_nothing_accepted_ends_after_one_sweep():
    found = merge_order(T5_XXL, LacoSettings(), lambda sources, skip: 0.0, 0.25)
    assert [t.base for t in found.trials] == list(range(22, 0, -1))
    assert found.rungs == ()
    with pytest.raises(SkrrError, match="removed nothing"):
        nearest(found.rungs, 0.25)


@settings(deadline=None)
@given(
    st.integers(0, 2**32), st.floats(-1, 1), st.integers(0, 5), st.integers(1, 5), st.integers(2, 24),
    st.floats(0.01, 0.97),
)  # fmt: skip
def test_it_always_ends_with_a_sound_encoder(seed, threshold, lowest, interval, span, sparsity):
    """Whatever the similarities are: the lowest block and those below it stay, blocks go once, sources permute."""
    highest = min(24, lowest + span)
    options = LacoSettings(lowest, highest, interval, threshold)
    asked = []

    def similarity(sources, skip):
        asked.append(skip)
        digest = hashlib.sha256(f"{seed} {sorted(skip)}".encode()).digest()
        return int.from_bytes(digest[:4], "big") / 2**31 - 1

    found = merge_order(T5_XXL, options, similarity, sparsity)
    assert len(found.trials) == len(asked) <= 24 * 24
    gone = [t.follower for t in found.trials if t.accepted]
    assert len(set(gone)) == len(gone) == len(found.rungs)
    assert all(lowest < block < highest for block in gone)
    for n, rung in enumerate(found.rungs, 1):
        assert rung.order == tuple(i for block in gone[:n] for i in (2 * block, 2 * block + 1))
        assert sorted(rung.sources) == list(range(24))
        alive = [b for b in range(24) if b not in gone[:n]]
        runs = [rung.sources[b] for b in alive]
        assert runs == sorted(runs), "matrices run in their old order"
        # A base runs the matrices of the last block merged into it: the one in front of the next that is left.
        assert runs == [b - 1 for b in (*alive[1:], 24)]
    assert all(trial.accepted == (trial.similarity > threshold) for trial in found.trials)
    reached = [rung.sparsity >= sparsity for rung in found.rungs]
    assert not any(reached[:-1])
    if not any(reached):
        # It gave up after a whole sweep that accepted nothing.
        left = [b for b in range(lowest, highest) if b not in gone]
        last = found.trials[len(found.trials) - len(left) + 1 :]
        assert [t.base for t in last] == left[-2::-1]
        assert not any(t.accepted for t in last)


def test_padding_has_no_say(tiny):
    generator = torch.Generator().manual_seed(3)
    rows = []
    for number, count in enumerate((4, 2)):
        tokens = torch.randint(2, 38, (count,), generator=generator).tolist()
        weights = (1 / count,) * count + (0.0,) * (6 - count)
        rows.append(Row((*tokens, *([0] * (6 - count))), number, {"sequence": weights}))
    calibration = make_calibration(["a", "b"], rows, rows[:1])
    model = tiny.t5()
    (trial,) = collapse(T5Stack(model), calibration, 0.01, ALL).trials
    assert trial.similarity == pytest.approx(slow_similarity(model, with_merge(model, 2), calibration), abs=1e-12)


def test_a_prompt_of_several_rows_counts_once(tiny):
    """Two rows of one prompt with shares 0.75 and 0.25, beside a prompt of one row."""
    batch = tiny.rows(count=3, lengths=(5,)).batches[0]
    shares = (0.75, 0.25, 1.0)
    rows = [
        Row(tuple(tokens), prompt, {"sequence": (share / 5,) * 5})
        for tokens, prompt, share in zip(batch.tokens.tolist(), (0, 0, 1), shares, strict=True)
    ]
    model = tiny.t5()
    (trial,) = collapse(T5Stack(model), make_calibration(["a", "b"], rows, rows[:1]), 0.01, ALL).trials
    merged = with_merge(model, 2)
    single = [make_calibration(["a"], [replace(row, prompt=0)], rows[:1]) for row in rows]
    alone = [slow_similarity(model, merged, calibration) for calibration in single]
    expected = sum(share * one for share, one in zip(shares, alone, strict=True)) / 2
    assert trial.similarity == pytest.approx(expected, abs=1e-12)


def test_with_the_followers_norms_a_merge_is_a_skip(tiny):
    """Everything of block l + 1 in place of block l: the output of skipping block l, bit for bit."""
    for stack in (tiny.stack(), tiny.stack(umt5=True), tiny.clip_stack(layers=4)):
        calibration = tiny.rows(pooled=stack.architecture.family == "clip")
        found = collapse(stack, calibration, 0.01, LacoSettings(threshold=-2, norms="follower"))
        rung = found.rungs[-1]
        assert rung.order == (6, 7)
        merged = merged_stack(stack, rung, norms="follower")
        for batch in calibration.batches:
            skipped = encode(stack, assign(8, (4, 5)), batch)["sequence"]
            assert torch.equal(encode(merged, assign(8, rung.order), batch)["sequence"], skipped)


def test_the_merged_encoder_is_a_file_like_any_other(tiny, tmp_path):
    """Dense shape with the merged matrices inside, and without what is skipped: both open and run the same."""
    model = tiny.t5(layers=5, dtype=torch.float32)
    stack, calibration = T5Stack(model), tiny.rows()
    rungs = collapse(stack, calibration, 0.45, ALL).rungs
    state = {n: t for n, t in state_of(stack).items() if n != "encoder.embed_tokens.weight"}
    merged = merged_state(state, stack.architecture, rungs[-1].sources)
    assert sorted(t.data_ptr() for t in merged.values()) == sorted(t.data_ptr() for t in state.values())
    save_file(merged, tmp_path / "dense.safetensors")  # refuses tensors that share memory
    plan = make_plan(stack, "t5xxl", "laco", rungs[-1:])
    write_pruned(tmp_path / "dense.safetensors", tmp_path / "small.safetensors", plan)
    here = merged_stack(stack, rungs[-1])
    skip = assign(10, rungs[-1].order)
    dense, small = (open_encoder(tmp_path / f"{name}.safetensors") for name in ("dense", "small"))
    assert small.assignment == skip
    for batch in calibration.batches:
        wanted = encode(here, skip, batch)["sequence"]
        torch.testing.assert_close(encode(dense.stack, skip, batch)["sequence"], wanted)
        torch.testing.assert_close(encode(small.stack, skip, batch)["sequence"], wanted)


def test_its_discrepancy_is_taken_from_the_original(tiny):
    objective = tiny.objective(tiny.stack(layers=5))
    rung = collapse(objective.stack, objective.calibration, 0.3, ALL).rungs[-1]
    found = measure_rebuilt(objective, merged_stack(objective.stack, rung), assign(10, rung.order))
    assert 0 < found.value != objective.measure(assign(10, rung.order)).value


def test_a_clip_without_projection_goes_by_the_librarys_names(tiny):
    """transformers 5 leaves text_model out of these."""
    model = tiny.clip(layers=3)
    stack = ClipStack(model)
    state = {name.removeprefix("text_model."): tensor for name, tensor in state_of(stack).items()}
    merged = merged_state(state, stack.architecture, (0, 2, 1))
    name = "encoder.layers.{}.mlp.fc1.{}"
    assert merged[name.format(1, "weight")] is state[name.format(2, "weight")]
    assert merged[name.format(1, "bias")] is state[name.format(1, "bias")]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (dict(lowest=-1), "range is -1 to None with interval 2"),
        (dict(interval=0), "interval 0"),
        (dict(lowest=3, highest=4), "range is 3 to 4"),
        (dict(threshold=float("nan")), "threshold is nan"),
        (dict(norms="both"), "norms of 'both'"),
    ],
)
def test_bad_settings_get_a_sentence(options, message):
    with pytest.raises(SkrrError, match=message):
        LacoSettings(**options)


def test_bad_input_gets_a_sentence(tiny):
    stack, calibration = tiny.stack(), tiny.rows()
    with pytest.raises(SkrrError, match="highest block is 24, but the encoder has 4"):
        collapse(stack, calibration, 0.3, LacoSettings(highest=24))
    with pytest.raises(SkrrError, match="The sparsity is 0"):
        collapse(stack, calibration, 0)
    with pytest.raises(SkrrError, match="cannot be rebuilt"):
        collapse(_Foreign(stack), calibration, 0.3)
    with pytest.raises(SkrrError, match=r"sub-blocks are missing.*without a prefix"):
        merged_state({"x." + n: t for n, t in state_of(stack).items()}, stack.architecture, (0, 1, 2, 3))
    with pytest.raises(SkrrError, match="not finite after merging block 23 into 22"):
        merge_order(T5_XXL, LacoSettings(), lambda sources, skip: float("nan"), 0.3)


class _Foreign:
    """A stack of some other host."""

    def __init__(self, stack):
        self.architecture = stack.architecture


def test_it_reports_a_step_a_trial(tiny):
    events = []
    found = collapse(tiny.stack(), tiny.rows(), 0.3, report=events.append)
    assert sum(e.evaluations for e in events if isinstance(e, Step)) == len(found.trials)
    assert sum(isinstance(e, Phase) for e in events) == 1
