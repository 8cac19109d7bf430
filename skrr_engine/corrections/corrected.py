"""An encoder with some output matrices exchanged: a view, the dense encoder itself is never written into."""

from collections.abc import Mapping
from contextlib import contextmanager
from dataclasses import replace
from functools import partial

import torch

from ..digest import digest_json, digest_tensors
from ..encoders.stack import SubBlock, TextStack
from ..errors import SkrrError
from ..precision import product

__all__ = ["CorrectedStack", "listening", "output_layer"]

# T5's and umT5's, then CLIP's: the last layer of an attention and of a feed-forward, within the sub-block's modules.
OUTPUTS = {"SelfAttention.o", "DenseReluDense.wo", "out_proj", "fc2"}


def output_layer(block: SubBlock) -> torch.nn.Module:
    """The linear layer whose result a sub-block adds to the stream. Raises SkrrError where none is known."""
    for module in block.modules:
        for name, part in module.named_modules():
            if name in OUTPUTS:
                return part
    raise SkrrError(
        f"The output matrix of sub-block {block.index} ({block.kind}) is unknown; a re-fit knows transformers' T5, "
        "umT5 and CLIP. Open the encoder with the engine."
    )


@contextmanager
def listening(layer: torch.nn.Module, heard: list[torch.Tensor]):
    """Inside, every input of `layer` is put into `heard`."""
    handle = layer.register_forward_pre_hook(lambda _, inputs: heard.append(inputs[0]))
    try:
        yield
    finally:
        handle.remove()


class CorrectedStack(TextStack):
    """`dense` with the output matrices `matrices` (sub-block -> (outputs, inputs)) in place of its own. Everything else
    is the dense encoder's, biases too; while one of these sub-blocks runs, its output layer computes with the other
    matrix, and is as it was afterwards."""

    def __init__(self, dense: TextStack, matrices: Mapping[int, torch.Tensor]):
        self.dense, self.matrices = dense, dict(matrices)
        for name in ("architecture", "taps", "total_bytes", "sketch"):
            setattr(self, name, getattr(dense, name))
        for index, matrix in self.matrices.items():
            if not 0 <= index < len(dense.subblocks):
                raise SkrrError(f"A matrix for sub-block {index}; the encoder has 0 to {len(dense.subblocks) - 1}.")
            shape = tuple(output_layer(dense.subblocks[index]).weight.shape)
            if tuple(matrix.shape) != shape:
                raise SkrrError(
                    f"The matrix for sub-block {index} is {list(matrix.shape)}, the encoder's own {list(shape)}. Use "
                    "the encoder that it was fitted on."
                )
        self._brought: dict[int, torch.Tensor] = {}
        self.subblocks = tuple(
            replace(block, residual=self._residual(block)) if block.index in self.matrices else block
            for block in dense.subblocks
        )

    @property
    def feeder(self):
        """The dense encoder's: its other matrices travel as ever."""
        return self.dense.feeder

    @property
    def identity(self) -> str:
        return digest_json([self.dense.identity, digest_tensors((str(n), m) for n, m in sorted(self.matrices.items()))])

    def prepare(self) -> None:
        self.dense.prepare()

    def embed(self, batch):
        return self.dense.embed(batch)

    def finish(self, states, context):
        return self.dense.finish(states, context)

    def _residual(self, block: SubBlock):
        layer = output_layer(block)

        @torch.no_grad()
        def residual(hidden, context):
            before = layer.__dict__.get("forward")
            weight = self._matrix(block.index, hidden)
            bias = None if layer.bias is None else layer.bias.detach().to(weight)
            layer.forward = partial(product, weight=weight, bias=bias)
            try:
                return block.residual(hidden, context)
            finally:
                del layer.forward
                if before is not None:  # a feeder's
                    layer.forward = before

        return residual

    def _matrix(self, index: int, hidden: torch.Tensor) -> torch.Tensor:
        """The matrix where the stream is, in the dtype of products; kept, because a pass asks batch after batch."""
        dtype, found = self.products or hidden.dtype, self._brought.get(index)
        if found is None or (found.device, found.dtype) != (hidden.device, dtype):
            found = self._brought[index] = self.matrices[index].to(hidden.device, dtype)
        return found

