"""Which tensor belongs to which sub-block, and what the shapes tell."""

import pytest

from skrr_engine.encoders.clip import ClipStack
from skrr_engine.encoders.t5 import T5Stack
from skrr_engine.errors import SkrrError
from skrr_engine.files.header import read_header
from skrr_engine.files.infer import infer_architecture
from skrr_engine.files.tensor_names import find_encoders, place_of, tensors_of

PREFIXES = ["", "transformer.", "text_encoders.t5xxl.transformer."]


def encoder_in(path):
    (found,) = find_encoders(read_header(path).tensors)
    return found


@pytest.mark.parametrize("prefix", PREFIXES)
@pytest.mark.parametrize("changes", [{}, {"umt5": True}, {"feed_forward_proj": "relu"}])
def test_t5_is_recognised_from_its_shapes(tiny, tmp_path, prefix, changes):
    model = tiny.t5(**changes)
    found = encoder_in(tiny.save(model, tmp_path / "a", prefix=prefix))
    assert (found.prefix, found.family) == (prefix, "t5")
    assert infer_architecture(found, tmp_path / "a") == T5Stack(model).architecture


def test_clip_is_recognised_from_its_shapes(tiny, tmp_path):
    model = tiny.clip()
    found = encoder_in(tiny.save(model, tmp_path / "a", prefix="text_encoders.clip_l.transformer."))
    assert infer_architecture(found, tmp_path / "a", heads=2) == ClipStack(model).architecture
    with pytest.raises(SkrrError, match=r"CLIP 16 wide; .* Give the number of heads"):
        infer_architecture(found, tmp_path / "a")
    with pytest.raises(SkrrError, match="16 values cannot be split into 3 heads"):
        infer_architecture(found, tmp_path / "a", heads=3)


@pytest.mark.parametrize("make", ["t5", "clip"])
def test_every_parameter_of_a_sub_block_and_no_other_goes(tiny, make):
    model = getattr(tiny, make)()
    stack = T5Stack(model) if make == "t5" else ClipStack(model)
    sizes = {name: tensor.numel() for name, tensor in model.state_dict().items()}
    for i in range(len(stack.subblocks)):
        gone = tensors_of(sizes, stack.architecture, [i])
        assert sum(sizes[name] for name in gone) == stack.architecture.parameters_of([i])
        assert {place_of(name, stack.architecture.family)[0] for name in gone} == {i}


def test_other_tensors_have_no_place():
    for name in ("shared.weight", "encoder.final_layer_norm.weight", "decoder.block.0.layer.0.SelfAttention.q.weight"):
        assert place_of(name, "t5") is None
    assert place_of("vision_model.encoder.layers.0.mlp.fc1.weight", "clip") is None
    assert place_of("x.encoder.block.0.layer.0.SelfAttention.q.weight", "t5") is None


def test_a_file_of_countless_encoders_is_refused():
    """One prefix for every tensor would make the search for encoders quadratic."""
    import pytest

    from skrr_engine.errors import SkrrError
    from skrr_engine.files.header import Entry
    from skrr_engine.files.tensor_names import find_encoders

    names = {f"p{n}.encoder.block.0.layer.0.layer_norm.weight": Entry("F16", (1,), 0, 2) for n in range(50_000)}
    with pytest.raises(SkrrError, match="More than 16 text encoders"):
        find_encoders(names)
