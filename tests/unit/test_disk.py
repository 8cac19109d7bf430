"""Every single access to a file may fail: whatever touches the disk says so in a sentence that names the file."""

import json

import pytest
import torch
from safetensors import SafetensorError
from transformers import CLIPTokenizerFast  # noqa: F401  (its first use imports files of its own)

from skrr_engine import disk
from skrr_engine.command.cli import main
from skrr_engine.demo.world.grid import save_grid
from skrr_engine.errors import SkrrError
from skrr_engine.files.encoder_files import find_encoder
from skrr_engine.files.files import open_plan, write_pruned
from skrr_engine.files.header import read_header
from skrr_engine.files.prompt_files import builtin_prompts, read_prompts
from skrr_engine.files.tensor_reading import TensorReader, read_tensors
from skrr_engine.files.tensor_writing import write_tensors
from skrr_engine.opening.open_encoder import open_encoder
from skrr_engine.opening.tokenizing import open_tokenizer
from skrr_engine.plans import presets
from skrr_engine.plans.plan import EncoderInfo, Plan, make_cut, make_level
from skrr_engine.plans.plan_json import dumps
from skrr_engine.running.checkpoint import Checkpoint

from .failing_disk import fail_everywhere


def plan_of(shape, skip=(1,)):
    encoders = {"t5xxl": EncoderInfo(shape)}
    return Plan("test", encoders, (make_level(encoders, {"t5xxl": make_cut(list(skip))}),))


@pytest.fixture
def folder(tiny, tmp_path):
    """A T5 as file and as folder, a plan, prompts, presets and a tokenizer."""
    model = tiny.t5(layers=1, dtype=torch.float32)
    tiny.save(model, tmp_path / "t5.safetensors")
    (tmp_path / "whole").mkdir()
    tiny.save(model, tmp_path / "whole" / "model.safetensors")
    (tmp_path / "whole" / "config.json").write_text(json.dumps(model.config.to_dict()))
    (tmp_path / "shards").mkdir()
    tiny.save(model, tmp_path / "shards" / "model-1-of-1.safetensors")
    (tmp_path / "shards" / "model.safetensors.index.json").write_text("{}")
    (tmp_path / "shards" / "config.json").write_text(json.dumps(model.config.to_dict()))
    stack = tiny.stack(layers=1, dtype=torch.float32)
    (tmp_path / "plan.json").write_text(dumps(plan_of(stack.architecture)))
    (tmp_path / "prompts.txt").write_text("a fox\na hen\n")
    return tmp_path


def reader(path):
    with TensorReader(read_header(path)) as file:
        file.read_all(file.header.tensors)


# To make a folder that is there, or to remove what is gone, may fail.
OFTEN_HARMLESS = ("mkdir", "unlink")
OPERATIONS = {
    "header": lambda folder, n: read_header(folder / "t5.safetensors"),
    "tensors": lambda folder, n: reader(folder / "t5.safetensors"),
    "prompts": lambda folder, n: read_prompts(folder / "prompts.txt"),
    "plan file": lambda folder, n: open_plan(str(folder / "plan.json")),
    "encoder file": lambda folder, n: find_encoder(folder / "t5.safetensors"),
    "encoder folder": lambda folder, n: find_encoder(folder / "whole"),
    "encoder in parts": lambda folder, n: find_encoder(folder / "shards"),
    "encoder": lambda folder, n: open_encoder(folder / "t5.safetensors"),
}


@pytest.mark.parametrize("name", OPERATIONS)
def test_reading_fails_in_a_sentence_that_names_the_file(folder, name):
    ends = fail_everywhere(folder, lambda number: OPERATIONS[name](folder, number), SkrrError)
    assert len(ends) > 2
    for call, error in ends:
        assert error is None or str(folder) in str(error), call
        assert error is not None or call in ("stat", "scandir"), call  # what only asks may be told otherwise
    assert sum(error is not None for _, error in ends) >= len(ends) - 1


def test_a_pruned_file_appears_whole_or_not_at_all(folder, tiny):
    plan = plan_of(tiny.stack(layers=1).architecture)
    write_pruned(folder / "t5.safetensors", folder / "right", plan)

    def write(number):
        write_pruned(folder / "t5.safetensors", folder / f"new-{number}", plan, overwrite=True)

    ends = fail_everywhere(folder, write, SkrrError)
    assert all(error is not None or call in OFTEN_HARMLESS for call, error in ends)
    found = list(folder.glob("new-*"))
    assert 1 <= len(found) <= 4  # where the folder was there anyway, or nothing was left to remove
    assert {path.read_bytes() for path in found} == {(folder / "right").read_bytes()}
    assert {call for call, error in ends} >= {"open", "read", "readinto", "write", "fsync", "replace", "mkdir"}
    for call, error in ends:
        if call == "readinto":
            assert "t5.safetensors cannot be read" in str(error)


def test_a_search_file_that_cannot_be_touched(folder):
    def search(number):
        path = folder / f"{number}.json"
        for again in range(2):
            search = Checkpoint(path, "0" * 64)
            search.once(f"a{again}", lambda: torch.ones(2))
            search.add_level({"level": again})

    ends = fail_everywhere(folder, search, SkrrError)
    harmless = [call for call, error in ends if error is None]
    # What a killed process has left may stay.
    assert set(harmless) <= {*OFTEN_HARMLESS, "scandir", "stat"} and harmless.count("stat") <= 1
    assert {call for call, _ in ends} >= {"stat", "open", "read", "write", "tell", "fsync", "replace"}


