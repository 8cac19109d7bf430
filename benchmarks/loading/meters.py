"""What the benchmark of loading counts in its own process: memory, and byte ranges of safetensors files."""

import os
import threading
from pathlib import Path


class PeakMemory:
    """The highest memory of this process inside the `with`, above what it was at the start: `anon`, its anonymous
    memory, and `committed`, all that it may write to without another process seeing it, touched or not. Linux counts
    the second as a process's data; it is what Windows commits: allocations, and the whole view of a file mapped for
    copy on write. Linux only; elsewhere both are None. Sampled every millisecond: the kernel keeps no high-water mark
    of either."""

    def __init__(self):
        self.counters = Path("/proc/self/statm")
        self.anon = self.committed = None

    def now(self) -> tuple[int, int] | tuple[None, None]:
        """(anonymous, committed) bytes above the start."""
        if not self.counters.exists():
            return None, None
        return tuple(now - before for now, before in zip(self._read(), self.start, strict=True))

    def _read(self) -> tuple[int, int]:
        _, resident, shared, _, _, data, _ = map(int, self.counters.read_text().split())
        page = os.sysconf("SC_PAGE_SIZE")
        return (resident - shared) * page, data * page

    def _sample(self):
        self.ready.wait()
        while not self.done.wait(0.001):
            self._keep()

    def _keep(self):
        anon, committed = self.now()
        self.anon, self.committed = max(self.anon, anon), max(self.committed, committed)

    def __enter__(self):
        if self.counters.exists():
            self.ready, self.done = threading.Event(), threading.Event()
            self.thread = threading.Thread(target=self._sample)
            self.thread.start()  # before the start is taken: its stack is no part of what is measured
            self.start, self.anon, self.committed = self._read(), 0, 0
            self.ready.set()
        return self

    def __exit__(self, *error):
        if self.counters.exists():
            self.done.set()
            self.thread.join()
            self._keep()


def watch_files() -> list[str]:
    """From now on, the names of all tensors that are asked of safetensors' own reader are added to the list."""
    import safetensors

    asked, usual = [], safetensors.safe_open

    class Watched:
        def __init__(self, *args, **options):
            self.opened = usual(*args, **options)

        def __enter__(self):
            self.opened.__enter__()
            return self

        def __exit__(self, *error):
            return self.opened.__exit__(*error)

        def __getattr__(self, name):
            if name not in ("keys", "metadata", "get_tensor"):
                raise AttributeError(f"{name} is not watched; teach benchmarks/loading to count what it reads.")
            return getattr(self.opened, name)

        def get_tensor(self, name):
            asked.append(name)
            return self.opened.get_tensor(name)

    safetensors.safe_open = Watched
    return asked


def watch_reader(reader, asked: list[str]) -> None:
    """From now on, those that are asked of the pack's own reader, its class `TensorReader`, too."""
    usual = reader.read

    def read(self, name, *rest, **options):
        asked.append(name)
        return usual(self, name, *rest, **options)

    reader.read = read


def requested(header, asked: list[str]) -> int:
    """Bytes of the tensors that were asked for. Each name once: a second time reads the same range."""
    return sum(header.tensors[name].bytes for name in set(asked))


def mapped(clip) -> int:
    """Bytes of the mapped file that the CLIP's weights lie in, all that dynamic VRAM can ever read of it."""
    storages = [tensor.untyped_storage() for tensor in clip.patcher.model.state_dict().values()]
    slices = [getattr(storage, "_comfy_tensor_file_slice", None) for storage in storages]
    return sum({part.offset: part.size for part in slices if part is not None}.values())
