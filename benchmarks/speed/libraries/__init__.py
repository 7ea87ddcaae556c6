"""One file for each library: its network at a size, a training step as its own documentation or trainer writes it, and
its own DDIM. Each is imported in a process of its own, which imports nothing of the others.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from importlib import import_module
from types import ModuleType
from typing import Any, Literal, Protocol

import torch
from torch import Tensor, nn

from speed.sizes import SIZES, Size

PICTURES = 1024  # noise, to train on


@dataclass(frozen=True, kw_only=True)
class Task:
    """What a process is asked to be ready for. `settings`: of unsteep alone, as --set takes them."""

    library: str
    size: str
    batch: int
    precision: Literal["float32", "bf16"] = "float32"
    device: str = "cpu"
    settings: tuple[str, ...] = ()

    @property
    def of(self) -> Size:
        """The size, with all that belongs to it."""
        return SIZES[self.size]

    def autocast(self) -> Any:
        """How a user of any library computes in half precision."""
        return torch.autocast(torch.device(self.device).type, torch.bfloat16, enabled=self.precision == "bf16")

    def pictures(self) -> Tensor:
        """Noise in [-1, 1] to train on, (PICTURES, c, h, w)."""
        return torch.rand(self.of.shape(PICTURES), generator=torch.Generator().manual_seed(0)) * 2 - 1


class Library(Protocol):
    """A library at work. `network`: what its weights are."""

    network: nn.Module

    def train(self) -> None:
        """One step."""
        ...

    def sample(self, calls: int) -> Tensor:
        """A batch of pictures by so many calls of the network."""
        ...


@dataclass(frozen=True)
class Known:
    """Where a library's file is, what it must import, and at which sizes it has the same graph as we, or one of its
    own with as many parameters. `torchvision`: whether it imports names of that."""

    module: str
    imports: str
    same: tuple[str, ...]
    own: tuple[str, ...] = ()
    torchvision: bool = False

    @property
    def sizes(self) -> tuple[str, ...]:
        """At which it has a network."""
        return self.same + self.own

    def graph(self, size: str) -> Literal["same", "own"]:
        """At a size."""
        return "same" if size in self.same else "own"


LIBRARIES = {
    "unsteep": Known("ours", "unsteep", ("small", "cifar10", "dit")),
    "unsteep again": Known("ours", "unsteep", ("small", "cifar10", "dit")),
    "diffusers": Known("diffusers_", "diffusers", ("small", "cifar10", "dit")),
    "smalldiffusion": Known("smalldiffusion_", "smalldiffusion", ("small", "cifar10", "dit"), torchvision=True),
    "denoising-diffusion-pytorch": Known(
        "lucidrains", "denoising_diffusion_pytorch", (), ("small", "cifar10"), torchvision=True
    ),
    "azula": Known("azula_", "azula", (), ("small", "cifar10", "dit")),
}
"""The second of ours is a control: any ratio but one is noise."""


def made(task: Task) -> Library:
    """The library that a task names, untrained."""
    torch.manual_seed(0)
    known = LIBRARIES[task.library]
    with stand_in() if known.torchvision else nullcontext():
        module = import_module(f"speed.libraries.{known.module}")
    library: Library = module.Made(task)
    return library


@contextmanager
def stand_in() -> Iterator[None]:
    """Empty modules for the names of torchvision that some libraries import and never use here."""
    names = ("torchvision", "torchvision.transforms", "torchvision.utils")
    for name in names:
        module = ModuleType(name)
        module.__getattr__ = _nothing  # type: ignore[method-assign]
        sys.modules[name] = module
        if "." in name:
            setattr(sys.modules["torchvision"], name.partition(".")[2], module)
    try:
        yield
    finally:
        for name in names:
            del sys.modules[name]


def _nothing(name: str) -> Any:
    if name.startswith("__"):
        raise AttributeError(name)
    return lambda *_, **__: None
