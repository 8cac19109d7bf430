"""The stages in their order; each reads what the ones before left in the work folder and writes one file there."""

from collections.abc import Callable
from pathlib import Path

from safetensors.torch import load_file, save_file

from ...opening.open_encoder import open_encoder
from ...opening.tokenizing import open_tokenizer
from ...running.checkpoint import write_atomically
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
    tensors = train_encoder((folder / "spiece.model").read_bytes(), folder, seed, log)
    save_file({name: value.half() for name, value in tensors.items()}, folder / "encoder.safetensors")


def _autoencoder(folder: Path, seed: int, log) -> None:
    tensors = train_autoencoder(folder, seed, log)
    save_file({name: value.half().contiguous() for name, value in tensors.items()}, folder / "autoencoder.safetensors")


def _denoiser(folder: Path, seed: int, log) -> None:
    encoder, tokenizer = open_encoder(folder / "encoder.safetensors"), open_tokenizer(folder / "spiece.model", "t5")
    pictures = Autoencoder().eval()
    pictures.load_state_dict({k: v.float() for k, v in load_file(folder / "autoencoder.safetensors").items()})
    tensors = train_denoiser(
        lambda captions: encode_texts(encoder.stack, tokenizer, captions, encoder.assignment),
        pictures.encode,
        folder, seed, log,
    )  # fmt: skip
    save_file({name: value.half() for name, value in tensors.items()}, folder / "denoiser.safetensors")


def _export(folder: Path, seed: int, log) -> None:
    export(folder, WEIGHTS)
    log(f"export: written into {WEIGHTS.name}")


STAGES: dict[str, Callable] = {
    "tokenizer": _tokenizer, "encoder": _encoder, "autoencoder": _autoencoder, "denoiser": _denoiser,
    "export": _export,
}  # fmt: skip
