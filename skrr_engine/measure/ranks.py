"""Several processes that search together: each measures its part of the prompts, and all of them know every finding.

Every process runs the whole search and decides everything itself, from the same numbers: a finding is a float64 for
one prompt, measured by one process and added to the zeros of the others, so that all hold it bit for bit. What the
clock or the disk decides is the first process's word. `torchrun` starts them.
"""

import os
import time
from collections.abc import Sequence
from contextlib import contextmanager

import torch
import torch.distributed as dist

from .portions import Portion

__all__ = ["Ranks", "join"]


class Ranks:
    """This process, number `rank` of `size`. `device` is where it computes ("cpu", "cuda:1")."""

    def __init__(self, device: str):
        """Takes part in the default process group, which exists."""
        self.rank, self.size, self.device = dist.get_rank(), dist.get_world_size(), device
        self.began, self.measuring = time.monotonic(), 0.0

    def share(self, assignments: Sequence, portions: Sequence[Portion]) -> tuple[list[int], list[Portion]]:
        """This process's part of a measurement: numbers of assignments, and portions. Rows are dealt out one by one,
        which balances lengths; where there are fewer rows than processes, the assignments are."""
        numbers, dealt, found = list(range(len(assignments))), 0, []
        if sum(portion.rows for portion in portions) < self.size:
            return numbers[self.rank :: self.size], list(portions)
        for portion in portions:
            places = range((self.rank - dealt) % self.size, portion.rows, self.size)
            dealt += portion.rows
            if places:
                found.append(portion.take(places))
        return numbers, found

    @contextmanager
    def measure(self):
        """Counts the time inside as spent on measuring; the rest is mostly waiting for the others."""
        began = time.monotonic()
        try:
            yield
        finally:
            self.measuring += time.monotonic() - began

    def together(self, values: torch.Tensor, late: bool) -> tuple[torch.Tensor, bool]:
        """The sum of all processes' `values` (float64), and whether any of them is late."""
        both = torch.cat([values.flatten(), torch.tensor([late], dtype=values.dtype)]).to(self.device)
        dist.all_reduce(both)
        both = both.cpu()
        return both[:-1].reshape(values.shape), bool(both[-1])

    def agreed(self, value):
        """The first process's `value`: anything that can be sent."""
        found = [value]
        dist.broadcast_object_list(found, src=0)
        return found[0]

    def summary(self, work: int) -> str:
        """How evenly the work was split and how much of the time went into it: what a speed-up is made of."""
        seconds = time.monotonic() - self.began
        every: list = [None] * self.size
        dist.all_gather_object(every, (work, self.measuring / seconds))
        total, busiest = sum(share for share, _ in every), max(share for share, _ in every)
        busy = sum(part for _, part in every) / self.size
        return (
            f"{self.size} processes, {seconds:.1f} s: the busiest did {100 * busiest / max(1, total):.1f} % of the "
            f"work, and {100 * busy:.0f} % of the time went into measuring. On devices of their own that is a speed-up "
            f"of {busy * total / max(1, busiest):.2f}."
        )

    def leave(self) -> None:
        """Ends taking part."""
        dist.destroy_process_group()


def join(device: str) -> Ranks | None:
    """Takes part in what torchrun started; None where it started one process, or did not start this one. On GPUs each
    process takes one of its own, through NCCL; elsewhere they talk through gloo."""
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        return None
    if device == "cuda":
        device = f"cuda:{os.environ['LOCAL_RANK']}"
        torch.cuda.set_device(device)
    dist.init_process_group("nccl" if device.startswith("cuda") else "gloo")
    return Ranks(device)
