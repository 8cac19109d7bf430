"""Copies beside the computing: a second CUDA stream, and nothing of the kind on other devices."""

from collections import deque
from contextlib import nullcontext

import torch

__all__ = ["Lane"]

# Sub-block calls that may wait on the device. A cancel waits for them, so they are few; fewer would leave it idle.
CALLS_AHEAD = 4


class Lane:
    """Orders copies against computing on `device`. On CUDA copies run on a stream of their own, and marks are events;
    elsewhere everything has happened when the call returns, and marks are None."""

    def __init__(self, device: torch.device):
        self.device, self.cuda = device, device.type == "cuda"
        self.stream = torch.cuda.Stream(device) if self.cuda else None
        self.calls: deque = deque()

    def memory(self, size: int) -> torch.Tensor:
        """`size` bytes to copy into. What was computed before may still use them: copies wait for a mark of now."""
        memory = torch.empty(size, dtype=torch.uint8, device=self.device)
        if self.cuda:  # given back while a copy is under way, it is not handed out before the copy has ended
            memory.record_stream(self.stream)
        return memory

    def copying(self):
        """A context in which copies go onto the second stream."""
        return torch.cuda.stream(self.stream) if self.cuda else nullcontext()

    def copied(self):
        """A mark: all that was copied so far."""
        return self.stream.record_event() if self.cuda else None

    def computed(self):
        """A mark: all that was computed so far."""
        return torch.cuda.current_stream(self.device).record_event() if self.cuda else None

    def copy_after(self, mark) -> None:
        """What is copied from now on waits for `mark`."""
        if mark is not None:
            self.stream.wait_event(mark)

    def compute_after(self, mark) -> None:
        """What is computed from now on waits for `mark`."""
        if mark is not None:
            torch.cuda.current_stream(self.device).wait_event(mark)

    def host_after(self, mark) -> None:
        """This process waits for `mark`."""
        if mark is not None:
            mark.synchronize()

    def called(self) -> None:
        """A call was handed to the device; waits until no more than CALLS_AHEAD are."""
        if self.cuda:
            self.calls.append(self.computed())
            if len(self.calls) > CALLS_AHEAD:
                self.calls.popleft().synchronize()
