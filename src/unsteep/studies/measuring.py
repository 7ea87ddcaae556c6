"""What every measurement states: an interval, what it cost, and exactly which weights were measured."""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import torch
from torch import Tensor

from unsteep.model import Model
from unsteep.pages.files import replacing


@dataclass(frozen=True)
class Interval:
    """A mean over independent examples, and half the width of its 95% interval, 1.96 standard errors."""

    mean: float
    half: float

    @classmethod
    def of(cls, values: Tensor) -> Self:
        """From one value for each of n >= 2 examples, (n,)."""
        means, halves = intervals(values[:, None])
        return cls(float(means), float(halves))

    def __mul__(self, factor: float) -> Interval:
        return Interval(self.mean * factor, self.half * abs(factor))

    def __str__(self) -> str:
        return f"{self.mean:.4f} ± {self.half:.4f}"


def intervals(values: Tensor) -> tuple[Tensor, Tensor]:
    """Means (k,) and half-widths (k,) of their 95% intervals, for values (n, k) of n >= 2 independent examples."""
    return values.mean(0), 1.96 * values.std(0, correction=1) / len(values) ** 0.5


@dataclass
class Evaluations:
    """How many times an example has gone through the network."""

    count: int = 0


@contextmanager
def counted(model: Model, doing: str, total: int | None, shown: bool) -> Iterator[Evaluations]:
    """Counts what goes through the network, and shows it as a bar up to `total` (None: unknown) on a terminal."""
    from rich.console import Console
    from rich.progress import Progress

    console, so_far = Console(file=sys.stderr), Evaluations()
    bar = Progress(console=console, transient=True, disable=not (shown and console.is_terminal))
    task = bar.add_task(doing, total=total)

    def count(module: torch.nn.Module, arguments: tuple[Tensor, ...], output: object) -> None:
        so_far.count += len(arguments[0])
        bar.update(task, completed=so_far.count)

    hook = model.denoiser.register_forward_hook(count)
    try:
        with bar:
            yield so_far
    finally:
        hook.remove()


def weights_digest(model: Model) -> str:
    """SHA-256 (64 hex digits) of the weights that were measured, by name."""
    sha = hashlib.sha256()
    for name, tensor in sorted(model.denoiser.state_dict().items()):
        sha.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        sha.update(tensor.cpu().contiguous().flatten().view(torch.uint8).numpy().data)
    return sha.hexdigest()


def write_json(content: Mapping[str, object], path: Path) -> None:
    """Indented JSON, whole or not at all. A number that JSON cannot hold is a ValueError."""
    text = json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False)
    with replacing(path) as beside:
        beside.write_text(text + "\n", encoding="utf-8")


def check_folder(out: Path) -> None:
    """Refuses at once a folder that could not be written to after all the work."""
    if out.exists() and not out.is_dir():
        raise ValueError(f"--out: {out} is a file; name a folder")
