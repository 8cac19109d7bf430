"""Skrr Save Encoder without a plan: a file without the free parts, which Skrr CLIP Loader opens again bit for bit, and
which ComfyUI's own loader refuses instead of running what was never filled."""

import pytest
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from ..steps import without_free
from .test_file_formats import assert_same
from .test_language_models import dense_of, encoded, files_of, same  # noqa: F401 (files_of is a fixture)


def written(pack, clip, folder, slot="largest"):
    """(the file, what the node says)."""
    saved = pack("nodes.save").SkrrSaveEncoder.execute(clip, slot, "small", False, True)
    return folder / "small.safetensors", saved.args[0]


@pytest.mark.parametrize("name", ["Qwen-Image", "Boogu", "Lumina 2"])
def test_a_file_without_free_parts_opens_again(pack, files_of, tmp_path, name):  # noqa: F811
    paths, kind = files_of(name)
    dense, load = dense_of(paths, kind), pack("nodes.comfy_host.files.loading").load_kept
    wanted, loaded, cut = encoded(dense, name), load(paths, kind), without_free(pack, dense)
    small, said = written(pack, cut.clip, tmp_path)
    twin = written(pack, loaded.clip, tmp_path)
    assert twin == (small, said) and "parts left out that no picture reads" in said
    with safe_open(small, "pt") as saved, safe_open(paths[0], "pt") as whole:
        assert set(saved.keys()) == set(whole.keys())  # those of the free parts are of no size
        sizes = {key: saved.get_tensor(key).numel() for key in saved.keys()}
        same({k: saved.get_tensor(k) for k in sizes if sizes[k]}, {k: whole.get_tensor(k) for k in sizes if sizes[k]})
    assert sum(part.size for part in cut.free if part.kind != "table") > 0
    opened = load([small], kind)
    same(encoded(opened.clip, name), wanted)
    assert_same(opened.clip, cut.clip)
    assert opened.free == cut.free
    assert (opened.clip_bytes, opened.encoder_bytes) == (cut.clip_bytes, cut.encoder_bytes)
    with pytest.raises(RuntimeError, match=r"size mismatch|Error\(s\) in loading"):
        dense_of([small], kind)


def test_what_was_not_written_is_asked_for_in_a_sentence(pack, files_of, tmp_path):  # noqa: F811
    paths, kind = files_of("Qwen-Image")
    error, load = pack("skrr_engine.errors").SkrrError, pack("nodes.comfy_host.files.loading").load_kept
    small, _ = written(pack, load(paths, kind).clip, tmp_path)
    with pytest.raises(error, match=r"small.safetensors was written without parts that this needs.*switch pictures"):
        load([small], kind, pictures=True)
    dense = dense_of(paths, kind)
    with pytest.raises(error, match="qwen25_7b"):
        written(pack, dense, tmp_path)
    state = load_file(small)
    for text in ("{", "[]", '{"tensors": {"a": ["F16", [-1]]}, "sizes": {}}', '{"tensors": {"a": 3}, "sizes": {}}'):
        save_file(state, small, {"skrr_free": text})
        with pytest.raises(error, match=r"small.safetensors is damaged: its list of free parts"):
            load([small], kind)
