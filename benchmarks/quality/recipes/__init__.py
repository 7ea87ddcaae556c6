"""One file for each library: how its own example trains on Fashion-MNIST, or on other pictures, and how it samples.
Each is imported in a process of its own.
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
"""(n, calls) -> pictures (n, c, h, w), uint8 or in [-1, 1]."""

HELD_OUT = 0.2  # of pictures that come in one file


@dataclass(frozen=True, kw_only=True)
class Asked:
    """What is trained: the recipe of a library, on square pictures in [-1, 1] (n, c, h, w) with classes (n,),
    all 0 where there are none. `settings`: of
    unsteep alone, as --set takes them, whose recipe reads the files at `data` itself."""

    library: str
    seed: int
    data: str
    pictures: Tensor
    labels: Tensor
    settings: tuple[str, ...] = ()

    @property
    def shape(self) -> tuple[int, ...]:
        """Of a picture."""
        return tuple(self.pictures.shape[1:])

    @property
    def classes(self) -> int:
        """How many there are."""
        return int(self.labels.max()) + 1

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
