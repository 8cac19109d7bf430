"""Skrr CLIP Loader on files of language models: the CLIP that ComfyUI's own loader and Skrr Apply make, bit for bit,
and no byte read of what no picture reads."""

from types import SimpleNamespace

import comfy.sd
import pytest
import torch
from safetensors.torch import save_file

from .. import narrow_files
from ..clip.test_free import FAMILIES, encoded, families
from ..narrow_files import CLIP
from ..steps import without_free
from ..tiny_models import random_state
from .test_file_formats import assert_same

# As real as detection asks for: widths and numbers of layers. The rest is small.
SMALL = {"intermediate_size": 16, "num_attention_heads": 1, "num_key_value_heads": 1, "vocab_size": 300}
# Names of published files -> those of ComfyUI's modules.
HUB = {"model.language_model.": "model.", "model.visual.": "visual.", "lm_head.": "model.lm_head."}


def sizes(width, layers, **more):
    """The options of ComfyUI's class for a language model, by whatever name it asks for them."""
    return {**SMALL, "hidden_size": width, "num_hidden_layers": layers, **more}


# family -> loader type, width, layers, further options, the names in its file, what ComfyUI detects (where it counts
# the width; None: it detects the small one as it does the real one).
FOUR_HEADS = {"num_attention_heads": 8, "num_key_value_heads": 4}
KINDS = {
    "FLUX.2 klein 9B": ("flux2", 4096, 36, {}, {"lm_head.": "model.lm_head."}, None),
    "Z-Image": ("lumina2", 64, 36, {}, {}, "QWEN3_4B"),
    "Qwen-Image": ("qwen_image", 64, 28, FOUR_HEADS, {}, None),
    "FLUX.2 dev": ("flux2", 64, 40, {}, {}, "MISTRAL3_24B"),
    "Lumina 2": ("lumina2", 64, 26, {}, {}, None),
    "HunyuanVideo": ("hunyuan_video", 64, 32, {}, {}, None),
    "Boogu": ("boogu", 64, 36, {}, HUB, None),
    "NewBie": ("newbie", 64, 34, {}, {}, None),
    "LTX-2": ("ltxv", 64, 48, {}, {}, None),
    "Gemma 4 E2B alone": ("lumina2", 64, 35, {}, {}, None),
    "Gemma 4 12B alone": ("lumina2", 64, 48, {}, {}, None),
}


def narrow_heads(monkeypatch):
    """Attention 16 wide where no model says how its head is divided."""
    from comfy.text_encoders import llama

    for config in vars(llama).values():
        if isinstance(getattr(config, "head_dim", None), int) and getattr(config, "rope_dims", None) is None:
            monkeypatch.setattr(config, "head_dim", 16)


def fake_tokenizers(monkeypatch):
    """Tokens are given as they are; most tokenizers are too large for a test, or come in the file."""
    usual = comfy.sd.CLIP.__init__

    def init(self, target=None, *rest, tokenizer_data=None, **options):
        self.told = tokenizer_data
        target.tokenizer = lambda embedding_directory=None, tokenizer_data=None: SimpleNamespace(state_dict=dict)
        usual(self, target, *rest, tokenizer_data=tokenizer_data or {}, **options)

    monkeypatch.setattr(comfy.sd.CLIP, "__init__", init)


