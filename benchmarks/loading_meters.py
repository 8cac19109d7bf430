"""What the benchmark of loading counts in its own process: anonymous memory, and byte ranges of safetensors files."""

import os
import threading
from pathlib import Path


class PeakAnon:
    """The highest anonymous memory of this process inside the `with`, above what it was at the start. Linux only;
    elsewhere None. Sampled every millisecond: the kernel keeps no high-water mark of the anonymous part."""

    def __init__(self):
        self.counters = Path("/proc/self/statm")
        self.peak = None

    def now(self):
        """Bytes above the start."""
        return self._read() - self.start if self.counters.exists() else None

    def _read(self) -> int:
        _, resident, shared, *_ = self.counters.read_text().split()
        return (int(resident) - int(shared)) * os.sysconf("SC_PAGE_SIZE")

    def _sample(self):
        while not self.done.wait(0.001):
            self.peak = max(self.peak, self.now())

    def __enter__(self):
        if self.counters.exists():
            self.start, self.peak, self.done = self._read(), 0, threading.Event()
            self.thread = threading.Thread(target=self._sample)
            self.thread.start()
        return self

    def __exit__(self, *error):
        if self.counters.exists():
            self.done.set()
            self.thread.join()
            self.peak = max(self.peak, self.now())


def watch_files() -> list[str]:
    """From now on, the names of all tensors that are asked of safetensors files are added to the list."""
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
                raise AttributeError(f"{name} is not watched; teach benchmarks/loading.py to count what it reads.")
            return getattr(self.opened, name)

        def get_tensor(self, name):
            asked.append(name)
            return self.opened.get_tensor(name)

    safetensors.safe_open = Watched
    return asked


def requested(header, asked: list[str]) -> int:
    """Bytes of the tensors that were asked for. Each name once: a second time reads the same range."""
    return sum(header.tensors[name].bytes for name in set(asked))


def mapped(clip) -> int:
    """Bytes of the mapped file that the CLIP's weights lie in, all that dynamic VRAM can ever read of it."""
    storages = [tensor.untyped_storage() for tensor in clip.patcher.model.state_dict().values()]
    slices = [getattr(storage, "_comfy_tensor_file_slice", None) for storage in storages]
    return sum({part.offset: part.size for part in slices if part is not None}.values())
