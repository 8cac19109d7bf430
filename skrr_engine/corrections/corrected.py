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
from .added import Near

__all__ = ["CorrectedStack", "listening"]


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
        for name in ("architecture", "taps", "total_bytes", "total_parameters", "sketch"):
            setattr(self, name, getattr(dense, name))
        for index, matrix in self.matrices.items():
            self._check(index, matrix)
        self.subblocks = tuple(
            replace(block, residual=self._residual(block)) if block.index in self.matrices else block
            for block in dense.subblocks
        )

    def _check(self, index: int, matrix: torch.Tensor) -> None:
        count = len(self.dense.subblocks)
        if not 0 <= index < count:
            raise SkrrError(f"A matrix for sub-block {index}; the encoder has 0 to {count - 1}.")
        if self.dense.subblocks[index].output is None:
            raise SkrrError(
                f"The output matrix of sub-block {index} ({self.dense.subblocks[index].kind}) is unknown; expected an "
                "encoder that names it. Open the encoder with the engine."
            )
        shape = self.dense.output_shape(index)
        if tuple(matrix.shape) != shape:
            raise SkrrError(
                f"The matrix for sub-block {index} is {list(matrix.shape)}, the encoder's own {list(shape)}. Use the "
                "encoder that it was fitted on."
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

    def output_matrix(self, index: int) -> torch.Tensor:
        """The exchanged matrix where there is one."""
        return self.matrices[index] if index in self.matrices else self.dense.output_matrix(index)

    def _residual(self, block: SubBlock):
        layer, matrix = block.output, Near(self.matrices[block.index])

        @torch.no_grad()
        def residual(hidden, context):
            before = layer.__dict__.get("forward")
            weight = matrix.to(hidden, self.products)
            bias = None if layer.bias is None else layer.bias.detach().to(weight)
            layer.forward = partial(product, weight=weight, bias=bias)
            try:
                return block.residual(hidden, context)
            finally:
                del layer.forward
                if before is not None:  # a feeder's
                    layer.forward = before

        return residual
