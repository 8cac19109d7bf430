"""A job that ends when its time is over, at the next event that it reports."""

import time

from ..events import Event, Report

__all__ = ["TimeUp", "until"]


class TimeUp(Exception):
    """The minutes are over."""


def until(deadline: float, report: Report) -> Report:
    """`report` that raises TimeUp from the moment `deadline` (of `time.monotonic`) on."""

    def timed(event: Event) -> None:
        report(event)
        if time.monotonic() > deadline:
            raise TimeUp

    return timed
