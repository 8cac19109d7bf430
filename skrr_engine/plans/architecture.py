"""The shape of a text encoder, as far as a plan depends on it, and the parameter counts that follow from it."""

from dataclasses import asdict, dataclass, fields

from ..errors import PlanError

__all__ = ["ATTENTION", "FEED_FORWARD", "Architecture", "kind_of"]

ATTENTION = "attention"
FEED_FORWARD = "feed-forward"

# In the order in which the compact text of a plan counts them: new ones go to the end.
FAMILIES = ("t5", "clip", "llama")
POSITION_BIASES = ("first", "every", "absolute", "rotary")
ACTIVATIONS = ("gelu_tanh", "gelu", "relu", "quick_gelu", "silu")
MAX_LAYERS = 256
MAX_SIZE = 1 << 24
MAX_BESIDE = 1 << 40
# What only encoders of family "llama" have; a plan for others says nothing of it, as it always did.
LANGUAGE_FIELDS = ("key_heads", "attention_bias", "head_norms", "post_norms", "beside")


def kind_of(index: int) -> str:
    """Sub-block `index` is attention if even, feed-forward if odd (two a layer)."""
    return ATTENTION if index % 2 == 0 else FEED_FORWARD


@dataclass(frozen=True)
class Architecture:
    """Everything that must agree between a plan and an encoder before one is applied to the other.

    `position_bias` tells T5 ("first": one relative table, in layer 0) from umT5 ("every": one table in each
    attention), CLIP ("absolute": learned positions beside the embedding) and language models ("rotary": none).
    `positions` counts relative buckets for T5 and absolute positions for CLIP, and is 0 for language models.
    `projection` is the width of a text projection that the host keeps inside the encoder (0: none); hosts differ in
    it, so it never makes a mismatch.

    Language models (family "llama") say more: `key_heads`, the heads of keys and values, which groups of queries share;
    whether queries, keys and values have an `attention_bias`; whether queries and keys have `head_norms`; whether every
    sub-block has `post_norms`, between it and the stream; and `beside`, the parameters that stand beside layers and
    embedding (last norm, head, tower), which files of one model differ in, so that it never makes a mismatch.
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
    key_heads: int = 0
    attention_bias: bool = False
    head_norms: bool = False
    post_norms: bool = False
    beside: int = 0

    def __post_init__(self):
        if self.family not in FAMILIES:
            raise PlanError(f"Encoder family {self.family!r} is unknown; this version knows {', '.join(FAMILIES)}.")
        if self.position_bias not in POSITION_BIASES:
            raise PlanError(
                f"Position bias {self.position_bias!r} is unknown; expected one of {', '.join(POSITION_BIASES)}."
            )
        if self.activation not in ACTIVATIONS:
            raise PlanError(f"Activation {self.activation!r} is unknown; expected one of {', '.join(ACTIVATIONS)}.")
        for name in ("layers", "width", "feed_forward", "heads", "head_width", "vocabulary"):
            self._check(name, 1, MAX_LAYERS if name == "layers" else MAX_SIZE)
        self._check("projection", 0, MAX_SIZE)
        if self.family == "llama":
            self._check_language_model()
            return
        self._check("positions", 1, MAX_SIZE)
        if self.position_bias == "rotary":
            raise PlanError(f"Position bias 'rotary' is that of a language model, not of family {self.family!r}.")
        for name in LANGUAGE_FIELDS:
            self._check(name, 0, 0)

    def _check_language_model(self) -> None:
        if self.position_bias != "rotary":
            raise PlanError(f"Position bias is {self.position_bias!r}; that of a language model is 'rotary'.")
        if not self.gated:
            raise PlanError("Architecture field gated is false; a language model's is true.")
        self._check("positions", 0, 0)
        self._check("projection", 0, 0)
        self._check("key_heads", 1, self.heads)
        self._check("beside", 0, MAX_BESIDE)
        if self.heads % self.key_heads:
            raise PlanError(f"Architecture field key_heads is {self.key_heads}, which {self.heads} heads cannot share.")

    def _check(self, name: str, least: int, most: int) -> None:
        value = getattr(self, name)
        if not least <= value <= most:
            raise PlanError(
                f"Architecture field {name} is {value}; expected {least}{f' to {most}' if most != least else ''}."
            )

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
        if self.family == "llama":
            seen = inner + 2 * self.key_heads * self.head_width  # queries, keys and values
            more = (seen if self.attention_bias else 0) + (2 * self.head_width if self.head_norms else 0)
            return self.width * (seen + inner) + more + self._norms
        table = self.positions * self.heads if self.position_bias == "every" else 0
        return 4 * self.width * inner + self.width + table

    @property
    def feed_forward_parameters(self) -> int:
        """Parameters of one feed-forward sub-block, its norm included."""
        if self.family == "clip":
            return 2 * self.width * self.feed_forward + self.feed_forward + 3 * self.width
        return (3 if self.gated else 2) * self.width * self.feed_forward + self._norms

    @property
    def _norms(self) -> int:
        """Parameters of the norms of one sub-block."""
        return (2 if self.post_norms else 1) * self.width

    @property
    def total_parameters(self) -> int:
        """Parameters of the whole encoder, embedding included: the denominator of every sparsity."""
        blocks = self.layers * (self.attention_parameters + self.feed_forward_parameters)
        if self.family == "clip":
            ends = (self.vocabulary + self.positions + 2 + self.projection) * self.width
        elif self.family == "llama":
            ends = self.vocabulary * self.width + self.beside
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
            if f.name not in ("projection", "beside") and getattr(self, f.name) != getattr(other, f.name)
        ]

    def describe(self) -> str:
        """One line for people: family, layers and widths."""
        shared = f" over {self.key_heads}" if self.key_heads not in (0, self.heads) else ""
        return (
            f"{self._name()} text encoder, {self.layers} layers, {self.width} wide, feed-forward {self.feed_forward}, "
            f"{self.heads} heads{shared}, vocabulary {self.vocabulary}"
        )

    def _name(self) -> str:
        """What people call its kind; of a language model the best known one that is built so."""
        if self.family != "llama":
            return {"every": "umT5", "first": "T5"}.get(self.position_bias, "CLIP")
        if self.post_norms:
            return "Gemma 3" if self.head_norms else "Gemma 2"
        return "Qwen3" if self.head_norms else "Qwen2.5" if self.attention_bias else "Llama or Mistral"

    def to_json(self) -> dict:
        """A plain dict of the fields, without those that only language models have where it is none."""
        kept = asdict(self)
        return kept if self.family == "llama" else {k: v for k, v in kept.items() if k not in LANGUAGE_FIELDS}


T5_XXL = Architecture("t5", 24, 4096, 10240, 64, 64, 32128, "gelu_tanh", True, "first", 32)
