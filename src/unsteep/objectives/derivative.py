"""How what a map says changes along a path: derivatives by forward-mode automatic differentiation.

    d x0 / dh    of the map's x0 at x + h x', for a step from t + h t' to r + h r', at h = 0

Estimate and derivative come from one pass of the network, so that they have one dropout; both carry gradients. The
pass is in float32 at least, half precision having no such derivative.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor, nn
from torch.autograd import forward_ad

from unsteep.core.condition import Condition
from unsteep.core.estimate import Estimate
from unsteep.core.level import NoiseLevel
from unsteep.core.precision import arithmetic
from unsteep.core.schedules import Schedule
from unsteep.networks.forward_mode import forward_mode

PARTS = ("t", "logsnr", "alpha", "sigma")


def along(
    module: nn.Module,
    schedule: Schedule,
    x: Tensor,
    t: Tensor,
    r: Tensor,
    condition: Condition | None = None,
    *,
    x_rate: Tensor | None = None,
    t_rate: float = 0.0,
    r_rate: float = 0.0,
) -> tuple[Estimate, Tensor]:
    """What the map `module` says at x (b, ...) of steps from t to r (b,), float64, on a schedule that is smooth, and
    the derivative of its x0, (b, ...). `x_rate`, `t_rate` and `r_rate`: x', t' and r'."""
    with forward_mode(), arithmetic():
        moving = x if x_rate is None else forward_ad.make_dual(x, x_rate)
        now, nxt = (
            schedule(forward_ad.make_dual(one, torch.full_like(one, rate)) if rate else one)
            for one, rate in ((t, t_rate), (r, r_rate))
        )
        told: Estimate = module(moving, now, condition, nxt)
        change = forward_ad.unpack_dual(told.x0).tangent
        value = forward_ad.unpack_dual(told.value).primal
        return replace(told, value=value, x_t=x, level=schedule(t)), torch.zeros_like(x) if change is None else change


def rates(schedule: Schedule, t: Tensor) -> NoiseLevel:
    """The derivatives by t of the levels of a smooth schedule at t (b,), float64, 0 < t < 1."""
    with forward_ad.dual_level():
        level = schedule(forward_ad.make_dual(t, torch.ones_like(t)))
        found = (forward_ad.unpack_dual(getattr(level, part)).tangent for part in PARTS)
        return NoiseLevel(*(torch.zeros_like(t) if one is None else one.clone() for one in found))
