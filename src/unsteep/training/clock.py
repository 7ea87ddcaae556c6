"""When a run saves itself and shows what it has become, by the clock: beside every so many steps.

The first time after a minute, then after ever longer waits up to ten minutes, and never so often that this takes more
than a tenth of the time.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

FIRST, MOST = 60.0, 600.0  # seconds
GROWTH = 1.5
SHARE = 0.1  # of the time, at most


class Watch:
    """Seconds since it was made, but for those of what is done `with watch.stopped():`."""

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now, self._out = now, now()

    def __call__(self) -> float:
        return self._now() - self._out

    @contextmanager
    def stopped(self) -> Iterator[None]:
        """It stands still."""
        began = self._now()
        try:
            yield
        finally:
            self._out += self._now() - began


class Clock:
    """`due` says whether it is time; what is then done stands `with clock.showing():`. `now`: seconds, rising."""

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now, self._wait = now, FIRST
        self._next = now() + FIRST

    @property
    def due(self) -> bool:
        """Whether the time has come."""
        return self._now() >= self._next

    @contextmanager
    def showing(self) -> Iterator[None]:
        """What is done in it is timed, and decides how long to wait for the next time."""
        began = self._now()
        yield
        ended = self._now()
        self._wait = min(MOST, GROWTH * self._wait)
        self._next = ended + max(self._wait, (ended - began) * (1 / SHARE - 1))


def in_words(seconds: float) -> str:
    """About how long: 40 s, 12 min, 3.5 h, 14 days."""
    for unit, size, least in (("days", 86400, 172800), ("h", 3600, 5400), ("min", 60, 90)):
        if seconds >= least:
            n = seconds / size
            return f"{n:.0f} {unit}" if n >= 10 or unit == "min" else f"{n:.1f} {unit}"
    return f"{seconds:.0f} s" if seconds >= 10 else f"{seconds:.2g} s"
