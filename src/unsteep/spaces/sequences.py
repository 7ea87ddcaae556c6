"""Sequences of frames, of different lengths: each feature shifted and scaled to zero mean and unit variance inside.

Inside a sequence is (frames, features), the longest there is; `valid` bool (b, frames) says which frames are real.
What stands in the others is 0 inside, whatever it was outside, and outside they are cut off.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar, Self

import torch
from torch import Tensor

from unsteep.core import masked
from unsteep.core.arguments import checked, rows_of, scaled
from unsteep.core.level import float64_device, wide
from unsteep.core.protocols import DataSet
from unsteep.spaces.standardized import moments, restored, standardized

if TYPE_CHECKING:
    from PIL.Image import Image


@dataclass(frozen=True, kw_only=True)
class Sequences:
    """Up to `frames` frames of len(mean) numbers."""

    frames: int = 0
    """The most of a sequence; 0: filled from the data."""
    mean: tuple[float, ...] = ()
    """Of each feature over the real frames of the training data; (): filled from them."""
    std: tuple[float, ...] = ()
    """Its standard deviation there; (): filled from them."""
    axes: ClassVar[int] = 2  # of one example
    bounds: ClassVar[None] = None  # no known range
    levels: ClassVar[None] = None  # continuous

    def __post_init__(self) -> None:
        checked(self)
        if self.frames < 0:
            raise ValueError(f"frames: expected at least 0, got {self.frames}; give the longest there is")
        scaled("mean", self.mean, "std", self.std)

    def fitted(self, data: DataSet) -> Self:
        """With the longest sequence and the moments of the data."""
        if self.mean:
            return self
        frames, mean, std = moments(data)
        return replace(
            self, frames=frames, mean=tuple(mean.tolist()), std=tuple(torch.where(std > 0, std, 1.0).tolist())
        )

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of one example: (frames, features)."""
        return (self.frames, len(self.mean))

    def encode(self, x: Tensor, valid: Tensor | None = None) -> Tensor:
        """(b, frames, features) to standardized float32, 0 where `valid` (b, frames), or finer, is False. Shorter ones
        are padded to all frames."""
        inside = standardized(x, self.mean, self.std)
        if valid is not None:
            inside = masked.kept(inside, valid[:, : x.shape[1]])
        missing = self.frames - x.shape[1]
        return inside if missing <= 0 else torch.cat([inside, inside.new_zeros(len(x), missing, x.shape[2])], 1)

    def decode(self, x: Tensor, valid: Tensor | None = None) -> list[Tensor]:
        """Standardized (b, frames, features) to sequences in the data's own units, each (its frames, features),
        float32 on the CPU; NaN where `valid` (b, frames, features) says that a number is missing."""
        outside = restored(x, self.mean, self.std)
        if valid is not None and valid.ndim == 3:
            outside = outside[:, : valid.shape[1]].masked_fill(~valid.cpu(), torch.nan)
            valid = valid.any(2)
            valid = valid.flip(1).int().cummax(1).values.flip(1)  # a frame between others that lacks all is one, too
        lengths = [x.shape[1]] * len(x) if valid is None else valid.sum(1).tolist()
        return [one[:length].clone() for one, length in zip(outside, lengths, strict=True)]

    def log_volume(self, valid: Tensor | None = None) -> float | Tensor:
        """The sum of the logarithms of the scales over what is real, nats: (b,) where `valid` is given."""
        if valid is not None and valid.ndim == 3:
            scales = torch.tensor(self.std, dtype=torch.float64).log().to(float64_device(valid.device))
            return (wide(valid) * scales).sum((1, 2))
        frame = sum(map(math.log, self.std))
        return frame * self.frames if valid is None else frame * wide(valid.sum(1))

    def check(self, x: Tensor) -> None:
        """ValueError where x (b, frames, features) are no such sequences."""
        rows_of(x, self.describe(), shape=(*x.shape[:1], len(self.mean)) if x.ndim == 2 else ())
        if x.ndim != 3 or x.shape[2] != len(self.mean) or x.shape[1] > self.frames:
            raise ValueError(
                f"data: expected {self.describe()}, as the model was trained on, got examples of shape "
                f"{tuple(x.shape[1:])}; give data like those"
            )
        if not x.is_floating_point():
            raise ValueError(f"data: expected floats, got {x.dtype}; convert them")

    def tiles(self, samples: Sequence[Tensor]) -> Tensor:
        """Every feature of a sequence a line along its frames, all on the scale of the training data."""
        from unsteep.pages import curves

        low = min(m - 3 * s for m, s in zip(self.mean, self.std, strict=True))
        high = max(m + 3 * s for m, s in zip(self.mean, self.std, strict=True))
        return torch.from_numpy(curves.tiles([one.numpy() for one in samples], low, high, self.frames))

    def show(
        self,
        samples: Sequence[Tensor],
        *,
        columns: int | None = None,
        row_labels: Sequence[str] | None = None,
        column_labels: Sequence[str] | None = None,
        captions: Sequence[str] | None = None,
        title: str = "",
        **_: Any,
    ) -> Image:
        """A sheet of sequences as lines; `captions` stand above each."""
        from unsteep.pages import pictures

        tiles = self.tiles(samples).numpy()
        labels: dict[str, Any] = {"row_labels": row_labels, "column_labels": column_labels, "captions": captions}
        return pictures.grid(tiles, columns, **labels, title=title)

    def describe(self) -> str:
        """In words."""
        return f"sequences of up to {self.frames} frames of {len(self.mean)} numbers"
