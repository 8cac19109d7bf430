"""The stages in their order; each reads what the ones before left in the work folder and writes one file there."""

from collections.abc import Callable
from pathlib import Path

from ...disk import reading, write_atomically
from ...files.tensor_reading import read_tensors
from ...files.tensor_writing import write_tensors
from ...opening.open_encoder import open_encoder
from ...opening.tokenizing import open_tokenizer
from ..autoencoder import Autoencoder
from ..encoding import encode_texts
from ..layout import WEIGHTS
from .autoencoder import train_autoencoder
from .denoiser import train_denoiser
from .encoder import train_encoder
from .export import export
from .texts import train_tokenizer

__all__ = ["STAGES"]


def _tokenizer(folder: Path, seed: int, log) -> None:
    write_atomically(folder / "spiece.model", train_tokenizer(seed))
    log("tokenizer: written")


def _encoder(folder: Path, seed: int, log) -> None:
    path = folder / "spiece.model"
    with reading(path, "Run the stage tokenizer first."):
        pieces = path.read_bytes()
    tensors = train_encoder(pieces, folder, seed, log)
    write_tensors({name: value.half() for name, value in tensors.items()}, folder / "encoder.safetensors")


def _autoencoder(folder: Path, seed: int, log) -> None:
    tensors = train_autoencoder(folder, seed, log)
    write_tensors({name: value.half() for name, value in tensors.items()}, folder / "autoencoder.safetensors")


def _denoiser(folder: Path, seed: int, log) -> None:
    encoder, tokenizer = open_encoder(folder / "encoder.safetensors"), open_tokenizer(folder / "spiece.model", "t5")
    pictures = Autoencoder().eval()
    pictures.load_state_dict({k: v.float() for k, v in read_tensors(folder / "autoencoder.safetensors").items()})
    tensors = train_denoiser(
        lambda captions: encode_texts(encoder.stack, tokenizer, captions, encoder.assignment),
        pictures.encode,
        folder, seed, log,
    )  # fmt: skip
    write_tensors({name: value.half() for name, value in tensors.items()}, folder / "denoiser.safetensors")


def _export(folder: Path, seed: int, log) -> None:
    export(folder, WEIGHTS)
    log(f"export: written into {WEIGHTS.name}")


STAGES: dict[str, Callable] = {
    "tokenizer": _tokenizer, "encoder": _encoder, "autoencoder": _autoencoder, "denoiser": _denoiser,
    "export": _export,
}  # fmt: skip
