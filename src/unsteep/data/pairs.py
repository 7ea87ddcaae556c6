"""Pictures with an aligned one made from them: the pairs that a model of high resolution learns from.

The low-resolution partner of a picture is the mean of each block of pixels, rounded to bytes as a small picture on disk
is, and brought back to the full size by bilinear interpolation (with pixel centres aligned): what a small picture that
somebody has, or another model made, becomes by `enlarged` alone.
"""

import torch
import torch.nn.functional as F
from torch import Tensor


def low_resolution(pictures: Tensor, size: int) -> Tensor:
    """What is left of pictures, uint8 (b, c, h, h), at `size` x `size` pixels, in their own shape.

    ValueError unless `size` divides h.
    """
    return enlarged(shrunk(pictures, size), pictures.shape[-1])


def shrunk(pictures: Tensor, size: int) -> Tensor:
    """The mean of each block of pictures, uint8 (b, c, h, h) to (b, c, size, size). ValueError unless it divides h."""
    side = pictures.shape[-1]
    if size < 1 or side % size:
        raise ValueError(f"low resolution: expected a size that divides {side} pixels, got {size}")
    return _bytes(F.avg_pool2d(pictures.float(), side // size))


def enlarged(pictures: Tensor, size: int) -> Tensor:
    """Small pictures, uint8 (b, c, h, h), interpolated to (b, c, size, size)."""
    return _bytes(F.interpolate(pictures.float(), (size, size), mode="bilinear", align_corners=False))


def _bytes(pictures: Tensor) -> Tensor:
    return pictures.round().clamp(0, 255).to(torch.uint8)
