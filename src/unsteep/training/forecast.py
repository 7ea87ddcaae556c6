"""How long a run will take and how much memory, said as soon as a few steps have shown it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

import torch

from unsteep.core.machine import peak_memory
from unsteep.training.clock import in_words

STEPS, SECONDS = 10, 20.0  # after so many steps, or so long
SHORT, LONG = 20.0, 86400.0  # seconds: below, it is not worth a word; above, it is worth a warning
CHEAPER = "far cheaper: the preset small, or pictures of data.size=32; a budget, as 1h, makes it fit the time"


class Forecast:
    """The first step, which sets up much, does not count."""

    def __init__(self, done: int, total: int, now: Callable[[], float] = time.monotonic) -> None:
        self._done, self._total, self._now = done, total, now
        self._first: tuple[int, float] | None = None
        self._told = False

    def after(self, step: int, device: torch.device | str) -> Iterator[str]:
        """Lines to say after a step; mostly none."""
        if self._told:
            return
        if self._first is None:
            self._first = step, self._now()
            return
        steps, seconds = step - self._first[0], self._now() - self._first[1]
        if steps < STEPS and seconds < SECONDS:
            return
        self._told = True
        each = seconds / steps
        if each * (self._total - self._done) >= SHORT:
            yield from forecast(each, self._total - self._done, device)


def forecast(each: float, steps: int, device: torch.device | str) -> Iterator[str]:
    """Lines about a run of so many steps of `each` seconds."""
    left, memory = each * steps, peak_memory(device)
    took = "" if memory is None else f"; {memory / 1e9:.1f} GB of memory so far"
    yield f"{'takes':>12}  about {in_words(left)}, {_each(each)} a step{took}"
    if left > LONG:
        yield f"{'':>12}  {CHEAPER}"


def _each(seconds: float) -> str:
    return f"{seconds:.2g} s" if seconds >= 0.1 else f"{1000 * seconds:.2g} ms"
