"""The denoiser's first layers over the text, in memory and out of its file."""

import pytest
import torch
from safetensors.torch import save_file

from skrr_engine.errors import SkrrError
from skrr_engine.measure.projection import linear_chain, no_projection
from skrr_engine.opening.projection_files import open_projection

WIDTH = 6
OUTPUTS = {"sequence": torch.randn(2, 3, WIDTH, generator=torch.Generator().manual_seed(1))}


def tensors(*shapes, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(shape, generator=generator) for shape in shapes]


def test_one_layer_is_a_linear():
    weight, bias = tensors((4, WIDTH), (4,))
    projection = linear_chain("flux", [(weight, bias)], torch.float32)
    torch.testing.assert_close(projection.apply(OUTPUTS, None)["sequence"], OUTPUTS["sequence"] @ weight.T + bias)
    assert projection.reads == {"sequence": "sequence"}


def test_two_layers_have_gelu_between_them():
    one, two = tensors((4, WIDTH), (3, 4))
    inner = OUTPUTS["sequence"] @ one.T
    gelu = 0.5 * inner * (1 + torch.tanh((2 / torch.pi) ** 0.5 * (inner + 0.044715 * inner**3)))
    found = linear_chain("pixart", [(one, None), (two, None)], torch.float32).apply(OUTPUTS, None)["sequence"]
    torch.testing.assert_close(found, gelu @ two.T)


def test_the_fallback_hands_the_outputs_through():
    projection = no_projection(("sequence",))
    assert projection.apply({**OUTPUTS, "pooled": None}, None) == OUTPUTS
    assert projection.name == "none (encoder output)"


def test_identity_follows_the_weights():
    weight, other = tensors((4, WIDTH), (4, WIDTH))
    identities = {linear_chain("a", [(w, None)], torch.float32).identity for w in (weight, weight.clone(), other)}
    assert len(identities) == 2


def test_layers_must_fit_each_other():
    one, two = tensors((4, WIDTH), (3, 5))
    with pytest.raises(SkrrError, match="one hands out 4 values, the next takes 5"):
        linear_chain("wrong", [(one, None), (two, None)], torch.float32)
    with pytest.raises(SkrrError, match="at least one weight"):
        linear_chain("empty", [], torch.float32)


@pytest.fixture
def denoiser(tmp_path):
    """Writes a file of the named tensors; returns its path."""

    def write(**named):
        path = tmp_path / "denoiser.safetensors"
        save_file({name.replace("__", "."): tensor for name, tensor in named.items()}, path)
        return path

    return write


LAYERS = {
    "FLUX": ["txt_in"],
    "SD3": ["context_embedder"],
    "PixArt": ["y_embedder.y_proj.fc1", "y_embedder.y_proj.fc2"],
}


@pytest.mark.parametrize("prefix", ["", "model.diffusion_model."])
@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.parametrize("biases", [True, False])
def test_known_models_are_recognised(denoiser, name, prefix, biases):
    one, two, b1, b2 = tensors((4, WIDTH), (3, 4), (4,), (3,))
    layers = [(one, b1), (two, b2)][: len(LAYERS[name])]
    named = {"img_in.weight": torch.zeros(1)}
    for module, (weight, bias) in zip(LAYERS[name], layers, strict=True):
        named |= {f"{prefix}{module}.weight": weight} | ({f"{prefix}{module}.bias": bias} if biases else {})
    found = open_projection(denoiser(**named), WIDTH)
    expected = linear_chain("", [(w, b if biases else None) for w, b in layers], torch.float32)
    assert found.name.startswith(f"{name}: {prefix}{LAYERS[name][0]}.weight")
    assert torch.equal(found.apply(OUTPUTS, None)["sequence"], expected.apply(OUTPUTS, None)["sequence"])
    assert found.identity == expected.identity


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64, torch.float8_e4m3fn])
def test_any_plain_format_becomes_float32(denoiser, dtype):
    (weight,) = tensors((4, WIDTH))
    found = open_projection(denoiser(**{"txt_in.weight": weight.to(dtype)}), WIDTH)
    expected = linear_chain("", [(weight.to(dtype).float(), None)], torch.float32)
    assert found.identity == expected.identity


def test_named_layers_in_order(denoiser):
    one, two, bias = tensors((4, WIDTH), (3, 4), (3,))
    path = denoiser(a=one, b=two, c=bias)
    found = open_projection(path, WIDTH, [("a", None), ("b", "c")])
    assert found.identity == linear_chain("", [(one, None), (two, bias)], torch.float32).identity
    assert found.name == "named layers: a, b"


def test_an_unknown_file_says_what_was_looked_for(denoiser):
    with pytest.raises(SkrrError, match=r"looked for txt_in.weight, model.diffusion_model.txt_in.weight, context_emb"):
        open_projection(denoiser(a=torch.zeros(1)), WIDTH)


WRONG = {
    "missing": ([("b", None)], "has no tensor 'b'"),
    "bias missing": ([("a", "z")], "has no tensor 'z'"),
    "width": ([("narrow", None)], f"encoder is {WIDTH} wide, but narrow in denoiser.safetensors takes 5"),
    "no matrix": ([("bias", None)], r"bias has shape \[4\]; a weight has 2 sides"),
    "other bias": ([("a", "short")], r"bias short has shape \[3\], its weight a hands out 4"),
    "integers": ([("whole", None)], "stores whole quantised"),
    "scaled": ([("scaled.weight", None)], "stores scaled.weight quantised"),
}


@pytest.mark.parametrize("layers, sentence", WRONG.values(), ids=WRONG.keys())
def test_wrong_names_are_refused(denoiser, layers, sentence):
    a, narrow, bias, short = tensors((4, WIDTH), (4, 5), (4,), (3,))
    eights = a.to(torch.float8_e4m3fn)
    path = denoiser(
        a=a, narrow=narrow, bias=bias, short=short, whole=a.to(torch.int8), scaled__weight=eights,
        scaled__scale_weight=torch.ones(1),
    )  # fmt: skip
    with pytest.raises(SkrrError, match=sentence):
        open_projection(path, WIDTH, layers)
