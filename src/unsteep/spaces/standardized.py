"""Numbers on the scale of their data, feature by feature along the last axis: zero mean and unit variance inside."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from unsteep.core import masked
from unsteep.core.level import on_device
from unsteep.core.protocols import DataSet

AT_ONCE = 1024  # sequences


def standardized(x: Tensor, mean: Sequence[float], std: Sequence[float]) -> Tensor:
    """(..., features) from the data's own units, float32 on the device of x."""
    shift, scale = (on_device(torch.tensor(v, dtype=torch.float64), x.device) for v in (mean, std))
    return ((x.to(shift) - shift) / scale).float()


def moments(data: DataSet) -> tuple[int, Tensor, Tensor]:
    """The most frames of sequences, and the mean and standard deviation of each of their numbers, float64 (features,),
    as much as each counts. The deviation of one that does not vary is 0, and so is the mean of one that never counts.
    ValueError for sequences without a frame, and for numbers that are not finite."""
    count, total, squares, frames = torch.zeros(()), torch.zeros(()), torch.zeros(()), 0
    shift: Tensor | None = None
    for index in torch.arange(len(data)).split(AT_ONCE):
        rows = data.rows(index)
        frames = max(frames, rows.x.shape[1])
        x = (rows.x if rows.known is None else masked.kept(rows.x, rows.known)).double()
        weight = torch.ones_like(x) if rows.weight is None else rows.weight.double()
        weight = masked.kept(weight, rows.valid).flatten(0, 1)
        x = x.flatten(0, 1)
        if shift is None and bool(weight.any()):
            shift = (weight * x).sum(0) / weight.sum(0).clamp(min=1e-12)  # near the mean: squares lose no digits
        if shift is not None:
            count, total = count + weight.sum(0), total + (weight * (x - shift)).sum(0)
            squares = squares + (weight * (x - shift).square()).sum(0)
    if shift is None or not bool((shift + total).isfinite().all()):
        raise ValueError(f"data: expected sequences with frames of finite numbers, got others ({data.source})")
    counts = count.clamp(min=1e-12)
    variance = squares / counts - (total / counts) ** 2
    std = torch.where(variance > 1e-20 * (1 + shift**2), variance.clamp(min=0).sqrt(), 0.0)
    return frames, shift + total / counts, std


def restored(x: Tensor, mean: Sequence[float], std: Sequence[float]) -> Tensor:
    """And back, float32 on the CPU."""
    shift, scale = (torch.tensor(v, dtype=torch.float64) for v in (mean, std))
    return (x.cpu().to(shift) * scale + shift).float()
