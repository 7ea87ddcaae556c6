"""How far long work has come, on stderr: a bar on a terminal, else a plain line now and then, as in a redirected log.

Short work shows nothing. Whoever reads the lines may go away.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

PATIENCE = 1.0  # seconds before a bar appears
BETWEEN = 10.0  # seconds between lines


@contextmanager
def bar(shown: bool, total: int | None, what: str) -> Iterator[Callable[..., None]]:
    """`with bar(shown, total, "sampling") as advance: advance()`, or `advance(3)`. `total` None: nobody knows."""
    if not isinstance(shown, bool):
        raise ValueError(f"progress: expected True or False, got {type(shown).__name__}; give one of the two")
    if not shown:
        yield lambda n=1: None
        return
    work = _OnTerminal(total, what) if sys.stderr.isatty() else _InLines(total, what)
    try:
        yield work.advance
    finally:
        work.end()


class _OnTerminal:
    """A bar, once the work has taken a moment."""

    def __init__(self, total: int | None, what: str) -> None:
        from rich.console import Console
        from rich.progress import Progress

        self._bar = Progress(console=Console(stderr=True), transient=True)
        self._task = self._bar.add_task(what, total=total)
        self._began, self._running = time.monotonic(), False

    def advance(self, n: int = 1) -> None:
        self._bar.advance(self._task, n)
        if not self._running and time.monotonic() - self._began > PATIENCE:
            self._running = True
            self._bar.start()

    def end(self) -> None:
        if self._running:
            self._bar.stop()


class _InLines:
    """A line now and then."""

    def __init__(self, total: int | None, what: str) -> None:
        self._total, self._what, self._done = total, what, 0
        self._began = self._said = time.monotonic()

    def advance(self, n: int = 1) -> None:
        self._done += n
        now = time.monotonic()
        if now - self._said < BETWEEN:
            return
        self._said = now
        left = "" if self._total is None else f" of {self._total:,}  {clock_of(self._left(now))} left"
        with suppress(OSError):
            print(f"{self._what}  {self._done:,}{left}", file=sys.stderr, flush=True)

    def _left(self, now: float) -> float:
        return max(0.0, (self._total or 0) - self._done) * (now - self._began) / self._done

    def end(self) -> None:
        """Nothing is left to say."""


def clock_of(seconds: float) -> str:
    """12:34, or 1:23:45 with hours, or 3 days 4 h."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours >= 48:
        return f"{hours // 24} days {hours % 24} h"
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
