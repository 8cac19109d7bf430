"""The small pipeline as the engine runs it, without ComfyUI: captions -> encoder -> denoiser -> pictures."""

from collections.abc import Sequence
from pathlib import Path

import torch

from ..files.tensor_reading import read_tensors
from ..measure.execute import Assignment
from ..measure.projection import Projection
from ..opening.open_encoder import OpenEncoder, open_encoder
from ..opening.projection_files import open_projection
from ..opening.tokenizing import Tokenizer, open_tokenizer
from .autoencoder import Autoencoder
from .denoiser import TEXT_WIDTH, Denoiser
from .encoding import encode_texts
from .layout import AUTOENCODER, DENOISER, ENCODER, TOKENIZER, WEIGHTS
from .sampling import sample, seeded_noise

__all__ = ["Pipeline"]

LATENTS = (4, 8, 8)
PICTURES_AT_ONCE = 32


class Pipeline:
    """Everything opened once. `encoder`, `projection` and `tokenizer` are what a search takes."""

    def __init__(self, folder: Path = WEIGHTS):
        """Reads the shipped weights, or others of the same layout in `folder`."""
        self.encoder: OpenEncoder = open_encoder(folder / ENCODER)
        self.tokenizer: Tokenizer = open_tokenizer(folder / TOKENIZER, "t5")
        self.projection: Projection = open_projection(folder / DENOISER, TEXT_WIDTH)
        self.denoiser, self.autoencoder = Denoiser().eval(), Autoencoder().eval()
        # Scales that only ComfyUI's classes read, and its unused learned null caption.
        _load(self.denoiser, folder / DENOISER, {"y_embedder.y_embedding"})
        _load(self.autoencoder, folder / AUTOENCODER, {"vae_scale", "vae_shift"})
        # Two thirds of the time of its convolutions.
        self.autoencoder.to(memory_format=torch.channels_last)

    def text(self, captions: Sequence[str], assignment: Assignment | None = None) -> tuple[torch.Tensor, torch.Tensor]:
        """The encoder's output for `captions` under `assignment` (None: dense) and which positions are text:
        (captions, tokens, TEXT_WIDTH) float32 and (captions, tokens) bool."""
        return encode_texts(self.encoder.stack, self.tokenizer, captions, assignment or self.encoder.assignment)

    @torch.no_grad()
    def pictures(
        self,
        captions: Sequence[str],
        seeds: Sequence[int],
        assignment: Assignment | None = None,
        steps: int = 20,
        guidance: float = 4.0,
        report=lambda done: None,
    ) -> torch.Tensor:
        """One picture a caption, (captions, 3, 64, 64) from 0 to 1; prompt and null prompt both go through the
        encoder under `assignment`. `report(done)` hears the number of pictures ready."""
        made = []
        for at in range(0, len(captions), PICTURES_AT_ONCE):
            text, mask = self.text([*captions[at : at + PICTURES_AT_ONCE], ""], assignment)
            said, null = text[:-1], text[-1:].expand(len(text) - 1, -1, -1)
            both, there = torch.cat([said, null]), torch.cat([mask[:-1], mask[-1:].expand(len(text) - 1, -1)])
            noise = seeded_noise(seeds[at : at + PICTURES_AT_ONCE], LATENTS)
            latents = sample(lambda x, t: self.denoiser(x, t, both, there), noise, steps, guidance)  # noqa: B023
            made.append(self.autoencoder.decode(latents.contiguous(memory_format=torch.channels_last)).clamp(0, 1))
            report(at + len(said))
        return torch.cat(made)


def _load(model: torch.nn.Module, path: Path, beside: set[str]) -> None:
    """Fills `model` from a file, as float32; what else is there must be in `beside`."""
    tensors = {name: value.float() for name, value in read_tensors(path).items() if name not in beside}
    model.load_state_dict(tensors)

