"""What the benchmark of the search searches: the trained small encoder, and random T5s made on the spot."""

import json
import random
from pathlib import Path

import torch
from transformers import T5Config, T5EncoderModel

from skrr_engine.encoders.t5 import T5Stack
from skrr_engine.measure.calibration import Row, make_calibration
from skrr_engine.measure.objective import Objective
from skrr_engine.measure.projection import linear_chain, no_projection
from skrr_engine.opening.open_encoder import open_encoder
from skrr_engine.opening.projection_files import open_projection
from skrr_engine.opening.tokenizing import calibrate, open_tokenizer
from skrr_engine.plans.plan import Cut, Plan

__all__ = ["RandomCase", "TrainedCase", "by_size"]


def by_size(plan: Plan, slot: str) -> dict[int, Cut]:
    """Number of skipped sub-blocks -> the cut of that level, ascending."""
    cuts = [level.cuts[slot] for level in plan.levels]
    return {len(cut.skip): cut for cut in sorted(cuts, key=lambda cut: len(cut.skip))}


class TrainedCase:
    """An encoder out of files: draws of calibration prompts, and prompts held out from all of them."""

    def __init__(self, encoder: Path, tokenizer: Path, denoiser: Path | None, prompts: Path | None, held_out: int):
        self.name = encoder.name
        self.stack = open_encoder(encoder).stack
        shape = self.stack.architecture
        self.tokenizer = open_tokenizer(tokenizer, "t5")
        self.projection = open_projection(denoiser, shape.width) if denoiser else no_projection(("sequence",))
        self.texts = read_texts(prompts) if prompts else None
        self.held_out = self._objective(self._texts(held_out, "held out"))

    def objective(self, prompts: int, draw: int) -> Objective:
        """Over `prompts` prompts of draw number `draw`."""
        return self._objective(self._texts(prompts, draw))

    def _texts(self, count: int, draw) -> list[str]:
        """From the file, its last tenth held out; else captions of the demo's world."""
        if self.texts is None:
            from skrr_engine.demo.world.scoring import calibration_captions

            return calibration_captions(count, f"benchmark {draw}")
        middle = len(self.texts) * 9 // 10
        part = self.texts[middle:] if draw == "held out" else self.texts[:middle]
        return random.Random(str(draw)).sample(part, min(count, len(part)))

    def _objective(self, texts: list[str]) -> Objective:
        return Objective(self.stack, calibrate(texts, self.tokenizer, self.stack.architecture), self.projection)


class RandomCase:
    """A random T5 of `layers` layers, `width` wide, with sub-blocks that matter unequally, over random tokens."""

    def __init__(self, layers: int, width: int, seed: int = 0, dtype: torch.dtype = torch.float32):
        self.name = f"random T5, {layers} layers, {width} wide, {str(dtype).removeprefix('torch.')}"
        config = T5Config(
            num_layers=layers, d_model=width, d_kv=max(4, width // 8), d_ff=width * 5 // 2, num_heads=8,
            vocab_size=512, feed_forward_proj="gated-gelu",
        )  # fmt: skip
        model = T5EncoderModel(config).to(dtype).eval()
        self.generator = torch.Generator().manual_seed(seed)
        for name, parameter in model.named_parameters():
            noise = torch.randn(parameter.shape, generator=self.generator, dtype=dtype)
            if parameter.dim() == 1:
                noise = 1 + 0.1 * noise
            elif "block" in name and "bias" not in name:
                noise *= (0.2 + torch.rand(1, generator=self.generator).item()) / parameter.shape[1] ** 0.5
            parameter.data.copy_(noise)
        self.stack = T5Stack(model)
        weight = torch.randn(width // 2, width, generator=self.generator, dtype=dtype) / width**0.5
        self.projection = linear_chain("random", [(weight, None)], dtype)

    def objective(self, prompts: int, draw: int, length: int = 8) -> Objective:
        """Over `prompts` prompts of `length` tokens or so."""
        sampler = random.Random(draw)
        rows = []
        for number in range(prompts):
            tokens = [sampler.randrange(2, 512) for _ in range(sampler.randrange(length // 2, 3 * length // 2))]
            rows.append(Row((*tokens, 1), number, {"sequence": (1 / (len(tokens) + 1),) * (len(tokens) + 1)}))
        null = Row((1,), 0, {"sequence": (1.0,)})
        calibration = make_calibration([str(n) for n in range(prompts)], rows, [null])
        return Objective(self.stack, calibration, self.projection)


def read_texts(path: Path) -> list[str]:
    """The prompts of a file: one a line, or JSON lines with a "text"."""
    lines = path.read_text(encoding="utf-8").splitlines()
    return [json.loads(line)["text"] if path.suffix == ".jsonl" else line for line in lines if line.strip()]
