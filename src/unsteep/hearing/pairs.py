"""Pictures with an aligned one: the pairs that a model learns from which makes the one after the other.

    low-resolution:8   what is left of the picture with 8 pixels along its longer side: the mean of each block of
                       pixels, rounded as a small picture on disk is, and brought back to the full size by bilinear
                       interpolation (with pixel centres aligned): what a small picture that somebody has, or another
                       model made, becomes by `enlarged` alone
    sketch             lines where the brightness changes, dark on white: a step of a quarter of the range is black
    given              whatever the data hold beside their pictures: masks, skeletons, drawings

Pictures are (b, c, h, w) of uint8, uint16, or float32 in [0, 1].
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor

from unsteep.core.precision import arithmetic

Kind = Literal["low-resolution", "sketch", "given"]
STEEP = 0.25  # the step of brightness, as a share of the range, that a sketch shows as black
MOST = {torch.uint8: 255, torch.uint16: 65535}  # of whole numbers; others go up to 1


@dataclass(frozen=True)
class Aligned:
    """Which picture stands beside each; `side`, the longer one of the small picture, for low resolution."""

    kind: Kind
    side: int = 0

    @classmethod
    def of(cls, words: str) -> Aligned:
        """From words as low-resolution:8, sketch or given; ValueError for others."""
        kind, _, side = words.partition(":")
        number = int(side) if side.isascii() and side.isdigit() else 0
        if kind not in get_args(Kind) or (kind == "low-resolution") != (number > 0) or (side and not number):
            raise ValueError(f"picture: expected low-resolution:8 (or another size), sketch or given, got {words!r}")
        return cls(kind, number)  # type: ignore[arg-type]  # one of them, as was checked

    def channels(self, of_picture: int) -> int:
        """Channels of the aligned picture, from those of the picture."""
        return 1 if self.kind == "sketch" else of_picture

    def small(self, height: int, width: int) -> tuple[int, int]:
        """Height and width of the small picture. ValueError unless its blocks divide both sides."""
        longer = max(height, width)
        if not 1 <= self.side < longer or longer % self.side or min(height, width) % (longer // self.side):
            sides = f"{longer} pixels" if height == width else f"{height} x {width} pixels in equal blocks"
            raise ValueError(f"condition.picture: expected a size that divides {sides}, got {self.side}")
        return height * self.side // longer, width * self.side // longer

    def made_from(self, pictures: Tensor) -> Tensor:
        """The aligned pictures, (b, channels, h, w); ValueError where they are given, and cannot be made."""
        if self.kind == "low-resolution":
            return low_resolution(pictures, self.side)
        if self.kind == "sketch":
            return sketch(pictures)
        raise ValueError("picture: aligned pictures that are given cannot be made; set data.aligned to their folder")

    def fitted(self, pictures: Tensor, channels: int, height: int, width: int) -> Tensor:
        """Aligned pictures that somebody has, made to fit `height` x `width` ones with `channels`: small ones of low
        resolution are enlarged, and whole ones reduced first. ValueError for other shapes."""
        sizes = {(height, width)} | ({self.small(height, width)} if self.kind == "low-resolution" else set())
        wanted = self.channels(channels)
        if pictures.ndim != 4 or pictures.shape[1] != wanted or tuple(pictures.shape[2:]) not in sizes:
            shapes = " or ".join(f"(n, {wanted}, {h}, {w})" for h, w in sorted(sizes))
            raise ValueError(f"picture: expected pictures {shapes}, got {tuple(pictures.shape)}")
        if self.kind != "low-resolution":
            return pictures
        whole = tuple(pictures.shape[2:]) == (height, width)
        return enlarged(shrunk(pictures, self.side) if whole else pictures, height, width)


def low_resolution(pictures: Tensor, side: int) -> Tensor:
    """What is left of pictures with `side` pixels along their longer side, in their own shape; ValueError unless its
    blocks divide both."""
    return enlarged(shrunk(pictures, side), *pictures.shape[2:])


def shrunk(pictures: Tensor, side: int) -> Tensor:
    """The mean of each block of pictures: (b, c, h, w) to (b, c, h', w'), the longer of which is `side`. ValueError
    unless blocks divide h and w."""
    height, width = pictures.shape[2:]
    longer = max(height, width)
    if side < 1 or longer % side or min(height, width) % (longer // side):
        raise ValueError(f"low resolution: expected a size that divides {longer} pixels, got {side}")
    return _as(F.avg_pool2d(pictures.to(torch.float32), longer // side), pictures.dtype)


def enlarged(pictures: Tensor, height: int, width: int) -> Tensor:
    """Small pictures interpolated to (b, c, height, width)."""
    wide = F.interpolate(pictures.to(torch.float32), (height, width), mode="bilinear", align_corners=False)
    return _as(wide, pictures.dtype)


@arithmetic()
def sketch(pictures: Tensor) -> Tensor:
    """The lines of pictures, (b, 1, h, w): dark where the gradient of the brightness, by Sobel's kernels, is steep."""
    most = MOST.get(pictures.dtype, 1)
    bright = F.pad(pictures.to(torch.float32).mean(1, keepdim=True) / most, (1, 1, 1, 1), mode="replicate")
    across = torch.tensor([[-1.0, 0.0, 1.0], [-2.0, 0.0, 2.0], [-1.0, 0.0, 1.0]], device=pictures.device) / 4
    slopes = F.conv2d(bright, torch.stack([across, across.T])[:, None])
    return _as(most * (1 - (slopes.norm(dim=1, keepdim=True) / STEEP).clamp(max=1)), pictures.dtype)


def unit(pictures: Tensor) -> Tensor:
    """Aligned pictures as floats in [-1, 1]."""
    most = MOST.get(pictures.dtype)
    return pictures.float() * 2 - 1 if most is None else pictures.to(torch.float32).round() / (most / 2) - 1


def _as(pictures: Tensor, dtype: torch.dtype) -> Tensor:
    most = MOST.get(dtype)
    return pictures if most is None else pictures.round().clamp(0, most).to(torch.int32).to(dtype)
