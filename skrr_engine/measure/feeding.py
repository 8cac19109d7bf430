"""Brings the matrices of sub-blocks to where they run, in the dtype in which products are taken.

Some sub-blocks stay on the device. The others are copied, each just before its turn, through two staging buffers
(pinned memory, which is scarce) into two buffers on the device, on a stream of its own: while one sub-block computes,
the next one travels. Which one is next is told by `expect`; a sub-block that was not told of is fetched on the spot.

While a sub-block runs, its linear layers compute `product` with the matrices brought here; afterwards they are as they
were. Norms, tables and embeddings are small and are where the stream is already.
"""

from collections import deque
from collections.abc import Collection, Iterable, Sequence
from contextlib import contextmanager
from functools import partial
from itertools import groupby

import torch

from ..encoders.stack import SubBlock
from ..precision import product, widen
from .copy_stream import Lane

__all__ = ["Feeder", "linears", "stored_bytes"]

# Tensors begin at multiples of this many bytes, as fresh ones do: what a product rounds may depend on it.
ALIGNED = 256

Pairs = list[tuple[torch.Tensor, torch.Tensor | None]]


def linears(block: SubBlock) -> list[torch.nn.Module]:
    """The linear layers of a sub-block, whatever library's they are: modules with a matrix that is no table."""
    found = []
    for module in block.modules:
        for part in module.modules():
            weight = getattr(part, "weight", None)
            if weight is not None and len(weight.shape) == 2 and not isinstance(part, torch.nn.Embedding):
                found.append(part)
    return found


def stored_bytes(block: SubBlock) -> int:
    """What the matrices of a sub-block take in a buffer, as they are stored."""
    return sum(_aligned(tensor.nbytes) for tensor in _tensors(_own(linears(block))))