def test_presets_that_cannot_be_read(monkeypatch, tmp_path):
    (tmp_path / "flux1-dev.json").write_bytes((presets.FOLDER / "flux1-dev.json").read_bytes())
    monkeypatch.setattr(presets, "FOLDER", tmp_path)
    ends = fail_everywhere(tmp_path, lambda number: presets.load_preset("flux1-dev"), SkrrError)
    assert {call for call, error in ends if error is not None} >= {"open", "read"}


def test_prompts_of_the_pack_that_cannot_be_read(monkeypatch, tmp_path):
    from skrr_engine.files import prompt_files

    folder = (tmp_path / "a" / "b" / "c.py")
    monkeypatch.setattr(prompt_files, "__file__", str(folder))
    with pytest.raises(SkrrError, match=r"calibration\.txt cannot be read: No such file"):
        builtin_prompts()


@pytest.mark.parametrize("kind", ["spiece.model", "tokenizer.json"])
def test_a_tokenizer_that_cannot_be_read(tmp_path, kind):
    from skrr_engine.demo.layout import TOKENIZER, WEIGHTS

    data = (WEIGHTS / TOKENIZER).read_bytes()
    if kind == "tokenizer.json":
        data = json.dumps({"version": "1.0", "model": {"type": "WordLevel", "vocab": {"a": 0}, "unk_token": "a"}})
        data = data.encode()
    (tmp_path / kind).write_bytes(data)
    for path in (tmp_path, tmp_path / kind):
        ends = fail_everywhere(tmp_path, lambda number, path=path: open_tokenizer(path, "t5"), SkrrError)
        assert all(error is not None for _, error in ends), ends


def test_a_name_that_no_disk_takes():
    with pytest.raises(SkrrError, match=r"cannot be read: File name too long\. ") as caught:
        open_plan("x" * 5000)
    assert len(str(caught.value)) < 500


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), SafetensorError("I/O error: no space")])
def test_tensors_that_cannot_be_written(tmp_path, monkeypatch, error):
    target = tmp_path / "x.safetensors"
    target.write_text("precious")

    def full(tensors, path, metadata):
        path.write_text("a part")
        raise error

    monkeypatch.setattr("skrr_engine.files.tensor_writing.save_file", full)
    with pytest.raises(SkrrError, match=r"x\.safetensors cannot be written into .*: .*space.*\. Free some space"):
        write_tensors({"a": torch.ones(2)}, target)
    assert [path.name for path in tmp_path.iterdir()] == ["x.safetensors"] and target.read_text() == "precious"
    monkeypatch.undo()
    assert write_tensors({"a": torch.ones(2)}, target, {"note": "mine"}) == target.stat().st_size
    assert torch.equal(read_tensors(target)["a"], torch.ones(2)) and read_header(target).metadata == {"note": "mine"}


@pytest.mark.parametrize("cancel", [KeyboardInterrupt, type("Cancel", (BaseException,), {}), RuntimeError])
def test_what_is_no_fault_of_the_disk_passes_unchanged(tmp_path, cancel):
    (tmp_path / "a").write_text("precious")
    for context in (disk.reading, disk.writing, disk.new_file):
        error = cancel("stop")
        with pytest.raises(cancel) as caught, context(tmp_path / "a") as temporary:
            if temporary:
                temporary.write_text("half")
            raise error
        assert caught.value is error
    assert [path.name for path in tmp_path.iterdir()] == ["a"] and (tmp_path / "a").read_text() == "precious"


def test_pictures_and_folders_that_cannot_be_made(tmp_path, monkeypatch):
    ends = fail_everywhere(
        tmp_path,
        lambda number: save_grid(
            disk.make_folder(tmp_path / str(number)) / "a.png", ["dense"], ["a fox"], torch.zeros(1, 1, 3, 8, 8),
            torch.ones(1, 1, dtype=torch.bool),
        ),
        SkrrError,
    )  # fmt: skip
    assert all(error is not None or call in (*OFTEN_HARMLESS, "stat") for call, error in ends)
    assert {call for call, error in ends if error is not None} >= {"mkdir", "open", "write", "replace"}
    (tmp_path / "taken").write_text("")
    with pytest.raises(SkrrError, match=r"The folder .*taken cannot be made: File exists\. Allow writing there"):
        disk.make_folder(tmp_path / "taken")


def test_a_clip_tokenizer_without_its_second_file(tmp_path):
    (tmp_path / "vocab.json").write_text("{}")
    with pytest.raises(SkrrError, match=r"has vocab\.json, but no merges\.txt beside it\. Put"):
        open_tokenizer(tmp_path, "clip")


def test_where_to_write_is_asked_before_the_work(tmp_path, capsys):
    command = ["search", "--encoder", "no", "--out", str(tmp_path / ("x" * 300))]
    assert main(command) == 2
    assert "cannot be read: File name too long. Check the path and who may read it." in capsys.readouterr().err
