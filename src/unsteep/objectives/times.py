"""Which times a training batch sees: t in (0, 1], one for each example.

Uniform      t = u                       every level of a chain alike (Ho et al. 2020, algorithm 1)
Stratified   t = (u_0 + i / b) mod 1     one u_0 for the batch, its examples i evenly spaced (Kingma et al. 2021)
LogitNormal  t = sigmoid(mean + std z)   more of the middle (Esser et al. 2024)
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from unsteep.core.noise import Draw, Purpose

SMALLEST = 1e-6  # training never asks for the clean level itself


class Times(Protocol):
    """The times (b,), float64, for the examples of a draw."""

    def __call__(self, draw: Draw) -> Tensor: ...


@dataclass(frozen=True, kw_only=True)
class Uniform:
    """Every time alike."""

    def __call__(self, draw: Draw) -> Tensor:
        return draw.uniform(Purpose.TIME).clamp(min=SMALLEST)


@dataclass(frozen=True, kw_only=True)
class Stratified:
    """Every time alike, and evenly spaced within a batch: the same expectation with less variance."""

    def __call__(self, draw: Draw) -> Tensor:
        t = (draw.shared(Purpose.TIME) + draw.places.double() / draw.batch) % 1
        return t.clamp(min=SMALLEST)


@dataclass(frozen=True, kw_only=True)
class LogitNormal:
    """logit(t) normal with `mean` and `std`; a positive mean looks more at noisy levels."""

    mean: float = 0.0
    std: float = 1.0

    def __post_init__(self) -> None:
        if self.std <= 0:
            raise ValueError(f"std: expected a positive number, got {self.std}")

    def __call__(self, draw: Draw) -> Tensor:
        z = torch.special.ndtri(draw.uniform(Purpose.TIME))
        return torch.sigmoid(self.mean + self.std * z).clamp(min=SMALLEST)
