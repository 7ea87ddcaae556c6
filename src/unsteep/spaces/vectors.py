"""Vectors of numbers: each feature shifted and scaled to zero mean and unit variance inside."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class Vectors:
    """Rows of len(mean) numbers. `mean` and `std` are those of the training data."""

    mean: tuple[float, ...]
    std: tuple[float, ...]

    @classmethod
    def of(cls, rows: Tensor) -> Self:
        """The space in which `rows` (n, d) are standardized. A constant feature keeps its scale."""
        mean, std = rows.double().mean(0), rows.double().std(0, correction=0)
        return cls(mean=tuple(mean.tolist()), std=tuple(torch.where(std > 0, std, 1.0).tolist()))

    @property
    def bounds(self) -> None:
        """Vectors have no known range to clip to."""
        return None

    @property
    def levels(self) -> None:
        """Vectors are continuous."""
        return None

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of one example."""
        return (len(self.mean),)

    def encode(self, rows: Tensor) -> Tensor:
        """(b, d) to standardized float32."""
        mean, std = self._statistics(rows)
        return ((rows.double() - mean) / std).float()

    def decode(self, x: Tensor) -> Tensor:
        """Standardized (b, d) to the data's own units, float32 on the CPU."""
        mean, std = self._statistics(x)
        return (x.double() * std + mean).float().cpu()

    def _statistics(self, like: Tensor) -> tuple[Tensor, Tensor]:
        mean, std = (torch.tensor(v, dtype=torch.float64, device=like.device) for v in (self.mean, self.std))
        return mean, std
