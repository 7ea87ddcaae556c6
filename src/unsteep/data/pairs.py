"""Pictures with an aligned one: the pairs that a model learns from which makes the one after the other.

    low-resolution:8   what is left of the picture at 8 x 8: the mean of each block of pixels, rounded to bytes as a
                       small picture on disk is, and brought back to the full size by bilinear interpolation (with pixel
                       centres aligned): what a small picture that somebody has, or another model made, becomes by
                       `enlarged` alone
    sketch             lines where the brightness changes, dark on white: a step of a quarter of the range is black
    given              whatever the data hold beside their pictures: masks, skeletons, drawings

Pictures are uint8 (b, c, h, h).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor

Kind = Literal["low-resolution", "sketch", "given"]
STEEP = 0.25  # the step of brightness, as a share of the range, that a sketch shows as black


@dataclass(frozen=True)
class Aligned:
    """Which picture stands beside each; `side` of the small one, for low resolution."""

    kind: Kind
    side: int = 0

    @classmethod
    def of(cls, words: str) -> Aligned:
        """From words as low-resolution:8, sketch or given; ValueError for others."""
        kind, _, side = words.partition(":")
        if kind not in get_args(Kind) or (kind == "low-resolution") != (side.isdigit() and int(side) > 0):
            raise ValueError(f"picture: expected low-resolution:8 (or another size), sketch or given, got {words!r}")
        return cls(kind, int(side or 0))  # type: ignore[arg-type]  # one of them, as was checked

    def channels(self, of_picture: int) -> int:
        """Channels of the aligned picture, from those of the picture."""
        return 1 if self.kind == "sketch" else of_picture

    def made_from(self, pictures: Tensor) -> Tensor:
        """The aligned pictures, (b, channels, h, h); ValueError where they are given, and cannot be made."""
        if self.kind == "low-resolution":
            return low_resolution(pictures, self.side)
        if self.kind == "sketch":
            return sketch(pictures)
        raise ValueError("picture: aligned pictures that are given cannot be made; set data.aligned to their folder")

    def fitted(self, pictures: Tensor, channels: int, size: int) -> Tensor:
        """Aligned pictures that somebody has, made to fit `size` x `size` ones with `channels`: small ones of low
        resolution are enlarged, and whole ones reduced first. ValueError for other shapes."""
        sides = {self.side, size} if self.kind == "low-resolution" else {size}
        wanted = self.channels(channels)
        if pictures.ndim != 4 or pictures.shape[1] != wanted or not {*pictures.shape[2:]} <= sides:
            shapes = " or ".join(f"(n, {wanted}, {side}, {side})" for side in sorted(sides))
            raise ValueError(f"picture: expected pictures {shapes}, got {tuple(pictures.shape)}")
        if self.kind != "low-resolution":
            return pictures
        return enlarged(pictures if pictures.shape[-1] == self.side else shrunk(pictures, self.side), size)


def low_resolution(pictures: Tensor, size: int) -> Tensor:
    """What is left of pictures at `size` x `size` pixels, in their own shape; ValueError unless `size` divides h."""
    return enlarged(shrunk(pictures, size), pictures.shape[-1])


def shrunk(pictures: Tensor, size: int) -> Tensor:
    """The mean of each block of pictures: (b, c, h, h) to (b, c, size, size). ValueError unless it divides h."""
    side = pictures.shape[-1]
    if size < 1 or side % size:
        raise ValueError(f"low resolution: expected a size that divides {side} pixels, got {size}")
    return _bytes(F.avg_pool2d(pictures.float(), side // size))


def enlarged(pictures: Tensor, size: int) -> Tensor:
    """Small pictures interpolated to (b, c, size, size)."""
    return _bytes(F.interpolate(pictures.float(), (size, size), mode="bilinear", align_corners=False))


def sketch(pictures: Tensor) -> Tensor:
    """The lines of pictures, (b, 1, h, h): dark where the gradient of the brightness, by Sobel's kernels, is steep."""
    bright = F.pad(pictures.float().mean(1, keepdim=True) / 255, (1, 1, 1, 1), mode="replicate")
    across = torch.tensor([[-1.0, 0.0, 1.0], [-2.0, 0.0, 2.0], [-1.0, 0.0, 1.0]], device=pictures.device) / 4
    slopes = F.conv2d(bright, torch.stack([across, across.T])[:, None])
    return _bytes(255 * (1 - (slopes.norm(dim=1, keepdim=True) / STEEP).clamp(max=1)))


def _bytes(pictures: Tensor) -> Tensor:
    return pictures.round().clamp(0, 255).to(torch.uint8)