class Feeder:
    """Feeds the sub-blocks `blocks` to `device`. `resident` are those that stay there; None: all of them.

    `dtype` is that of products, and may be set at any time; None: as wide as the stream. `narrow` is what a fast
    search sets it to. `copied_bytes` counts what has been copied into the two buffers.

    A host whose weights are not plain tensors in host memory overrides `here`, `shapes` and `fetch`.
    """

    def __init__(
        self,
        blocks: Sequence[SubBlock],
        device: torch.device,
        resident: Collection[int] | None = None,
        narrow: torch.dtype | None = None,
    ):
        self.device, self.narrow, self.dtype = device, narrow, None
        self.layers = [linears(block) for block in blocks]
        self.lane = Lane(device)
        self.copied_bytes = 0
        stays = range(len(blocks)) if resident is None else resident
        self._resident = {n: [_on(device, pair) for pair in _own(self.layers[n])] for n in stays}
        self._slots: list[_Slot] = []
        self._ahead: deque[int] = deque()
        self._now: tuple[int, torch.dtype | None] | None = None
        self._brought: Pairs = []

    def here(self, index: int) -> Pairs | None:
        """The matrices and biases of sub-block `index` if they are on the device, else None."""
        return self._resident.get(index)

    def shapes(self, index: int) -> Pairs:
        """Tensors like those that `fetch` will bring of sub-block `index`; only their shapes and dtypes count."""
        return _own(self.layers[index])

    def fetch(self, index: int, target: Pairs, slot: "_Slot") -> None:
        """Copies the matrices and biases of sub-block `index` into `target`, tensors on the device. Runs on the lane's
        copying stream."""
        if slot.stage is None:
            slot.stage = torch.empty(slot.memory.nbytes, dtype=torch.uint8, pin_memory=self.lane.cuda)
        stage = _laid_out(slot.stage, self.shapes(index))
        # The memory under `stage` may still be on its way out.
        self.lane.host_after(slot.filled)
        for host, staged, there in zip(*map(_tensors, (self.shapes(index), stage, target)), strict=True):
            staged.copy_(host)
            there.copy_(staged, non_blocking=True)

    def expect(self, uses: Iterable[int]) -> None:
        """Sub-blocks will now run in this order; several calls of one in a row count once."""
        self._ahead = deque(index for index, _ in groupby(uses))
        if self._ahead and (self._ahead[0], self.dtype) == self._now:
            self._ahead.popleft()

    @contextmanager
    def running(self, index: int):
        """Inside, the linear layers of sub-block `index` compute with its matrices on the device."""
        if (index, self.dtype) != self._now:
            self._bring(index)
        layers = self.layers[index]
        before = [layer.__dict__.get("forward") for layer in layers]
        for layer, (weight, bias) in zip(layers, self._brought, strict=True):
            layer.forward = partial(product, weight=weight, bias=bias)
        try:
            yield
        finally:
            for layer, own in zip(layers, before, strict=True):
                del layer.forward
                if own is not None:
                    layer.forward = own
        self.lane.called()

    def _bring(self, index: int) -> None:
        """Makes `index` the sub-block that runs, and begins to copy the one after it."""
        slot = None if self._now is None else self._slot_of(self._now[0])
        if slot is not None:
            slot.used = self.lane.computed()
        self._now, self._brought = None, []
        if self._ahead and self._ahead[0] == index:
            self._ahead.popleft()
        else:  # what was expected is not what happens
            self._ahead.clear()
        found = self.here(index)
        if found is None:
            slot = self._slot_of(index) or self._start(index, None)
            self.lane.compute_after(slot.filled)
            found = slot.tensors
        self._brought = [tuple(None if t is None else _as(t, self.dtype) for t in pair) for pair in found]
        self._now = (index, self.dtype)
        following = next((n for n in self._ahead if self.here(n) is None), None)
        if following is not None and self._slot_of(following) is None:
            self._start(following, index)

    def _slot_of(self, index: int) -> "_Slot | None":
        return next((slot for slot in self._slots if slot.index == index), None)

    def _start(self, index: int, running: int | None) -> "_Slot":
        """Begins to copy sub-block `index` into the buffer that was filled longest ago, not that of `running`."""
        if not self._slots:
            away = [n for n in range(len(self.layers)) if self.here(n) is None]
            size = max(sum(_aligned(t.nbytes) for t in _tensors(self.shapes(n))) for n in away)
            self._slots = [_Slot(self.lane.memory(size), self.lane.computed()) for _ in range(2)]
        slot = next(slot for slot in self._slots if running is None or slot.index != running)
        slot.index = None  # a copy that fails leaves nothing behind
        slot.tensors = _laid_out(slot.memory, self.shapes(index))
        self.lane.copy_after(slot.used)
        with self.lane.copying():
            self.fetch(index, slot.tensors, slot)
        slot.index, slot.filled = index, self.lane.copied()
        self._slots.sort(key=lambda other: other is slot)
        self.copied_bytes += sum(t.nbytes for t in _tensors(slot.tensors))
        return slot


class _Slot:
    """A buffer on the device, what is in it, and the marks that guard it: when it was filled, and when it was last
    used. `stage` is its staging buffer, made when it is first needed."""

    def __init__(self, memory: torch.Tensor, used):
        self.memory, self.used = memory, used
        self.stage: torch.Tensor | None = None
        self.index: int | None = None
        self.tensors: Pairs = []
        self.filled = None


def _own(layers: list[torch.nn.Module]) -> Pairs:
    return [(layer.weight.detach(), None if layer.bias is None else layer.bias.detach()) for layer in layers]


def _on(device: torch.device, pair) -> tuple:
    return tuple(None if tensor is None else tensor.to(device) for tensor in pair)


def _as(tensor: torch.Tensor, dtype: torch.dtype | None) -> torch.Tensor:
    return widen(tensor) if dtype is None else tensor.to(dtype)


def _tensors(pairs: Pairs) -> list[torch.Tensor]:
    return [tensor for pair in pairs for tensor in pair if tensor is not None]


def _aligned(size: int) -> int:
    return -(-size // ALIGNED) * ALIGNED


def _laid_out(memory: torch.Tensor, like: Pairs) -> Pairs:
    """Tensors in `memory`, one behind the other, with the shapes and dtypes of `like`."""
    at, found = 0, []

    def place(tensor):
        nonlocal at
        if tensor is None:
            return None
        part = memory[at : at + tensor.nbytes]
        at += _aligned(tensor.nbytes)
        return part.view(tensor.dtype).view(tensor.shape)

    for pair in like:
        found.append(tuple(place(tensor) for tensor in pair))
    return found
