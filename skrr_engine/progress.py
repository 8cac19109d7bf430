"""Search events -> a progress bar on stderr."""

import sys

from tqdm import tqdm

from .events import Event, LevelDone, Notice, Phase, Progress, Step

__all__ = ["Bar"]

# In a log file every refresh is a line.
LOG_SECONDS = 30
FORMAT = "{desc:>7}: {percentage:3.0f}%|{bar}| {n:.0f}/{total:.0f} measurements [{elapsed}{postfix}]"


class Bar:
    """A report callback (see `events`), and a context that leaves the terminal clean."""

    bar: tqdm | None = None
    best = now = ""

    def __enter__(self):
        return self

    def __exit__(self, kind, *error):
        if kind is None:
            self._finish()
        self.close()

    def _finish(self) -> None:
        """A phase that is done is at 100 %, whatever was expected of it."""
        if self.bar is not None:
            self.bar.total = self.bar.n or 1
            self.bar.close()

    def close(self) -> None:
        """Ends the bar that is shown, if there is one."""
        if self.bar is not None:
            self.bar.close()

    def __call__(self, event: Event) -> None:
        """Takes one event. An estimate that was too low is stretched, so that the bar never runs over."""
        match event:
            case Phase():
                self._finish()
                self.bar = tqdm(
                    total=max(1, event.evaluations),
                    desc=event.name,
                    bar_format=FORMAT,
                    file=sys.stderr,
                    mininterval=0.2 if sys.stderr.isatty() else LOG_SECONDS,
                )
            case Notice():
                tqdm.write(event.text, file=sys.stderr)
            case Step() if self.bar is not None:
                self.bar.total = max(self.bar.total, self.bar.n + event.evaluations)
                self.bar.update(event.evaluations)
            case Progress() if self.bar is not None:
                self.now = event.describe()
                self._write()
            case LevelDone() if self.bar is not None:
                self.best = f"{event.skipped} skipped, {100 * event.sparsity:.1f} %, D {event.discrepancy:.3g}"
                self.best += f", {event.bytes_saved / 1e9:.2f} GB saved" if event.bytes_saved else ""
                self._write()

    def _write(self) -> None:
        self.bar.set_postfix_str("; ".join(part for part in (self.now, self.best) if part), refresh=False)
