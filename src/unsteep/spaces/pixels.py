"""Pictures: uint8 outside, floats in [-1, 1] inside (Ho et al. 2020, section 3.3).

x = 2 value / 255 - 1, and back by rounding. `levels` is how many grey values the source has: 256 for 8-bit pictures,
17 for the digits, whose values are spread evenly over 0..255.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class Pixels:
    """Square pictures of `channels` x `size` x `size`."""

    channels: int
    size: int
    levels: int = 256

    @property
    def bounds(self) -> tuple[float, float]:
        """The range of x, to clip estimates to."""
        return -1.0, 1.0

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of one example."""
        return (self.channels, self.size, self.size)

    def encode(self, pictures: Tensor) -> Tensor:
        """uint8 (b, c, h, w) to float32 in [-1, 1], on the grid of `levels` values."""
        top = self.levels - 1
        return (pictures.to(torch.float32) * (top / 255)).round() / (top / 2) - 1

    def holds(self, pictures: Tensor) -> bool:
        """Whether every value of uint8 `pictures` is one of the `levels` grey values."""
        top = self.levels - 1
        values = torch.arange(256)
        on_grid = ((values * (top / 255)).round() * (255 / top)).round() == values
        return bool(on_grid[pictures.long()].all())

    def decode(self, x: Tensor) -> Tensor:
        """Floats (b, c, h, w), clamped to [-1, 1], to uint8 on the CPU."""
        return ((x.float().clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8).cpu()
