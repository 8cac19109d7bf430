"""A denoiser's file in place of MODEL: the same features and the same plan, from a few of its tensors."""

import pytest
import torch
from safetensors.torch import save_file

from .. import model_files
from ..tiny_models import diffusion_state, flux_clip, pixart_clip, sd3_clip

# ComfyUI takes PixArt's sizes for granted: 1152 wide, a T5 of 4096.
PIXART = {"hidden_size": 1152, "num_heads": 16, "depth": 1, "caption_channels": 4096}
WIDE_T5 = {"t5xxl_model_config": {"d_model": 4096, "d_ff": 64}}
# family, CLIP, encoder, the tensors that are read.
CASES = [
    ("flux", flux_clip, "t5xxl", ("txt_in.",)),
    ("flux", flux_clip, "clip_l", ("vector_in.",)),
    ("sd3", lambda: sd3_clip(t5=False), "clip_l", ("context_embedder.", "y_embedder.")),
    ("sd3", lambda: sd3_clip(t5=False), "clip_g", ("context_embedder.", "y_embedder.")),
    ("sd3", lambda: sd3_clip(layers=2), "t5xxl", ("context_embedder.",)),
    ("pixart", lambda: pixart_clip(layers=2, **WIDE_T5), "t5xxl", ("y_embedder.y_proj.",)),
]
PROMPTS = ("a red fox", "two blue lanterns above a wooden boat", "fog")


@pytest.fixture
def choose(pack):
    return pack("nodes.comfy_host.clip.trees").choose_encoder


def write(path, family, dtype=torch.float16, prefix="", **extra):
    state = diffusion_state(family, dtype, **(PIXART if family == "pixart" else {}))
    save_file({**{prefix + name: tensor for name, tensor in state.items()}, **extra}, path)
    return path


def model_of(path):
    """What UNETLoader makes of the file."""
    import comfy.sd

    return comfy.sd.load_diffusion_model(str(path), model_options={})


def from_file(pack, path):
    return pack("nodes.comfy_host.denoiser.projections").ProjectionFile(path)


def features(projection, encoder, batch_of):
    generator = torch.Generator().manual_seed(1)
    width = encoder.architecture.width
    outputs = {"sequence": torch.randn(2, 5, width, generator=generator)}
    outputs["pooled"] = torch.randn(2, width, generator=generator)
    batch = batch_of({"pooled": torch.randn(2, width, generator=generator)})
    return projection.apply({name: outputs[name] for name in encoder.outputs}, batch)


@pytest.mark.parametrize("family, make_clip, slot, read", CASES)
@pytest.mark.parametrize("stored", ["float16", "float8_e4m3fn"])
def test_the_features_of_the_model_from_a_few_tensors_of_its_file(
    pack, choose, tmp_path, monkeypatch, family, make_clip, slot, read, stored
):
    path = write(tmp_path / "denoiser.safetensors", family, getattr(torch, stored))
    encoder = choose(make_clip(), slot)
    find, files = pack("nodes.comfy_host.denoiser.projections").find_projection, []
    reader = pack("skrr_engine.files.tensor_reading").TensorReader
    monkeypatch.setattr(reader, "__exit__", lambda self, *error: (files.append(self), self.file.close())[1])
    projection, sentence = find(from_file(pack, path), encoder)
    wanted, _ = find(model_of(path), encoder)
    assert (projection.identity, projection.name, projection.reads) == (wanted.identity, wanted.name, wanted.reads)

    def batch_of(companions):
        tokens = torch.zeros(2, 5, dtype=torch.long)
        return pack("skrr_engine.encoders.stack").TokenBatch(tokens, (0, 1), 5, {}, companions)

    found, right = features(projection, encoder, batch_of), features(wanted, encoder, batch_of)
    assert found.keys() == right.keys() and all(torch.equal(found[name], right[name]) for name in found)
    assert sentence.endswith("read from denoiser.safetensors.")
    # Not one byte of a tensor beside the projection, and of its own each once.
    tensors = pack("skrr_engine.files.header").read_header(path).tensors
    few = sum(entry.bytes for name, entry in tensors.items() if name.startswith(read))
    assert 0 < sum(file.asked for file in files) == few < sum(entry.bytes for entry in tensors.values())


def test_calibrate_and_search_take_it_in_place_of_the_model(pack, tmp_path, monkeypatch):
    """The nodes hand out the very same plan."""
    path = write(tmp_path / "denoiser.safetensors", "flux")
    clip, plans = flux_clip(layers=2), []
    for number, model in enumerate((from_file(pack, path), model_of(path))):
        # Another cache, or the second would be answered from the first.
        monkeypatch.setattr("folder_paths.get_user_directory", lambda number=number: str(tmp_path / str(number)))
        text = "\n".join(PROMPTS)
        calibration = pack("nodes.calibrate").SkrrCalibrate.execute(clip, "text", text, 64, model).args[0]
        asked = dict(encoder="t5xxl", beam=1, sparsity=0.02, saved_gb=0.0, null_weight=1.0, reuse=True)
        node = pack("nodes.search").SkrrSearch
        result = node.execute(**asked, name="p", pinned="", clip=clip, model=model, calibration=calibration)
        plans.append(pack("skrr_engine.plans.plan_json").dumps(result.args[0]))
    assert plans[0] == plans[1] and len(plans[0]) > 100


