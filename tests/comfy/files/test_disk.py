"""Files and folders that fail: the nodes say so in a sentence that names the path, and write nothing by half."""

import logging
import shutil

import pytest
import torch
from safetensors.torch import load_file

from ...unit.failing_disk import fail_everywhere
from ..tiny_models import pixart_clip


@pytest.fixture
def error(pack):
    return pack("skrr_engine.errors").SkrrError


@pytest.fixture
def folders(pack):
    return pack("nodes.comfy_host.files.folders")


def refused(*_, **__):
    raise PermissionError(13, "Permission denied")


def test_a_folder_of_models_that_goes_while_comfyui_runs(error, folders, tmp_path, monkeypatch, caplog):
    import folder_paths

    folder = tmp_path / "encoders"
    folder.mkdir()
    (folder / "a.safetensors").write_text("")
    monkeypatch.setitem(folder_paths.folder_names_and_paths, "text_encoders", ([str(folder)], {".safetensors"}))
    monkeypatch.setattr(folder_paths, "filename_list_cache", {})
    assert folders.list_model_files("text_encoders") == ["a.safetensors"]
    assert folders.model_file("text_encoders", "a.safetensors") == folder / "a.safetensors"
    shutil.rmtree(folder)
    with caplog.at_level(logging.WARNING):
        assert folders.list_model_files("text_encoders") == []
    assert "encoders cannot be read: No such file or directory. Check that folder" in caplog.text
    with pytest.raises(error, match=r"encoders cannot be read: No such file .* restart ComfyUI\."):
        folders.model_file("text_encoders", "a.safetensors")


def test_the_nodes_are_there_without_the_folders(pack, monkeypatch):
    monkeypatch.setattr("folder_paths.get_filename_list", refused)
    ours = pack("nodes").NODE_CLASS_MAPPINGS
    for node in ours.values():
        node.GET_NODE_INFO_V1()


def test_a_prompt_file_that_cannot_be_asked_about_is_no_choice(folders, tmp_path, monkeypatch):
    (tmp_path / "a.txt").write_text("a fox")
    monkeypatch.setattr("folder_paths.get_input_directory", lambda: str(tmp_path))
    assert folders.list_prompt_files() == ["a.txt"]
    monkeypatch.setattr("pathlib.Path.is_file", refused)
    assert folders.list_prompt_files() == []


def test_a_finished_search_survives_a_cache_that_cannot_be_tidied(folders, tmp_path, monkeypatch, caplog):
    (tmp_path / "skrr").write_text("a file")
    monkeypatch.setattr("folder_paths.get_user_directory", lambda: str(tmp_path))
    with caplog.at_level(logging.WARNING):
        folders.trim_cache()
    assert "Skrr could not trim its cache" in caplog.text


def test_plans_in_a_failing_folder(pack, error, folders, tmp_path, monkeypatch):
    monkeypatch.setattr("folder_paths.models_dir", str(tmp_path))
    plan = pack("skrr_engine.plans.presets").load_preset("sd3")
    ends = fail_everywhere(tmp_path, lambda number: folders.save_plan(plan, f"a {number}", False), error)
    assert {call for call, found in ends if found is not None} >= {"open", "write", "fsync", "replace"}
    ends = fail_everywhere(tmp_path, lambda number: folders.load_plan("a whole.json"), error)
    assert {call for call, found in ends if found is not None} >= {"stat", "open", "read"}
    (tmp_path / "skrr" / "a whole.json").rename(tmp_path / "a whole.json")
    monkeypatch.setattr("os.listdir", refused)
    with pytest.raises(error, match=r"skrr cannot be read: Permission denied"):
        folders.load_plan("a whole.json")
    assert folders.list_plans() == []


