"""What any text encoder must offer to be pruned: a stack of residual sub-blocks that can each be run alone."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import torch

from ..plans.architecture import Architecture, kind_of
from ..precision import widen

__all__ = ["Outputs", "SubBlock", "TextStack", "TokenBatch", "sizes_of"]

Outputs = dict[str, torch.Tensor]


@dataclass(frozen=True)
class SubBlock:
    """One residual sub-block `F_i`, its norm included.

    `residual(hidden, context)` returns `F_i(hidden)`, without the addition, in the dtype of `hidden`
    (batch, tokens, width); it must leave `hidden` untouched, because the search keeps it as a prefix.
    `bytes` is what its parameters take in the host's storage format, `parameters` how many they are, counted from its
    own tensors: what goes with it, no more. `modules` are the modules that it is made of, so that its weights can be
    brought to where they run (see `feeding`). `output` is the linear layer whose result it adds to the stream, so that
    a correction can exchange its matrix; None where there is none or the host does not say, and then it is never
    re-fitted. `post_norm` is the norm between that layer and the stream, of encoders that have one.
    """

    index: int
    bytes: int
    parameters: int
    residual: Callable[[torch.Tensor, Any], torch.Tensor]
    modules: tuple[torch.nn.Module, ...] = ()
    output: torch.nn.Module | None = None
    post_norm: torch.nn.Module | None = None

    @property
    def kind(self) -> str:
        """"attention" or "feed-forward"."""
        return kind_of(self.index)

    @property
    def layer(self) -> int:
        """The layer it belongs to."""
        return self.index // 2


@dataclass(frozen=True)
class TokenBatch:
    """Rows of tokens of one length. A prompt is one row, or several (CLIP cuts long prompts into chunks).

    `tokens` is what the host's `embed` takes, one entry a row; `row_ids` are the rows' places in the calibration
    set (the order in which terms are summed). `weights[name]` is (rows, positions) float64:
    the share of each position in its prompt's discrepancy for output `name`, zero where the denoiser does
    not read it, summing to 1 over a prompt's rows; outputs without positions have (rows, 1).
    `companions` are constant tensors (rows, …) that the projection needs besides this encoder's outputs.
    """

    tokens: Any
    row_ids: tuple[int, ...]
    length: int
    weights: dict[str, torch.Tensor]
    companions: dict[str, torch.Tensor] = field(default_factory=dict)


def sizes_of(tensors: Iterable[torch.Tensor]) -> tuple[int, int]:
    """(bytes, parameters) of plain tensors."""
    listed = list(tensors)
    return sum(tensor.nbytes for tensor in listed), sum(tensor.numel() for tensor in listed)


class TextStack(ABC):
    """A text encoder as `h <- h + F_i(h)` for i = 0 … N-1, between an embedding and a read-out.

    `taps` says which states the model family reads: name -> number of sub-blocks that have run by then.
    `total_bytes` is what all parameters of the encoder take in the host's storage format, `total_parameters` how many
    they are, embedding included. `sketch` describes its weights (see `sketch`), empty where the host does not say.
    `feeder` brings the matrices of a sub-block to where it runs (see `feeding`); None: they are there.
    """

    architecture: Architecture
    subblocks: tuple[SubBlock, ...]
    taps: dict[str, int]
    total_bytes: int
    total_parameters: int
    sketch: tuple[float, ...] = ()
    feeder: Any = None

    @property
    @abstractmethod
    def identity(self) -> str:
        """A digest of what the encoder computes (shape, weights, patches): equal across runs for equal content."""

    def sparsity(self, indices: Iterable[int]) -> float:
        """Parameters removed by skipping the sub-blocks `indices` ÷ all parameters of the encoder. The counts are those
        of the tensors, so that grouped keys and norms of queries need no formula."""
        return sum(self.subblocks[i].parameters for i in indices) / self.total_parameters

    def prepare(self) -> None:  # noqa: B027 (most hosts have nothing to do)
        """Called before the first pass of a measurement: the host brings the weights where they run."""

    def run(self, index: int, hidden: torch.Tensor, context: Any) -> torch.Tensor:
        """`F_index(hidden)`, wherever its weights are."""
        if self.feeder is None:
            return self.subblocks[index].residual(hidden, context)
        with self.feeder.running(index):
            return self.subblocks[index].residual(hidden, context)

    @property
    def products(self) -> torch.dtype | None:
        """The dtype of the operands of matrix products; None: that of the stream."""
        return None if self.feeder is None else self.feeder.dtype

    def tensors(self, index: int) -> list[torch.Tensor]:
        """What sub-block `index` is made of, as it is stored: what tells these weights from others. A host whose
        weights are no plain tensors says here what they consist of."""
        return [part for module in self.subblocks[index].modules for part in module.parameters()]

    def output_matrix(self, index: int) -> torch.Tensor:
        """The matrix of `output` of sub-block `index`, (outputs, inputs), at least as wide as float32; not a copy where
        it is stored so. A host with other storage formats says here what its layer computes with."""
        return widen(self.subblocks[index].output.weight.detach())

    def output_shape(self, index: int) -> tuple[int, int]:
        """(outputs, inputs) of that matrix, known without it."""
        block = self.subblocks[index]
        shape = self.architecture
        return (shape.width, shape.heads * shape.head_width if block.index % 2 == 0 else shape.feed_forward)

    def live(self, outputs: Iterable[str]) -> int:
        """How many sub-blocks `outputs` can depend on: those in front of the last tap that they are read at. The others
        are dead: whatever becomes of them, nothing changes. `states_of` says where an output is read."""
        return max(self.taps[state] for output in outputs for state in self.states_of(output))

    def states_of(self, output: str) -> tuple[str, ...]:
        """The taps at which `finish` reads `output`: a "sequence" at all that are there beside "last", where there are
        any."""
        read = tuple(name for name in self.taps if name != "last")
        return read if output == "sequence" and read else ("last",)

    @abstractmethod
    def embed(self, batch: TokenBatch) -> tuple[torch.Tensor, Any]:
        """The stream before sub-block 0, (rows, tokens, width), and the context that every sub-block takes
        (position bias, masks), so that any of them can run alone and in any order."""

    @abstractmethod
    def finish(self, states: dict[str, torch.Tensor], context: Any) -> Outputs:
        """What the encoder hands out, from the states at its taps: "sequence" (rows, tokens, width) and/or
        "pooled" (rows, width). Must not alter `states`."""