@pytest.fixture
def files_of(monkeypatch, tmp_path):
    """files_of(family, dtype) -> (paths, loader type) of its small files with random weights. `others` are options of
    ComfyUI's class."""
    families.small_towers(monkeypatch.setitem, monkeypatch.setattr)
    monkeypatch.setattr("folder_paths.get_folder_paths", lambda kind: [str(tmp_path)])
    narrow_heads(monkeypatch)
    fake_tokenizers(monkeypatch)

    def make(name, dtype=torch.float16, seed=3, write=save_file, **others):
        kind, width, layers, more, names, detected = KINDS[name]
        family, tree = FAMILIES[name], families.build(FAMILIES[name])
        if tree is None or kind.upper() not in comfy.sd.CLIPType.__members__:
            pytest.skip(f"this ComfyUI has no {name}")
        small = sizes(width, layers, **more) | others
        options = dict.fromkeys((f"{key}_model_config" for key in family.keys if key not in ("l", "g")), small)
        options |= {"_model_config": small, "llama_model_config": small}
        options["clip_l_model_config"] = CLIP
        monkeypatch.setattr(narrow_files, "SIZES", options)
        narrow_files.narrow(monkeypatch)
        if detected is not None:
            monkeypatch.setattr(comfy.sd, "detect_te_model", lambda state: comfy.sd.TEModel[detected])
        tree = tree(device="meta", dtype=dtype, model_options=options)
        paths = []
        for slot, model in slots_of(tree).items():
            state = random_state(model.transformer.state_dict(), seed)
            state = {file_name(key, names): single(key) if not value.ndim else value for key, value in state.items()}
            if name == "FLUX.2 dev":
                state["tekken_model"] = torch.frombuffer(bytearray(b"a tokenizer"), dtype=torch.uint8)
            paths.append(tmp_path / f"{name} {slot}.safetensors")
            write(state, paths[-1])
        if name == "LTX-2":  # what joins its states comes in a file of its own
            state = random_state(tree.text_embedding_projection.state_dict(), seed)
            paths.append(tmp_path / f"{name} projection.safetensors")
            write({f"text_embedding_projection.{key}": value for key, value in state.items()}, paths[-1])
        return paths, kind

    return make


def single(key):
    """A single value that a file holds: the limits of a clipped layer, or a factor."""
    return torch.tensor({"min": -8.0, "max": 8.0}.get(key.rpartition("_")[2], 1.0), dtype=torch.float16)


def slots_of(tree):
    from comfy.sd1_clip import SDClipModel

    return {path: module for path, module in tree.named_modules() if isinstance(module, SDClipModel)}


def file_name(key, names):
    """What the file calls a tensor that ComfyUI's module calls `key`."""
    for theirs, ours in sorted(names.items(), key=lambda pair: -len(pair[1])):
        if key.startswith(ours):
            return theirs + key.removeprefix(ours)
    return key


def dense_of(paths, kind):
    return comfy.sd.load_clip([str(path) for path in paths], clip_type=getattr(comfy.sd.CLIPType, kind.upper()))


def read_bytes(pack, monkeypatch):
    """The names of weights that are asked of the pack's reader from now on; single values say how a file is stored."""
    reader, asked = pack("skrr_engine.files.tensor_reading").TensorReader, []
    usual = reader.read

    def read(self, name, *rest):
        if self.header.tensors[name].shape:
            asked.append(name)
        return usual(self, name, *rest)

    monkeypatch.setattr(reader, "read", read)
    return asked


def same(found, wanted):
    assert found.keys() == wanted.keys()
    for key, value in wanted.items():
        if torch.is_tensor(value):
            assert torch.isfinite(value).all() and torch.equal(found[key], value), key


@pytest.mark.parametrize("name", KINDS)
def test_the_same_as_comfyuis_loader_and_skrr_apply(pack, files_of, monkeypatch, name):
    paths, kind = files_of(name)
    dense = dense_of(paths, kind)
    wanted, told = encoded(dense, name), dense.told
    asked = read_bytes(pack, monkeypatch)
    loaded = pack("nodes.comfy_host.files.loading").load_kept(paths, kind)
    same(encoded(loaded.clip, name), wanted)
    assert loaded.clip.told.keys() == told.keys()
    assert all(torch.equal(value, told[key]) for key, value in loaded.clip.told.items() if torch.is_tensor(value))
    cut = without_free(pack, dense)
    assert_same(loaded.clip, cut.clip)
    assert (loaded.clip_bytes, loaded.encoder_bytes) == (cut.clip_bytes, cut.encoder_bytes)
    assert loaded.free == cut.free
    gone = {path for part in loaded.free for path in part.paths if part.kind != "table"}
    names = KINDS[name][4]
    assert not any(file_name(f"{path}.", names) in f"{read}." for path in gone for read in asked)


def test_pictures_and_writing_are_read_where_they_are_asked_for(pack, files_of, monkeypatch):
    paths, kind = files_of("Qwen-Image")
    dense, load = dense_of(paths, kind), pack("nodes.comfy_host.files.loading").load_kept
    loaded = load(paths, kind, pictures=True, text_generation=True)
    assert loaded.free == () and loaded.clip_bytes[0] == loaded.clip_bytes[1]
    assert_same(loaded.clip, dense)
    tokens = families.tokens_for(FAMILIES["Qwen-Image"], range(5, 40))
    picture = torch.rand(1, 64, 64, 3, generator=torch.Generator().manual_seed(1))
    tokens["qwen25_7b"][0][20] = ({"type": "image", "data": picture, "original_type": "image"}, 1.0)
    shown = load(paths, kind, pictures=True)
    assert [part.kind for part in shown.free] == ["table"]
    wanted = dense.encode_from_tokens(tokens, return_dict=True)
    same(shown.clip.encode_from_tokens(tokens, return_dict=True), wanted)
    with pytest.raises(pack("skrr_engine.errors").SkrrError, match=r"cannot look at pictures any more"):
        load(paths, kind).clip.encode_from_tokens(tokens, return_dict=True)


