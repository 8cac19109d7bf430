"""The shape of a text encoder, as far as a plan depends on it, and the parameter counts that follow from it."""

from dataclasses import asdict, dataclass, fields

from ..errors import PlanError

__all__ = ["ATTENTION", "FEED_FORWARD", "Architecture", "kind_of"]

ATTENTION = "attention"
FEED_FORWARD = "feed-forward"

FAMILIES = ("t5", "clip")
POSITION_BIASES = ("first", "every", "absolute")
ACTIVATIONS = ("gelu_tanh", "gelu", "relu", "quick_gelu")
MAX_LAYERS = 256
MAX_SIZE = 1 << 24


def kind_of(index: int) -> str:
    """Sub-block `index` is attention if even, feed-forward if odd (two a layer)."""
    return ATTENTION if index % 2 == 0 else FEED_FORWARD


@dataclass(frozen=True)
class Architecture:
    """Everything that must agree between a plan and an encoder before one is applied to the other.

    `position_bias` tells T5 ("first": one relative table, in layer 0) from umT5 ("every": one table in each
    attention) and CLIP ("absolute": learned positions beside the embedding). `positions` counts relative
    buckets for T5 and absolute positions for CLIP. `projection` is the width of a text projection that the
    host keeps inside the encoder (0: none); hosts differ in it, so it never makes a mismatch.
    """

    family: str
    layers: int
    width: int
    feed_forward: int
    heads: int
    head_width: int
    vocabulary: int
    activation: str
    gated: bool
    position_bias: str
    positions: int
    projection: int = 0

    def __post_init__(self):
        if self.family not in FAMILIES:
            raise PlanError(f"Encoder family {self.family!r} is unknown; this version knows {', '.join(FAMILIES)}.")
        if self.position_bias not in POSITION_BIASES:
            raise PlanError(
                f"Position bias {self.position_bias!r} is unknown; expected one of {', '.join(POSITION_BIASES)}."
            )
        if self.activation not in ACTIVATIONS:
            raise PlanError(f"Activation {self.activation!r} is unknown; expected one of {', '.join(ACTIVATIONS)}.")
        for name in ("layers", "width", "feed_forward", "heads", "head_width", "vocabulary", "positions"):
            limit = MAX_LAYERS if name == "layers" else MAX_SIZE
            if not 1 <= getattr(self, name) <= limit:
                raise PlanError(f"Architecture field {name} is {getattr(self, name)}; expected 1 to {limit}.")
        if not 0 <= self.projection <= MAX_SIZE:
            raise PlanError(f"Architecture field projection is {self.projection}; expected 0 to {MAX_SIZE}.")

    @property
    def sub_blocks(self) -> int:
        """Number of sub-blocks: two a layer."""
        return 2 * self.layers

    @property
    def attention_parameters(self) -> int:
        """Parameters of one attention sub-block, its norm included (and its own bias table in umT5)."""
        inner = self.heads * self.head_width
        if self.family == "clip":
            return 4 * (self.width * inner + inner) + 2 * self.width
        table = self.positions * self.heads if self.position_bias == "every" else 0
        return 4 * self.width * inner + self.width + table

    @property
    def feed_forward_parameters(self) -> int:
        """Parameters of one feed-forward sub-block, its norm included."""
        if self.family == "clip":
            return 2 * self.width * self.feed_forward + self.feed_forward + 3 * self.width
        return (3 if self.gated else 2) * self.width * self.feed_forward + self.width

    @property
    def total_parameters(self) -> int:
        """Parameters of the whole encoder, embedding included: the denominator of every sparsity."""
        blocks = self.layers * (self.attention_parameters + self.feed_forward_parameters)
        if self.family == "clip":
            ends = (self.vocabulary + self.positions + 2 + self.projection) * self.width
        else:
            table = self.positions * self.heads if self.position_bias == "first" else 0
            ends = self.vocabulary * self.width + self.width + table
        return blocks + ends

    def parameters_of(self, indices) -> int:
        """Parameters removed by skipping the sub-blocks `indices`."""
        return sum(self.attention_parameters if i % 2 == 0 else self.feed_forward_parameters for i in indices)

    def sparsity(self, indices) -> float:
        """Parameters removed by skipping `indices` ÷ all parameters of the encoder."""
        return self.parameters_of(indices) / self.total_parameters

    def differences(self, other: "Architecture") -> list[str]:
        """How `other` differs, as "field expected -> found" phrases; empty when a plan for one fits the other."""
        return [
            f"{f.name.replace('_', ' ')} {getattr(self, f.name)} -> {getattr(other, f.name)}"
            for f in fields(self)
            if f.name != "projection" and getattr(self, f.name) != getattr(other, f.name)
        ]

    def describe(self) -> str:
        """One line for people: family, layers and widths."""
        name = {"every": "umT5", "first": "T5"}.get(self.position_bias, "CLIP")
        return (
            f"{name} text encoder, {self.layers} layers, {self.width} wide, feed-forward {self.feed_forward}, "
            f"{self.heads} heads, vocabulary {self.vocabulary}"
        )

    def to_json(self) -> dict:
        """A plain dict of the fields."""
        return asdict(self)


T5_XXL = Architecture("t5", 24, 4096, 10240, 64, 64, 32128, "gelu_tanh", True, "first", 32)