def test_a_checkpoints_names_and_a_size_that_comfyui_does_not_know(pack, choose, tmp_path):
    """Names with a checkpoint's prefix; and a PixArt of a width of its own, by the names of its layers."""
    find, encoder = pack("nodes.comfy_host.denoiser.projections").find_projection, choose(flux_clip(), "t5xxl")
    plain, prefixed = (
        find(from_file(pack, write(tmp_path / f"{n}.safetensors", "flux", prefix=prefix)), encoder)[0].identity
        for n, prefix in enumerate(("", "model.diffusion_model."))
    )
    assert plain == prefixed
    small = tmp_path / "small.safetensors"
    save_file(diffusion_state("pixart"), small)
    projection, sentence = find(from_file(pack, small), choose(pixart_clip()))
    assert projection.name.startswith("PixArt: y_embedder.y_proj.fc1") and "small.safetensors" in sentence


def test_what_cannot_be_read_is_a_sentence(pack, choose, tmp_path):
    find, errors = pack("nodes.comfy_host.denoiser.projections").find_projection, pack("skrr_engine.errors").SkrrError
    encoder = choose(flux_clip(), "t5xxl")
    path = tmp_path / "denoiser.safetensors"
    for mark in ("scale_weight", "weight_scale", "comfy_quant"):
        write(path, "flux", torch.float8_e4m3fn, **{f"txt_in.{mark}": torch.ones(1)})
        with pytest.raises(errors, match=r"stores txt_in.weight quantised .* Choose an unquantised file"):
            find(from_file(pack, path), encoder)
    # Others may be quantised; the projection is what counts.
    state = diffusion_state("flux")
    save_file({**state, "double_blocks.0.img_mlp.0.weight_scale": torch.ones(1)}, path)
    find(from_file(pack, path), encoder)
    save_file({name: tensor for name, tensor in state.items() if name != "txt_in.bias"}, path)
    with pytest.raises(errors, match=r"is not whole: it lacks txt_in.bias"):
        find(from_file(pack, path), encoder)
    with pytest.raises(errors, match="do not belong together"):
        find(from_file(pack, write(path, "sd3")), encoder)
    save_file({"some.weight": torch.zeros(3)}, path)
    with pytest.raises(errors, match="is not a denoiser that this pack knows"):
        find(from_file(pack, path), encoder)
    with pytest.raises(errors, match=r"does not recognise .* Connect the MODEL itself"):
        find(from_file(pack, path), choose(flux_clip(), "clip_l"))


WIDTHS = [
    # What the file has, the CLIP, its encoder, and the sentence: what the file takes and what came.
    ("sd3", {"adm_in_channels": 2048}, lambda: sd3_clip(t5=False), "clip_l",
     r"MMDiT's y_embedder takes 2048 values, clip_l \(64\) and clip_g \(64\) give 128\."),
    ("sd3", {}, lambda: sd3_clip(t5=False, clip_g=False), "clip_l",
     r"MMDiT's y_embedder takes 128 values, clip_l \(64\) and clip_g \(1280\) give 1344\."),
    ("sd3", {}, lambda: sd3_clip(t5=False, clip_l=False), "clip_g",
     r"MMDiT's y_embedder takes 128 values, clip_l \(768\) and clip_g \(64\) give 832\."),
    ("sd3", {"context_embedder_config": {"target": "torch.nn.Linear", "params": {"in_features": 100,
     "out_features": 128}}}, lambda: sd3_clip(t5=False), "clip_g",
     r"MMDiT's context_embedder takes 100 values, clip_l \(64\) and clip_g \(64\) give 128\."),
    ("sd3", {"adm_in_channels": None}, lambda: sd3_clip(t5=False), "clip_l",
     r"this MMDiT has no y_embedder to read the encoder clip_l with\."),
    ("flux", {"vec_in_dim": 32}, flux_clip, "clip_l",
     r"Flux's vector_in takes 32 values, the encoder clip_l gives 64\."),
    ("flux", {"context_in_dim": 96}, flux_clip, "t5xxl",
     r"Flux's txt_in takes 96 values, the encoder t5xxl gives 64\."),
]  # fmt: skip


@pytest.mark.parametrize("family, sizes, make_clip, slot, words", WIDTHS)
def test_a_width_that_does_not_fit_is_a_sentence(pack, choose, tmp_path, family, sizes, make_clip, slot, words):
    """Of a file and of the MODEL made of it, before anything is computed."""
    path = tmp_path / "denoiser.safetensors"
    save_file(diffusion_state(family, **sizes), path)
    encoder = choose(make_clip(), slot)
    sentence = f"^This MODEL and this CLIP do not belong together: {words} Connect the CLIP made for this model\\.$"
    for model in (from_file(pack, path), model_of(path)):
        with pytest.raises(pack("skrr_engine.errors").SkrrError, match=sentence):
            pack("nodes.comfy_host.denoiser.projections").find_projection(model, encoder)


def test_the_node_hands_it_out(pack, tmp_path, monkeypatch):
    path = write(tmp_path / model_files.SD3, "sd3")
    monkeypatch.setattr("folder_paths.get_filename_list", lambda kind: [path.name])
    monkeypatch.setattr("folder_paths.get_full_path", lambda kind, name: str(tmp_path / name))
    assert pack("nodes.load").SkrrProjection.execute(path.name).args[0] == from_file(pack, path)
