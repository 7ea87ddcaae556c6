"""What a run can train: a task is made from a run's configuration and its data.

The folder, resuming, stopping, logs and pages are the run's (`training.run`) and know no task; a task knows what is
trained, on what, and what is to be seen of it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor

from unsteep.core.protocols import DataSet, Source
from unsteep.training.loop import Parts, State
from unsteep.training.settings import TrainConfig


class Task(Protocol):
    """What a run trains (see `loop.Trains`), and what is kept and shown of it."""

    step: int
    kind: str
    """What is trained, as the title of its page begins."""

    @property
    def trained(self) -> Mapping[str, State]: ...

    def turn(self, step: int) -> str: ...

    def parts(self, step: int) -> Parts: ...

    @property
    def statistics(self) -> dict[str, Tensor]:
        """What is kept with the weights: what was measured on the data, tensors by name."""
        ...

    def texts(self) -> Mapping[str, str]:
        """What says how to build the module again, by file name."""
        ...

    def check_new(self) -> None:
        """ValueError where nobody should begin what an older run may go on with."""
        ...

    def check_stored(self, folder: Path) -> None:
        """ValueError where a checkpoint is of another task than this."""
        ...

    def finish(self) -> None:
        """After the last step, before it is saved."""
        ...

    def preview(self, path: Path) -> None:
        """A picture of how far it has come."""
        ...

    def report(self, out: Path) -> None:
        """At the end: draws what it has become into the run's folder, and writes its page (see `training.page`)."""
        ...

    def about(self) -> list[tuple[str, str]]:
        """Rows (name, text) to print before training, after those of the data."""
        ...


class Configuration(Protocol):
    """A run's configuration: a frozen dataclass, whose class says what it trains."""

    @property
    def data(self) -> Source: ...

    @property
    def train(self) -> TrainConfig: ...

    @property
    def start_from(self) -> str:
        """The run, checkpoint or saved model whose weights it starts from; empty for fresh ones."""
        ...

    def made(self, data: DataSet, device: torch.device | str, trust: Any = False) -> Task:
        """What it trains on `data`, untrained. ValueError where the parts do not fit."""
        ...


def parameters(states: Mapping[str, State]) -> int:
    """Weights that are trained."""
    return sum(p.numel() for state in states.values() for p in state.module.parameters())


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Inside it the global generator is at `seed`, so that first weights are a function of it; after it, where it
    was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield
