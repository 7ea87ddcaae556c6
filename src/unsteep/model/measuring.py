"""What every measurement states: what it cost, and exactly which weights were measured."""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from unsteep.model.model import Model
from unsteep.pages.files import replacing


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
