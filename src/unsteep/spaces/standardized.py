"""Numbers on the scale of their data, feature by feature along the last axis: zero mean and unit variance inside."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from unsteep.core.level import on_device


def standardized(x: Tensor, mean: Sequence[float], std: Sequence[float]) -> Tensor:
    """(..., features) from the data's own units, float32 on the device of x."""
    shift, scale = (on_device(torch.tensor(v, dtype=torch.float64), x.device) for v in (mean, std))
    return ((x.to(shift) - shift) / scale).float()


def restored(x: Tensor, mean: Sequence[float], std: Sequence[float]) -> Tensor:
    """And back, float32 on the CPU."""
    shift, scale = (torch.tensor(v, dtype=torch.float64) for v in (mean, std))
    return (x.cpu().to(shift) * scale + shift).float()
