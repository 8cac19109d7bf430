"""The strict reader of safetensors headers against the library's writer and against attacks."""

import json
import struct

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save, save_file

from skrr_engine.errors import SkrrError
from skrr_engine.files.header import read_header


def raw(header, data=b"", length=None):
    """A file of that header (text or JSON value) and data."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + data


def tensor(start, end, dtype="U8", shape=None):
    return {"dtype": dtype, "shape": [end - start] if shape is None else shape, "data_offsets": [start, end]}


def test_what_the_library_writes_is_read(tmp_path):
    dtypes = [
        torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.int64, torch.int32, torch.int16,
        torch.int8, torch.uint8, torch.bool, torch.float8_e4m3fn, torch.float8_e5m2,
    ]  # fmt: skip
    named = {f"t{n}": torch.zeros(n % 3, 2).to(dtype) for n, dtype in enumerate(dtypes)}
    named["scalar"] = torch.tensor(1.0)
    save_file(named, tmp_path / "a.safetensors", {"format": "pt"})
    found = read_header(tmp_path / "a.safetensors")
    assert dict(found.metadata) == {"format": "pt"}
    assert {name: entry.shape for name, entry in found.tensors.items()} == {n: tuple(t.shape) for n, t in named.items()}
    assert {name: entry.bytes for name, entry in found.tensors.items()} == {n: t.nbytes for n, t in named.items()}
    assert found.file_bytes == (tmp_path / "a.safetensors").stat().st_size


def test_a_file_without_tensors_is_sound(tmp_path):
    (tmp_path / "a").write_bytes(raw({}))
    assert dict(read_header(tmp_path / "a").tensors) == {}


def test_an_unknown_dtype_is_only_checked_for_its_place(tmp_path):
    (tmp_path / "a").write_bytes(raw({"a": tensor(0, 3, "F3_NEW", [7]), "b": tensor(3, 4)}, b"1234"))
    assert read_header(tmp_path / "a").tensors["a"].bytes == 3


def test_4_bit_elements_are_counted_in_bits(tmp_path):
    (tmp_path / "a").write_bytes(raw({"a": tensor(0, 3, "F4", [6])}, b"123"))
    assert read_header(tmp_path / "a").tensors["a"].shape == (6,)


ONE = {"a": tensor(0, 4)}
ATTACKS = {
    "empty": (b"", "not a safetensors file: of its 0 bytes"),
    "seven bytes": (b"1234567", "not a safetensors file"),
    "pickle": (b"PK\x03\x04" + b"\0" * 50, "not a safetensors file: .* convert .pt, .bin and .gguf files first"),
    "header longer than file": (raw(ONE, b"1234", length=1000), "not a safetensors file: .* 1000 would be header"),
    "header over the limit": (raw(ONE, b"1234", length=(1 << 63) + 5), "9223372036854775813 would be header"),
    "no header": (raw(b"", length=0), "not a safetensors file"),
    "no JSON": (raw(b"{nonsense"), "header is not JSON"),
    "no UTF-8": (raw(b'{"\xff": 1}'), r"header is not JSON \(UnicodeDecodeError\)"),
    "deep nesting": (raw(b'{"a":' + b"[" * 100_000), r"header is not JSON \(RecursionError\)"),
    "endless integer": (raw(b'{"a":' + b"1" * 5000 + b"}"), "header is not JSON"),
    "NaN": (raw(b'{"a": NaN}'), "header holds the number NaN"),
    "list": (raw(b"[1]"), "header is not a JSON object"),
    "leading space": (raw(b" {}"), "header is not a JSON object"),
    "same tensor twice": (raw(b'{"a": {}, "a": {}}'), "names something twice"),
    "same field twice": (raw(b'{"a": {"dtype": "U8", "dtype": "U8"}}'), "names something twice"),
    "metadata a list": (raw({"__metadata__": []}), "__metadata__ is not an object of texts"),
    "metadata of numbers": (raw({"__metadata__": {"a": 1}}), "__metadata__ is not an object of texts"),
    "entry a number": (raw({"a": 1}), "tensor a needs exactly dtype, shape and data_offsets"),
    "entry lacks shape": (raw({"a": {"dtype": "U8", "data_offsets": [0, 0]}}), "needs exactly"),
    "entry has more": (raw({"a": {**tensor(0, 0), "x": 1}}), "needs exactly"),
    "dtype a number": (raw({"a": tensor(0, 0, 8)}), "has dtype 8, expected text"),
    "shape a number": (raw({"a": tensor(0, 4, shape=4)}, b"1234"), "has shape 4, expected whole numbers"),
    "shape of booleans": (raw({"a": tensor(0, 1, shape=[True])}, b"1"), "has shape .* expected whole numbers"),
    "shape negative": (raw({"a": tensor(0, 4, shape=[-2, -2])}, b"1234"), "has shape .* expected whole numbers"),
    "shape huge": (raw({"a": tensor(0, 4, shape=[10**400])}, b"1234"), "has shape .* expected whole numbers"),
    "shape endless": (raw({"a": tensor(0, 1, shape=[1] * 33)}, b"1"), "has shape .* expected whole numbers"),
    "offsets of three": (raw({"a": {**tensor(0, 4), "data_offsets": [0, 2, 4]}}, b"1234"), r"expected \[start, end\]"),
    "offsets backwards": (raw({"a": tensor(4, 0, shape=[0])}, b"1234"), r"lies at \[4, 0\]"),
    "offsets negative": (raw({"a": tensor(-4, 0)}, b"1234"), r"lies at \[-4, 0\]"),
    "offsets fractional": (raw({"a": tensor(0.0, 4.0, shape=[4])}, b"1234"), "lies at"),
    "size and shape disagree": (raw({"a": tensor(0, 4, "F32", [2])}, b"1234"), "in F32 takes 8"),
    "hole at the start": (raw({"a": tensor(2, 4)}, b"1234"), "leaves a hole before it"),
    "hole between": (raw({"a": tensor(0, 1), "b": tensor(2, 4)}, b"1234"), "tensor b at byte 2 leaves a hole"),
    "overlap": (raw({"a": tensor(0, 3), "b": tensor(2, 4)}, b"1234"), "tensor b at byte 2 overlaps"),
    "the same bytes twice": (raw({"a": tensor(0, 4), "b": tensor(0, 4)}, b"1234"), "overlaps"),
    "cut off": (raw(ONE, b"123"), "cut off: its tensors take 4 bytes, the file holds 3"),
    "bytes behind": (raw(ONE, b"12345"), "has bytes that belong to no tensor"),
}  # fmt: skip


@pytest.mark.parametrize("content, sentence", ATTACKS.values(), ids=ATTACKS.keys())
def test_attacks_are_refused_with_the_name_of_the_file(tmp_path, content, sentence):
    path = tmp_path / "model.safetensors"
    path.write_bytes(content)
    with pytest.raises(SkrrError, match=sentence) as error:
        read_header(path)
    assert str(error.value).startswith("model.safetensors is ")
    assert len(str(error.value)) < 300


@pytest.mark.parametrize("path", ["nothing.safetensors", "."])
def test_a_file_that_cannot_be_read(tmp_path, path):
    with pytest.raises(SkrrError, match=r"cannot be read: .* Check the path"):
        read_header(tmp_path / path)


SOUND = save({"a": torch.arange(6.0), "b": torch.zeros(3, dtype=torch.uint8)}, {"note": "x"})


@given(st.data())
@settings(max_examples=200, deadline=None)
def test_random_damage_is_either_harmless_or_a_sentence(tmp_path_factory, data):
    content = bytearray(SOUND)
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path = tmp_path_factory.getbasetemp() / "damaged.safetensors"
    path.write_bytes(content[: data.draw(st.integers(0, len(content)))] if data.draw(st.booleans()) else content)
    try:
        header = read_header(path)
    except SkrrError:
        return
    assert sum(entry.bytes for entry in header.tensors.values()) == header.file_bytes - header.data_at
