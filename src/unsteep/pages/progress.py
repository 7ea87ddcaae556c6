"""Progress bars, on stderr and only if that is a terminal."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def bar(shown: bool, total: int, what: str) -> Iterator[Callable[[], None]]:
    """`with bar(shown, total, "sampling") as advance: advance()`."""
    if not isinstance(shown, bool):
        raise ValueError(f"progress: expected True or False, got {type(shown).__name__}; give one of the two")
    from rich.console import Console
    from rich.progress import Progress

    console = Console(stderr=True)
    progress = Progress(console=console, transient=True, disable=not (shown and console.is_terminal))
    task = progress.add_task(what, total=total)
    with progress:
        yield lambda: progress.advance(task)
