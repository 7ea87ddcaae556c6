"""Pictures of any height, width and number of channels: whole numbers outside, floats in [-1, 1] inside (Ho et al.
2020, section 3.3).

    x = 2 value / most - 1,    most = 255 for uint8, 65535 for uint16,    and back by rounding
    x = 2 (value - low) / (high - low) - 1                                for float32 pictures, which are continuous

`levels` is how many values the source has: 256 for 8-bit pictures, 17 for the digits, whose values are spread evenly
over 0..255; with more than 256 pictures are uint16, and with none they are float32 from `low` to `high`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar, Self

import torch
from torch import Tensor

from unsteep.core.arguments import checked, rows_of
from unsteep.core.protocols import DataSet

if TYPE_CHECKING:
    from PIL.Image import Image

BYTE, WORD = 255, 65535


@dataclass(frozen=True, kw_only=True)
class Pixels:
    """Pictures of `channels` x `height` x `width`; `size` is both sides of a square one. 0: filled from the data."""

    channels: int = 0
    size: int = 0
    height: int = 0
    width: int = 0
    levels: int | None = 256
    low: float = 0.0
    high: float = 1.0
    axes: ClassVar[int] = 3  # of one example

    def __post_init__(self) -> None:
        checked(self)
        for name in ("channels", "size", "height", "width"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name}: expected a whole number of at least 0, got {getattr(self, name)}")
        if self.levels is not None and not 2 <= self.levels <= WORD + 1:
            raise ValueError(f"levels: expected 2 to {WORD + 1} values, or none, got {self.levels}")
        if not -math.inf < self.low < self.high < math.inf:
            raise ValueError(f"low, high: expected a range, got {self.low} to {self.high}")
        height, width = self.height or self.size, self.width or self.size
        for name, value in (("height", height), ("width", width), ("size", height if height == width else 0)):
            object.__setattr__(self, name, value)  # one form for one space

    def fitted(self, data: DataSet) -> Self:
        """With the sizes and levels of the data."""
        x = data.rows(torch.tensor([0])).x
        channels, height, width = x.shape[1:]
        filled = replace(self, channels=channels, size=0, height=height, width=width, levels=data.levels)
        low, high = getattr(data, "range", (self.low, self.high)) if data.levels is None else (0.0, 1.0)
        return replace(filled, low=float(low), high=float(high))

    @property
    def bounds(self) -> tuple[float, float]:
        """The range of x, to clip estimates to."""
        return -1.0, 1.0

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of one example."""
        return (self.channels, self.height, self.width)

    @property
    def dtype(self) -> torch.dtype:
        """Of pictures outside."""
        if self.levels is None:
            return torch.float32
        return torch.uint8 if self.levels <= BYTE + 1 else torch.uint16

    def encode(self, x: Tensor, valid: Tensor | None = None) -> Tensor:
        """Pictures (b, c, h, w) to float32 in [-1, 1], on the grid of `levels` values."""
        if self.levels is None:
            return (x.float() - self.low) * (2 / (self.high - self.low)) - 1
        top = self.levels - 1
        return (x.to(torch.float32) * (top / self._most)).round() / (top / 2) - 1

    def decode(self, x: Tensor, valid: Tensor | None = None) -> Tensor:
        """Floats (b, c, h, w), clamped to [-1, 1], to pictures on the CPU."""
        inside = x.float().clamp(-1, 1) + 1
        if self.levels is None:
            return (inside * ((self.high - self.low) / 2) + self.low).cpu()
        rounded = (inside * (self._most / 2)).round()
        return rounded.to(torch.int32).to(self.dtype).cpu() if self._most > BYTE else rounded.to(torch.uint8).cpu()

    def log_volume(self, valid: Tensor | None = None) -> float:
        """Minus log-densities of the model's numbers are turned into those of pictures by adding this, nats. 0 where
        values lie on a grid: they have probabilities."""
        return 0.0 if self.levels is not None else math.prod(self.shape) * math.log((self.high - self.low) / 2)

    def holds(self, pictures: Tensor) -> bool:
        """Whether every value of `pictures` is one of the `levels` values."""
        if self.levels is None:
            return True
        top, most = self.levels - 1, self._most
        values = torch.arange(most + 1, dtype=torch.float64)
        on_grid = ((values * (top / most)).round() * (most / top)).round() == values
        return bool(on_grid[pictures.long()].all())

    def check(self, x: Tensor) -> None:
        """ValueError where x (b, ...) are no pictures of this size and kind."""
        rows_of(x, self.describe(), shape=self.shape)
        if tuple(x.shape[1:]) != self.shape:
            got = " x ".join(map(str, x.shape[1:]))
            raise ValueError(
                f"data: expected {self.describe()}, as the model was trained on, got {got or 'single numbers'}; give "
                "pictures of its size"
            )
        if x.dtype != self.dtype:
            kinds = {torch.uint8: "bytes (uint8)", torch.uint16: "16-bit (uint16)", torch.float32: "float32"}
            span = f" from {float(x.min()):.4g} to {float(x.max()):.4g}" if x.is_floating_point() and x.numel() else ""
            raise ValueError(
                f"data: expected pictures as {kinds[self.dtype]}, got {str(x.dtype).removeprefix('torch.')}{span}; "
                "convert them"
            )
        if x.is_floating_point() and not bool(x.isfinite().all()):
            raise ValueError("data: expected finite numbers, got NaN or infinite ones; leave such pictures out")

    def tiles(self, samples: Tensor) -> Tensor:
        """Pictures (..., c, h, w) as they can be looked at, uint8 (..., 1 or 3, h, w'): 16 bits and floats brought to
        bytes, transparency laid on white, and channels that are no colours side by side in grey."""
        x = samples
        if self.levels is None:
            x = ((x - self.low) / (self.high - self.low)).clamp(0, 1) * BYTE
        elif self._most > BYTE:
            x = x.to(torch.float32) * (BYTE / WORD)
        x = x.float()
        if self.channels == 4:
            x = x[..., :3, :, :] * (x[..., 3:, :, :] / BYTE) + (BYTE - x[..., 3:, :, :])
        elif self.channels not in (1, 3):
            x = torch.cat(x.unbind(-3), -1).unsqueeze(-3)
        return x.round().clamp(0, BYTE).to(torch.uint8)

    def show(
        self,
        samples: Tensor,
        *,
        columns: int | None = None,
        row_labels: Sequence[str] | None = None,
        column_labels: Sequence[str] | None = None,
        captions: Sequence[str] | None = None,
        title: str = "",
        **_: Any,
    ) -> Image:
        """A sheet of pictures (n, c, h, w), or of one (c, h, w); `captions` stand above each."""
        from unsteep.pages import pictures

        tiles = self.tiles(samples if samples.ndim > self.axes else samples[None]).numpy()
        labels: dict[str, Any] = {"row_labels": row_labels, "column_labels": column_labels, "captions": captions}
        return pictures.grid(tiles, columns, **labels, title=title)

    def describe(self) -> str:
        """In words."""
        return f"pictures of {self.channels} x {self.height} x {self.width} (channels x height x width)"

    @property
    def _most(self) -> int:
        return BYTE if self.levels is not None and self.levels <= BYTE + 1 else WORD