def test_saving_an_encoder_to_a_failing_disk(pack, error, tmp_path, monkeypatch):
    saving, trees = pack("nodes.comfy_host.files.saving"), pack("nodes.comfy_host.clip.trees")
    clip = smaller(pack, pixart_clip())
    monkeypatch.setattr("folder_paths.get_folder_paths", lambda kind: [str(tmp_path / kind)])

    def save(number):
        return saving.save_encoder(trees.choose_encoder(clip, "t5xxl"), "mine", False, True)

    sentence = save(0)
    target = tmp_path / "text_encoders" / "mine.safetensors"
    before = load_file(target)
    assert f"{target.stat().st_size:,} bytes" in sentence
    ends = fail_everywhere(tmp_path, save, error)
    assert {call for call, found in ends if found is not None} >= {"stat", "replace"}
    after = load_file(target)
    assert after.keys() == before.keys() and all(torch.equal(after[name], before[name]) for name in before)


def smaller(pack, clip):
    plan, patching = pack("skrr_engine.plans.plan"), pack("nodes.comfy_host.clip.patching")
    info = {"t5xxl": plan.EncoderInfo(pack("nodes.comfy_host.clip.trees").choose_encoder(clip, "t5xxl").architecture)}
    level = plan.make_level(info, {"t5xxl": plan.make_cut([1])})
    return patching.apply_level(clip, plan.Plan("test", info, (level,)), level).clip


@pytest.mark.parametrize("name", ["denoiser.safetensors", "encoder.safetensors", "autoencoder.safetensors"])
def test_demo_models_that_cannot_be_read(pack, error, tmp_path, monkeypatch, name):
    demo = pack("nodes.comfy_host.files.demo_models")
    shutil.copytree(demo.WEIGHTS, tmp_path / "w")
    usual = demo.load_whole.__globals__["comfy"].utils.load_torch_file

    def broken(path, **options):
        if path.endswith(name):
            raise OSError(5, "Input/output error")
        return usual(path, **options)

    monkeypatch.setattr("comfy.utils.load_torch_file", broken)
    with pytest.raises(error, match=rf"{name} cannot be read: Input/output error\."):
        demo.load_demo_models(tmp_path / "w")
    monkeypatch.undo()
    with open(tmp_path / "w" / name, "r+b") as file:
        file.truncate(100)
    with pytest.raises(error, match=f"{name} is not a safetensors file"):
        demo.load_demo_models(tmp_path / "w")
    (tmp_path / "w" / name).unlink()
    with pytest.raises(error, match=f"{name} cannot be read: No such file"):
        demo.load_demo_models(tmp_path / "w")


def test_the_demos_tokenizer_is_missing(pack, error, monkeypatch):
    demo = pack("nodes.comfy_host.files.demo_models")
    monkeypatch.setattr(demo, "TOKENIZER", "gone.model")
    with pytest.raises(error, match=r"gone\.model cannot be read: No such file"):
        demo.load_demo_models()


def test_a_file_that_changes_or_fails_while_comfyui_maps_it(pack, error, tmp_path, monkeypatch):
    whole, header = pack("nodes.comfy_host.files.whole_files"), pack("skrr_engine.files.header")
    shutil.copy(pack("nodes.comfy_host.files.demo_models").WEIGHTS / "encoder.safetensors", tmp_path / "a.safetensors")
    found = header.read_header(tmp_path / "a.safetensors")
    assert whole.load_whole(found).keys() == found.tensors.keys()
    monkeypatch.setattr("comfy.utils.load_torch_file", lambda *_, **__: {})
    with pytest.raises(error, match=r"a\.safetensors changed while it was read"):
        whole.load_whole(found)
    monkeypatch.setattr("comfy.utils.load_torch_file", refused)
    with pytest.raises(error, match=r"a\.safetensors cannot be read: Permission denied"):
        whole.load_whole(found)


def test_a_tokenizer_that_comfyui_lacks(pack, error, monkeypatch):
    loading = pack("nodes.comfy_host.files.loading")

    def lacking(*_, **__):
        raise FileNotFoundError(2, "No such file or directory", "/comfy/some_tokenizer/tokenizer.json")

    monkeypatch.setattr("comfy.sd.load_text_encoder_state_dicts", lacking)
    with pytest.raises(error, match=r"/comfy/some_tokenizer/tokenizer\.json cannot be read: .* Update ComfyUI"):
        loading._build([], "flux", "default", False)