def test_textual_inversion_weights_and_repeated_tokens(pack, files_of):
    """The table stays in its file; what stands beside tokens is right all the same."""
    paths, kind = files_of("Qwen-Image", dtype=torch.bfloat16, vocab_size=151_700)  # padding is token 151643
    dense, loaded = dense_of(paths, kind), pack("nodes.comfy_host.files.loading").load_kept(paths, kind).clip
    word = torch.rand(3, 64, generator=torch.Generator().manual_seed(4))
    row = [(7, 1.0), (7, 1.3), (299, 0.5), (word[0], 1.0), *((n, 1.0) for n in range(60)), (0, 1.0)]
    tokens = {"qwen25_7b": [row]}
    same(loaded.encode_from_tokens(tokens, return_dict=True), dense.encode_from_tokens(tokens, return_dict=True))
    table = loaded.patcher.model.qwen25_7b.transformer.model.embed_tokens
    assert table.weight.dtype == torch.bfloat16 and table.weight.untyped_storage().nbytes() == 2


@pytest.mark.parametrize("change", ["removed", "written anew"])
def test_a_file_that_is_no_longer_what_it_was_is_a_sentence(pack, files_of, change):
    paths, kind = files_of("Qwen-Image")
    loaded = pack("nodes.comfy_host.files.loading").load_kept(paths, kind).clip
    encoded(loaded, "Qwen-Image")
    if change == "removed":
        paths[0].unlink()
    else:
        paths[0].write_bytes(paths[0].read_bytes()[:-2])
    with pytest.raises(pack("skrr_engine.errors").SkrrError, match=r"was changed or removed since Skrr CLIP Loader"):
        encoded(loaded, "Qwen-Image")


def test_a_file_that_lacks_a_tensor_or_does_not_fit_is_a_sentence(pack, files_of):
    from safetensors.torch import load_file

    paths, kind = files_of("Qwen-Image")
    error, load = pack("skrr_engine.errors").SkrrError, pack("nodes.comfy_host.files.loading").load_kept
    with pytest.raises(error, match=r"Type flux and these 1 files make a CLIP of type qwen-image"):
        load(paths, "flux")
    state = load_file(paths[0])
    lost = "model.layers.3.mlp.up_proj.weight"
    save_file({name: value for name, value in state.items() if name != lost}, paths[0])
    with pytest.raises(error, match=f"is not whole: it lacks 1 tensors, the first {lost}"):
        load(paths, kind)


@pytest.mark.parametrize("name", ["Z-Image", "Lumina 2", "Qwen-Image"])
def test_a_file_pruned_by_a_plan_opens_with_nothing_else_given(pack, files_of, name, tmp_path):
    """What is skipped is in no file; ComfyUI recognises the encoder all the same, the first layer's norms among it."""
    paths, kind = files_of(name)
    plans, saving = pack("skrr_engine.plans.plan"), pack("nodes.comfy_host.files.saving")
    (encoder,) = pack("nodes.comfy_host.clip.trees").text_encoders(dense_of(paths, kind)).values()
    info = {encoder.slot: plans.EncoderInfo(encoder.architecture, encoder.sketch)}
    level = plans.make_level(info, {encoder.slot: plans.make_cut([0, 1, 7, 8], {7: 9})})
    small = pack("nodes.comfy_host.clip.patching").apply_level(encoder.clip, plans.Plan("p", info, (level,)), level)
    wanted = encoded(small.clip, name)
    saving.save_encoder(saving.encoder_to_save(small.clip, "largest"), "pruned", False, True)
    found = pack("nodes.comfy_host.files.loading").load_kept([tmp_path / "pruned.safetensors"], kind)
    same(encoded(found.clip, name), wanted)
    assert found.applied[encoder.slot].cut == level.cuts[encoder.slot]
