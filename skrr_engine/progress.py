"""Search events -> a progress bar on stderr."""

import sys

from tqdm import tqdm

from .events import Event, LevelDone, Phase, Step

__all__ = ["Bar"]

# In a log file every refresh is a line.
LOG_SECONDS = 30
FORMAT = "{desc:>7}: {percentage:3.0f}%|{bar}| {n:.0f}/{total:.0f} measurements [{elapsed}<{remaining}{postfix}]"


class Bar:
    """A report callback (see `events`), and a context that leaves the terminal clean."""

    bar: tqdm | None = None

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
        if isinstance(event, Phase):
            self._finish()
            self.bar = tqdm(
                total=max(1, event.evaluations),
                desc=event.name,
                bar_format=FORMAT,
                file=sys.stderr,
                mininterval=0.2 if sys.stderr.isatty() else LOG_SECONDS,
            )
        elif isinstance(event, Step) and self.bar is not None:
            self.bar.total = max(self.bar.total, self.bar.n + event.evaluations)
            self.bar.update(event.evaluations)
        elif isinstance(event, LevelDone) and self.bar is not None:
            found = f"{event.skipped} skipped, {100 * event.sparsity:.1f} %, D {event.discrepancy:.3g}"
            self.bar.set_postfix_str(found, refresh=False)
