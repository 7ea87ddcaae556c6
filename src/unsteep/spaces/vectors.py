"""Vectors of numbers: each feature shifted and scaled to zero mean and unit variance inside."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Self

import torch
from torch import Tensor

from unsteep.core.arguments import checked, rows_of, scaled
from unsteep.core.protocols import DataSet
from unsteep.spaces.standardized import restored, standardized

if TYPE_CHECKING:
    from PIL.Image import Image


@dataclass(frozen=True, kw_only=True)
class Vectors:
    """Rows of len(mean) numbers. `mean` and `std` are those of the training data; (): filled from them."""

    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    axes: ClassVar[int] = 1  # of one example
    bounds: ClassVar[None] = None  # no known range
    levels: ClassVar[None] = None  # continuous

    def __post_init__(self) -> None:
        checked(self)
        scaled("mean", self.mean, "std", self.std)

    @classmethod
    def of(cls, rows: Tensor) -> Self:
        """The space in which `rows` (n, d) are standardized. A constant feature keeps its scale."""
        mean, std = rows.double().mean(0), rows.double().std(0, correction=0)
        return cls(mean=tuple(mean.tolist()), std=tuple(torch.where(std > 0, std, 1.0).tolist()))

    def fitted(self, data: DataSet) -> Self:
        """With the mean and deviation of the data, or as it is where it has its own."""
        return self if self.mean else self.of(data.rows(torch.arange(len(data))).x)

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of one example."""
        return (len(self.mean),)

    def encode(self, x: Tensor, valid: Tensor | None = None) -> Tensor:
        """(b, d) to standardized float32."""
        return standardized(x, self.mean, self.std)

    def decode(self, x: Tensor, valid: Tensor | None = None) -> Tensor:
        """Standardized (b, d) to the data's own units, float32 on the CPU."""
        return restored(x, self.mean, self.std)

    def log_volume(self, valid: Tensor | None = None) -> float:
        """The sum of the logarithms of the scales, nats."""
        return sum(map(math.log, self.std))

    def check(self, x: Tensor) -> None:
        """ValueError where x (b, ...) are no rows of so many finite numbers."""
        rows_of(x, self.describe(), shape=self.shape)
        if tuple(x.shape[1:]) != self.shape:
            raise ValueError(
                f"data: expected {self.describe()}, as the model was trained on, got examples of shape "
                f"{tuple(x.shape[1:])}; give data like those"
            )
        if not x.is_floating_point() or not bool(x.isfinite().all()):
            raise ValueError(f"data: expected finite floats, got {x.dtype}; convert them, or leave others out")

    def tiles(self, samples: Tensor) -> None:
        """A row of numbers is no picture."""
        return

    def show(self, samples: Tensor, *, data: Tensor | None = None, title: str = "", **_: Any) -> Image:
        """The first two features of samples (n, d), scattered, over those of `data` where there are any."""
        from unsteep.pages import plots

        clouds = {} if data is None else {"data": data.numpy()}
        return plots.drawn(plots.scatter, {**clouds, "samples": samples.numpy()}, title=title)

    def describe(self) -> str:
        """In words."""
        return f"rows of {len(self.mean)} numbers"
