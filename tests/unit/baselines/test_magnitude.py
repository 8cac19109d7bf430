"""Magnitude pruning against sorting everything in one list."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from skrr_engine.baselines.magnitude import DENOISER, TEXT_ENCODER, fraction_for, is_matrix, prune_magnitude
from skrr_engine.baselines.rebuilt import measure_rebuilt, rebuild, state_of
from skrr_engine.errors import SkrrError

KINDS = (torch.float32, torch.float16, torch.bfloat16, torch.float64, torch.float8_e4m3fn)


def slow_prune(state, fraction):
    """One list of (magnitude, name, position) of all matrices, sorted; the first ones become zero."""
    names = [name for name, tensor in state.items() if name.endswith(".weight") and tensor.dim() >= 2]
    entries = sorted(
        (abs(value), name, position)
        for name in names
        for position, value in enumerate(state[name].double().flatten().tolist())
    )
    result = {name: state[name].double().flatten().clone() for name in names}
    for _, name, position in entries[: round(fraction * len(entries))]:
        result[name][position] = 0
    return {name: values.view(state[name].shape) for name, values in result.items()}


@st.composite
def states(draw):
    """A few tensors of mixed formats, of few distinct values, so that ties at the threshold are the rule."""
    state = {}
    for n in range(draw(st.integers(1, 4))):
        kind = draw(st.sampled_from(KINDS))
        shape = (draw(st.integers(1, 4)), draw(st.integers(1, 5)))
        values = draw(st.lists(st.sampled_from([0, 1, -1, 0.5, -0.5, 2, -3, 0.0625]), min_size=20, max_size=20))
        name = draw(st.sampled_from(["b.{}.weight", "a.{}.weight", "c.{}.bias"])).format(n)
        state[name] = torch.tensor(values[: shape[0] * shape[1]]).view(shape).to(kind)
    state["first.weight"] = torch.tensor([[1.0, -2.0]])
    state["norm.weight"] = torch.tensor([0.001, 0.0])
    return state


@settings(deadline=None)
@given(states(), st.floats(0, 1))
def test_the_smallest_go_whatever_the_format(state, fraction):
    before = {name: tensor.double().clone() for name, tensor in state.items()}
    found = prune_magnitude(state, fraction)
    wanted = slow_prune(state, fraction)
    assert found.state.keys() == state.keys()
    for name, tensor in state.items():
        assert torch.equal(tensor.double(), before[name]), "the input was written into"
        if name in wanted:
            assert found.state[name].dtype == tensor.dtype
            assert torch.equal(found.state[name].double(), wanted[name])
        else:
            assert found.state[name] is tensor
    there = sum(int((before[name] == 0).sum()) for name in wanted)
    assert found.counted == sum(tensor.numel() for tensor in wanted.values())
    assert found.zeros == max(round(fraction * found.counted), there)
    assert found.zeros == sum(int((tensor == 0).sum()) for tensor in wanted.values())


@pytest.mark.parametrize("kind", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("fraction", [TEXT_ENCODER, DENOISER])
def test_one_threshold_for_all_tensors(kind, fraction):
    """Exactly the fraction of a larger model, and the layer with small weights loses more."""
    generator = torch.Generator().manual_seed(0)
    state = {
        f"layers.{n}.weight": (torch.randn(40, 50, generator=generator, dtype=torch.float64) * scale).to(kind)
        for n, scale in enumerate((1.0, 0.5, 3.0))
    }
    found = prune_magnitude(state, fraction)
    assert found.zeros == round(fraction * 6000)
    for name, tensor in found.state.items():
        gone = (tensor == 0) & (state[name] != 0)
        assert state[name][gone].abs().max() <= found.threshold
        assert tensor[tensor != 0].abs().min() >= found.threshold
    shares = [int((t == 0).sum()) for t in found.state.values()]
    assert shares[1] > 1000 > shares[0] > shares[2]


def test_ties_go_by_name_then_position():
    state = {"b.weight": torch.ones(2, 2), "a.weight": -torch.ones(2, 2)}
    found = prune_magnitude(state, 5 / 8).state
    assert found["a.weight"].tolist() == [[0, 0], [0, 0]]
    assert found["b.weight"].tolist() == [[0, 1], [1, 1]]


def test_neighbouring_floats_are_told_apart():
    """The last bit decides, in float32 and in float64."""
    for kind in (torch.float32, torch.float64):
        one = torch.tensor(1.0, dtype=kind)
        above = torch.nextafter(one, torch.tensor(2.0, dtype=kind))
        state = {"a.weight": torch.stack([above, one, above, -one]).view(2, 2)}
        found = prune_magnitude(state, 0.5)
        assert found.state["a.weight"].tolist() == [[above.item(), 0], [above.item(), 0]]
        assert found.threshold == 1.0


def test_subnormal_numbers_have_magnitudes():
    state = {"a.weight": torch.tensor([[1e-42, 3e-42], [-2e-42, 1e-3]])}
    assert prune_magnitude(state, 0.5).state["a.weight"].count_nonzero() == 2


def test_only_what_is_multiplied_by_counts(tiny):
    """All linear weights of a T5 and of a CLIP, and nothing else: held against the modules."""
    for model in (tiny.t5(umt5=True), tiny.t5(), tiny.clip()):
        linear = {f"{n}.weight" for n, m in model.named_modules() if isinstance(m, torch.nn.Linear | torch.nn.Conv2d)}
        assert {n for n, t in model.state_dict().items() if is_matrix(n, t)} == linear
    table = torch.ones(3, 3)
    kept = ("scale_shift_table", "pos_embed", "y_embedder.y_embedding", "x.bias", "shared.weight", "t5.shared.weight")
    assert not any(is_matrix(name, table) for name in kept)
    assert is_matrix("x_embedder.proj.weight", torch.ones(4, 3, 2, 2))
    assert is_matrix("weight", table)
    assert not is_matrix("norm.weight", torch.ones(3))


def test_another_choice_of_tensors():
    state = {"a": torch.tensor([3.0, 1.0]), "b.weight": torch.ones(2, 2)}
    found = prune_magnitude(state, 0.5, counts=lambda name, tensor: name == "a")
    assert found.state["a"].tolist() == [3, 0]
    assert found.state["b.weight"] is state["b.weight"]


def test_strided_and_trained_tensors():
    weight = torch.nn.Parameter(torch.arange(1.0, 7).view(2, 3).t().detach())
    found = prune_magnitude({"a.weight": weight}, 0.5).state["a.weight"]
    assert not found.requires_grad
    assert found.tolist() == [[0, 4], [0, 5], [0, 6]]


def test_the_fraction_for_a_sparsity_of_the_whole_encoder(tiny):
    stack = tiny.stack()
    state, total = state_of(stack), stack.architecture.total_parameters
    found = prune_magnitude(state, fraction_for(state, 0.42, total))
    assert found.zeros == round(0.42 * total)
    with pytest.raises(SkrrError, match=r"sparsity of 0\.99 cannot be reached by zeros"):
        fraction_for(state, 0.99, total)
    most = found.counted / total
    assert fraction_for(state, most, total) == 1.0


def test_the_pruned_encoder_runs(tiny):
    objective = tiny.objective(tiny.stack())
    state = state_of(objective.stack)
    found = [
        measure_rebuilt(objective, rebuild(objective.stack, prune_magnitude(state, fraction).state)).value
        for fraction in (0, 0.2, 0.5, 1)
    ]
    assert found[0] == 0
    assert found == sorted(set(found))
    # With every matrix zero all sub-blocks write zeros, as if they were skipped.
    assert found[-1] == pytest.approx(objective.measure((None,) * 8).value, rel=1e-12)


def test_bad_input_gets_a_sentence():
    state = {"a.weight": torch.ones(2, 2)}
    for fraction in (-0.1, 1.1, float("nan")):
        with pytest.raises(SkrrError, match="fraction to prune"):
            prune_magnitude(state, fraction)
    with pytest.raises(SkrrError, match="None of 1 tensors counts"):
        prune_magnitude({"a.bias": torch.ones(2)}, 0.5)
    with pytest.raises(SkrrError, match="None of 0 tensors"):
        prune_magnitude({}, 0.5)
    with pytest.raises(SkrrError, match="None of 1 tensors"):
        prune_magnitude({"a.weight": torch.ones(0, 3)}, 0.5)
    with pytest.raises(SkrrError, match=r"a.weight is torch.uint8: a packed"):
        prune_magnitude({"a.weight": torch.ones(2, 2, dtype=torch.uint8)}, 0.5)
    for bad in (float("nan"), float("inf")):
        with pytest.raises(SkrrError, match=r"a.weight holds values that are not finite"):
            prune_magnitude({"a.weight": torch.tensor([[1.0, bad]])}, 0.5)
