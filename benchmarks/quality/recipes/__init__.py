"""One file for each library: how its own example trains on Fashion-MNIST, and how it samples. Each is imported in a
process of its own.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from importlib import import_module
from typing import Protocol

import torch
from speed.libraries import LIBRARIES, stand_in
from torch import Tensor, nn

Sampler = Callable[[int, int], Tensor]
"""(n, calls) -> pictures (n, 1, 28, 28), uint8 or in [-1, 1]."""


@dataclass(frozen=True, kw_only=True)
class Asked:
    """What is trained: the recipe of a library, on pictures in [-1, 1] (n, 1, 28, 28) with classes (n,). `settings`: of
    unsteep alone, as --set takes them, whose recipe reads the files at `data` itself."""

    library: str
    seed: int
    data: str
    pictures: Tensor
    labels: Tensor
    settings: tuple[str, ...] = ()

    def batch(self, size: int) -> tuple[Tensor, Tensor]:
        """Pictures and classes drawn at random."""
        chosen = torch.randint(len(self.pictures), (size,))
        return self.pictures[chosen], self.labels[chosen]


class Recipe(Protocol):
    """How a library trains. `network`: what its weights are."""

    network: nn.Module

    def step(self, spent: float) -> None:
        """One step of training; `spent`: the share of the time that is gone, for rates that anneal."""
        ...

    def samplers(self) -> Mapping[str, Sampler]:
        """Ways to sample, by name."""
        ...


def made(asked: Asked) -> Recipe:
    """The recipe that is asked for, untrained."""
    torch.manual_seed(asked.seed)
    known = LIBRARIES[asked.library]
    with stand_in() if known.torchvision else nullcontext():
        module = import_module(f"quality.recipes.{known.module}")
    recipe: Recipe = module.Made(asked)
    return recipe


def cosine(spent: float) -> float:
    """What is left of a rate that falls to 0 over the whole time."""
    return (1 + math.cos(math.pi * min(1.0, spent))) / 2
