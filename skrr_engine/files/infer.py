"""An encoder's Architecture from the shapes of its tensors, without PyTorch and without a config file."""

from pathlib import Path

from ..errors import SkrrError
from ..plans.architecture import Architecture
from .header import Entry
from .tensor_names import TABLE, EncoderTensors, place_of

__all__ = ["infer_architecture"]

CLIP_HEAD_WIDTH = 64
# CLIP-L, 768 wide, has OpenAI's activation; the wider ones (H, G) come from open_clip.
QUICK_GELU_WIDTH = 768


def infer_architecture(
    encoder: EncoderTensors, file: Path, heads: int | None = None, activation: str | None = None
) -> Architecture:
    """The Architecture of a whole encoder found in `file`.

    No shape tells CLIP's heads nor any activation: `heads` and `activation` say them, else CLIP's heads are
    64 wide, gated T5 has tanh-approximated GELU, plain T5 ReLU, CLIP its usual one. Raises SkrrError when
    tensors are missing or layers differ.
    """
    layers = _check_layers(encoder, file)
    sizes = _Sizes(encoder, file)
    if encoder.family == "t5":
        return _t5(sizes, layers, activation)
    return _clip(sizes, layers, heads, activation)


class _Sizes:
    """Looks sizes up, with a sentence for what is missing. First sides only: packed 4-bit formats halve the last."""

    def __init__(self, encoder: EncoderTensors, file: Path):
        self.encoder, self.file = encoder, file

    def __contains__(self, name: str) -> bool:
        return name in self.encoder.tensors

    def shape(self, name: str, rank: int) -> tuple[int, ...]:
        entry = self.encoder.tensors.get(name)
        if entry is None or len(entry.shape) != rank:
            found = "no such tensor" if entry is None else f"shape {list(entry.shape)}"
            raise SkrrError(
                f"{self.file.name} does not hold a whole encoder: {self.encoder.prefix}{name} should have {rank} "
                f"sides, found {found}. Choose the complete text-encoder file."
            )
        return entry.shape

    def first(self, name: str, rank: int = 2) -> int:
        return self.shape(name, rank)[0]


def _check_layers(encoder: EncoderTensors, file: Path) -> int:
    """The number of layers; every layer must have both sub-blocks, each with the same parameters."""
    blocks: dict[int, dict[str, int]] = {}
    for name, entry in encoder.tensors.items():
        place = place_of(name, encoder.family)
        if place is not None:
            parameters = blocks.setdefault(place[0], {})
            if name.endswith((".weight", ".bias")) and not place[1].startswith(TABLE):
                parameters[place[1]] = _first_side(entry)
    layers = max(blocks) // 2 + 1
    for i in range(2 * layers):
        if blocks.get(i) != blocks.get(i % 2):
            raise SkrrError(
                f"{file.name} does not hold a whole encoder: sub-block {i} (layer {i // 2}) is missing or not like "
                f"sub-block {i % 2}. Choose the complete, dense text-encoder file."
            )
    return layers


def _first_side(entry: Entry) -> int:
    return entry.shape[0] if entry.shape else 1


def _split(inner: int, heads: int, file: Path) -> int:
    if heads < 1 or inner % heads:
        raise SkrrError(f"{file.name}: {inner} values cannot be split into {heads} heads. Check the number of heads.")
    return inner // heads


def _t5(sizes: _Sizes, layers: int, activation: str | None) -> Architecture:
    positions, table_heads = sizes.shape(f"encoder.block.0.layer.0.{TABLE}weight", 2)
    gated = "encoder.block.0.layer.1.DenseReluDense.wi_0.weight" in sizes
    inner = sizes.first("encoder.block.0.layer.0.SelfAttention.q.weight")
    shared = "shared.weight" if "shared.weight" in sizes else "encoder.embed_tokens.weight"
    every = f"encoder.block.1.layer.0.{TABLE}weight" in sizes
    return Architecture(
        family="t5",
        layers=layers,
        width=sizes.first("encoder.final_layer_norm.weight", 1),
        feed_forward=sizes.first(f"encoder.block.0.layer.1.DenseReluDense.{'wi_0' if gated else 'wi'}.weight"),
        heads=table_heads,
        head_width=_split(inner, table_heads, sizes.file),
        vocabulary=sizes.first(shared),
        activation=activation or ("gelu_tanh" if gated else "relu"),
        gated=gated,
        position_bias="every" if every else "first",
        positions=positions,
    )


def _clip(sizes: _Sizes, layers: int, heads: int | None, activation: str | None) -> Architecture:
    width = sizes.first("text_model.final_layer_norm.weight", 1)
    if heads is None and width % CLIP_HEAD_WIDTH:
        raise SkrrError(
            f"{sizes.file.name} holds a CLIP {width} wide; its number of heads can be guessed for multiples of "
            f"{CLIP_HEAD_WIDTH} only. Give the number of heads (--heads)."
        )
    heads = heads or width // CLIP_HEAD_WIDTH
    return Architecture(
        family="clip",
        layers=layers,
        width=width,
        feed_forward=sizes.first("text_model.encoder.layers.0.mlp.fc1.weight"),
        heads=heads,
        head_width=_split(width, heads, sizes.file),
        vocabulary=sizes.first("text_model.embeddings.token_embedding.weight"),
        activation=activation or ("quick_gelu" if width <= QUICK_GELU_WIDTH else "gelu"),
        gated=False,
        position_bias="absolute",
        positions=sizes.first("text_model.embeddings.position_embedding.weight"),
        projection=sizes.first("text_projection.weight") if "text_projection.weight" in sizes else 0,
    )
