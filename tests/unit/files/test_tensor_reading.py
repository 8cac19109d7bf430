"""Tensors by plain reads: what safetensors' own reader gives, and no byte beside them."""

import os

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from skrr_engine.errors import SkrrError
from skrr_engine.files import tensor_reading
from skrr_engine.files.header import BITS, read_header
from skrr_engine.files.tensor_reading import DTYPES, TensorReader

GENERATOR = torch.Generator().manual_seed(0)


def values(dtype, *shape):
    if dtype == torch.bool:
        return torch.randint(0, 2, shape, generator=GENERATOR).bool()
    return torch.randint(0, 100, shape, generator=GENERATOR).to(dtype)


@pytest.fixture
def file(tmp_path):
    """One tensor of each dtype and of odd shapes."""
    state = {name: values(dtype, 3, 5) for name, dtype in DTYPES.items()}
    state |= {"scalar": torch.tensor(2.5), "empty": torch.zeros(0, 4), "one": torch.ones(1, dtype=torch.bfloat16)}
    save_file(state, tmp_path / "x.safetensors")
    return tmp_path / "x.safetensors"


def bits(tensor):
    return tensor.reshape(-1).view(torch.uint8)


def test_every_dtype_is_read_as_it_is_stored(file):
    header = read_header(file)
    with TensorReader(header) as reader, safe_open(file, "pt") as opened:
        for name in header.tensors:
            found, wanted = reader.read(name), opened.get_tensor(name)
            assert (found.dtype, found.shape) == (wanted.dtype, wanted.shape)
            assert torch.equal(bits(found), bits(wanted))
        assert reader.asked == sum(entry.bytes for entry in header.tensors.values())
    assert DTYPES.keys() <= BITS.keys()


@pytest.mark.parametrize("buffer", [16, 1 << 20])
@pytest.mark.parametrize("stored", [torch.float32, torch.float16, torch.bfloat16, torch.float8_e4m3fn])
@pytest.mark.parametrize("wanted", [torch.float32, torch.float16, torch.bfloat16, torch.float8_e4m3fn])
def test_conversion_in_pieces_is_conversion(tmp_path, monkeypatch, buffer, stored, wanted):
    monkeypatch.setattr(tensor_reading, "BUFFER", buffer)
    tensor = torch.randn(7, 11, generator=GENERATOR).to(stored)
    save_file({"a": tensor, "scalar": tensor[0, 0].clone()}, tmp_path / "x.safetensors")
    with TensorReader(read_header(tmp_path / "x.safetensors")) as reader:
        for name, right in (("a", tensor), ("scalar", tensor[0, 0])):
            found = reader.read(name, wanted)
            assert found.dtype == wanted and found.shape == right.shape
            assert torch.equal(bits(found), bits(right.to(wanted)))


def test_only_the_ranges_of_the_tensors_are_read(file, monkeypatch):
    """By what the operating system is asked for."""
    header, asked = read_header(file), []
    entry = header.tensors["F32"]
    with TensorReader(header) as reader:
        usual = reader.file

        class Watched:
            def seek(self, place):
                self.place = place
                return usual.seek(place)

            def readinto(self, target):
                count = usual.readinto(target)
                asked.append((self.place, count))
                self.place += count
                return count

        reader.file = Watched()
        reader.read("F32")
        reader.file = usual
    assert asked == [(header.data_at + entry.start, entry.bytes)]


def test_short_reads_go_on(file):
    """A read may bring less than was asked for."""
    header = read_header(file)
    with TensorReader(header) as reader:
        usual = reader.file

        class Slow:
            seek = staticmethod(usual.seek)

            @staticmethod
            def readinto(target):
                return usual.readinto(target[:3])

        reader.file = Slow()
        found = reader.read("F32")
        reader.file = usual
        assert torch.equal(found, reader.read("F32"))


def test_what_cannot_be_read_is_a_sentence(file):
    header = read_header(file)
    with open(file, "ab") as longer:
        longer.write(b"x")
    with pytest.raises(SkrrError, match=r"x.safetensors changed while it was read"), TensorReader(header):
        pass
    os.truncate(file, header.file_bytes)
    with TensorReader(header) as reader:
        os.truncate(file, header.data_at)
        with pytest.raises(SkrrError, match=r"x.safetensors became shorter while it was read"):
            reader.read("F32")
    file.unlink()
    with pytest.raises(SkrrError, match="cannot be read"), TensorReader(header):
        pass


def test_a_dtype_that_pytorch_lacks_is_a_sentence(tmp_path):
    text = b'{"a":{"dtype":"F4","shape":[2],"data_offsets":[0,1]}}'
    (tmp_path / "x.safetensors").write_bytes(len(text).to_bytes(8, "little") + text + b"\0")
    with (
        TensorReader(read_header(tmp_path / "x.safetensors")) as reader,
        pytest.raises(SkrrError, match="stores a as F4, which this PyTorch cannot hold"),
    ):
        reader.read("a")


@pytest.mark.parametrize("error", [OSError(5, "Input/output error"), KeyboardInterrupt()])
def test_a_read_that_fails_midway_is_a_sentence_and_a_cancel_stays_one(file, error):
    with TensorReader(read_header(file)) as reader:
        usual = reader.file

        class Broken:
            seek = staticmethod(usual.seek)

            @staticmethod
            def readinto(target):
                raise error

        reader.file = Broken()
        words = "cannot be read: Input/output error. Check its disk"
        expected = (SkrrError, words) if isinstance(error, OSError) else (type(error), "^$")
        with pytest.raises(expected[0], match=expected[1]):
            reader.read("F32")
        reader.file = usual
