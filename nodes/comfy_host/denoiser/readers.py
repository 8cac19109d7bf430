"""What each denoiser does first with the output of a language model (or of umT5): a line a denoiser.

A reader is a chain of the denoiser's own modules over every token by itself. Where tokens are mixed behind that (token
refiners, attention), it ends before.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch

__all__ = ["READERS", "Reader", "readers_of"]


@dataclass(frozen=True)
class Reader:
    """`model` is the denoiser's class by its name in full, `clips` the kinds of CLIP (`clip.kinds`) that it is used
    with, and `family` that of the encoder. `modules` are paths below it, run one behind the other; one that a model
    goes without is left out. `run` says how, where that is not one behind the other: (modules, values of (rows, tokens,
    states x width), width of a state) -> features."""

    model: str
    clips: tuple[str, ...]
    modules: tuple[str, ...]
    family: str = "llama"
    run: Callable | None = None

    @property
    def name(self) -> str:
        """For a plan's record: the kinds of CLIP that it reads."""
        return ", ".join(self.clips)


def _one_a_state(modules, values: torch.Tensor, width: int) -> torch.Tensor:
    """HiDream: `modules[0]` tells which state each of `modules[1]` reads; the last of these is for T5."""
    numbers, projections = modules
    states = values.unflatten(-1, (-1, width))
    return torch.cat([layer(states[..., n, :]) for n, layer in zip(numbers, projections, strict=False)], dim=-1)


def _fused(modules, values: torch.Tensor, width: int) -> torch.Tensor:
    """Krea 2: blocks over the states of one token, then one state out of all."""
    *blocks, projector = modules
    states = values.unflatten(-1, (-1, width))
    mixed = states.flatten(0, 1)
    for block in blocks:
        mixed = block(mixed.contiguous())
    return projector(mixed.transpose(1, 2)).squeeze(-1).unflatten(0, states.shape[:2])


LDM = "comfy.ldm."
READERS = (
    Reader(LDM + "lumina.model.NextDiT", ("z-image", "lumina 2", "newbie"), ("cap_embedder",)),
    Reader(LDM + "flux.model.Flux", ("flux2", "longcat", "ovis"), ("txt_norm", "txt_in")),
    Reader(LDM + "qwen_image.model.QwenImageTransformer2DModel", ("qwen-image",), ("txt_norm", "txt_in")),
    Reader(LDM + "wan.model.WanModel", ("wan",), ("text_embedding",), "t5"),
    Reader(
        LDM + "hunyuan_video.model.HunyuanVideo", ("hunyuan video", "hunyuan image"), ("txt_in.input_embedder",)
    ),
    Reader(LDM + "kandinsky5.model.Kandinsky5", ("kandinsky 5",), ("text_embeddings",)),
    Reader(
        LDM + "omnigen.omnigen2.OmniGen2Transformer2DModel", ("omnigen 2",), ("time_caption_embed.caption_embedder",)
    ),
    Reader(LDM + "boogu.model.BooguTransformer2DModel", ("boogu",), ("time_caption_embed.caption_embedder",)),
    Reader(
        LDM + "ideogram4.model.Ideogram4Transformer", ("ideogram 4",), ("llm_cond_norm", "llm_cond_proj")
    ),
    Reader(
        LDM + "krea2.model.SingleStreamDiT",
        ("krea 2",),
        ("txtfusion.layerwise_blocks.0", "txtfusion.layerwise_blocks.1", "txtfusion.projector"),
        run=_fused,
    ),
    Reader(LDM + "mage_flow.model.MageFlowTransformer2DModel", ("mage flow",), ("txt_norm", "txt_in")),
    Reader(LDM + "joyimage.model.JoyImageTransformer3DModel", ("joyimage",), ("condition_embedder.text_embedder",)),
    Reader(LDM + "minimax.model.MiniMaxH3Model", ("minimax h3",), ("condition_proj",)),
    Reader(LDM + "ernie.model.ErnieImageModel", ("ernie",), ("text_proj",)),
    Reader(LDM + "pixeldit.model.PixDiT_T2I", ("pixeldit",), ("y_embedder",)),
    Reader(
        LDM + "hidream.model.HiDreamImageTransformer2DModel",
        ("hidream",),
        ("llama_layers", "caption_projection"),
        run=_one_a_state,
    ),
)


def readers_of(diffusion_model) -> list[Reader]:
    """The readers of a denoiser, by the names of its class and of those that it is made from."""
    names = {f"{cls.__module__}.{cls.__qualname__}" for cls in type(diffusion_model).__mro__}
    return [reader for reader in READERS if reader.model in names]
