"""Where else a run is logged, beside log.jsonl: whoever listens hears of every step, measurement and preview.

A new kind of log is one file with a class of this protocol, and its name here and in `train.log`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Protocol

from unsteep.training.log_csv import CsvLog
from unsteep.training.log_tensorboard import TensorBoardLog, check_tensorboard
from unsteep.training.settings import Logs


class Listener(Protocol):
    """Made of the run's folder and the step after which it goes on: what it holds of later ones, it drops."""

    def write(self, step: int, values: Mapping[str, float]) -> None:
        """Values by name, of the newest step; of one step there may be some now and more later."""
        ...

    def picture(self, step: int, path: Path) -> None:
        """A preview was drawn."""
        ...

    def close(self) -> None:
        """The run ends, or stops."""
        ...


LISTENERS: Mapping[Logs, Callable[[Path, int], Listener]] = {"csv": CsvLog, "tensorboard": TensorBoardLog}
NEEDS: Mapping[Logs, Callable[[], None]] = {"tensorboard": check_tensorboard}


def check_logs(names: Iterable[Logs]) -> None:
    """ValueError, before anything is trained, where one needs what is not installed."""
    for name in names:
        NEEDS.get(name, lambda: None)()


class Listeners:
    """All of a run's, as one."""

    def __init__(self, names: Iterable[Logs], out: Path, step: int) -> None:
        self._all = [LISTENERS[name](out, step) for name in dict.fromkeys(names)]

    def write(self, step: int, values: Mapping[str, float]) -> None:
        for one in self._all:
            one.write(step, values)

    def picture(self, step: int, path: Path) -> None:
        for one in self._all:
            one.picture(step, path)

    def close(self) -> None:
        for one in self._all:
            one.close()
