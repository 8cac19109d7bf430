"""A small pipeline with random weights, in the files and shapes of the shipped one: it draws noise, but all of it
runs. For tests that need the machinery and not the pictures."""

from pathlib import Path

import torch
from safetensors.torch import save_file
from transformers import T5Config, T5EncoderModel

from skrr_engine.demo.autoencoder import Autoencoder
from skrr_engine.demo.denoiser import Denoiser
from skrr_engine.demo.layout import AUTOENCODER, DENOISER, ENCODER, T5_SHAPE, TOKENIZER, WEIGHTS
from skrr_engine.demo.training.texts import train_tokenizer

__all__ = ["write_random_pipeline"]


def write_random_pipeline(folder: Path, seed: int = 0, layers: int = 8) -> Path:
    """Writes encoder, tokenizer, denoiser and autoencoder into `folder`, so that `Pipeline(folder)` opens them;
    returns it. The encoder has fewer layers than the shipped one, as each of a search's costs time. The tokenizer is
    the shipped one; where there is none yet it is trained, which takes seconds."""
    folder.mkdir(parents=True, exist_ok=True)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        config = T5Config(**T5_SHAPE | {"num_layers": layers}, feed_forward_proj="gated-gelu")
        encoder = T5EncoderModel(config).state_dict()
        encoder.pop("encoder.embed_tokens.weight")
        _save(encoder, folder / ENCODER)
        _save(Denoiser().state_dict(), folder / DENOISER)
        _save(Autoencoder().state_dict(), folder / AUTOENCODER)
    shipped = WEIGHTS / TOKENIZER
    (folder / TOKENIZER).write_bytes(shipped.read_bytes() if shipped.exists() else train_tokenizer(seed))
    return folder


def _save(tensors: dict[str, torch.Tensor], path: Path) -> None:
    save_file({name: value.half().contiguous() for name, value in tensors.items()}, path)
