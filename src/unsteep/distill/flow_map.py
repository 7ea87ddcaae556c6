"""Flow maps by the Lagrangian identity (Boffi et al. 2025, "Flow map matching"; "How to build a consistency model").

Where a map leads from x at `now` must move with the end of the step as the flow does there. With u = alpha / sigma

    X0 + (u_nxt - u_now) dX0 / du_nxt = x0(x_nxt, nxt),    x_nxt where the map itself leads,

x0 being what the teacher says. By t the factor is -2 expm1((logsnr_now - logsnr_nxt) / 2) / (dlogsnr / dt) at `nxt`:
finite where there is no signal, and 0 at nxt = now, where the teacher's plain estimate is learned. The derivative is
along the end of the step alone, in forward mode (see `objectives.derivative`), and carries the gradient; the right-hand
side does not.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import nn

from unsteep.core.level import add_noise, like
from unsteep.core.maps import Maps
from unsteep.core.noise import Draw, Purpose
from unsteep.core.schedules import continuous
from unsteep.data.batch import Batch
from unsteep.denoiser import unwrapped
from unsteep.distill.teaching import Taught, asked, check_share, spans
from unsteep.objectives.derivative import along, rates
from unsteep.objectives.loss import Loss
from unsteep.objectives.mse import weighed


@dataclass(frozen=True, kw_only=True)
class FlowMap(Taught):
    """Steps between any two levels, by the Lagrangian identity."""

    diagonal: float = 0.25
    """Share of the examples whose step ends where it begins: they keep the plain estimate."""
    cost: ClassVar[float] = 3.0

    def __post_init__(self) -> None:
        super().__post_init__()
        check_share(self.diagonal)

    @property
    def maps(self) -> Maps:
        """Which steps it trains."""
        return Maps(calls=self.calls)

    def __call__(self, module: nn.Module, batch: Batch, draw: Draw) -> Loss:
        denoiser, schedule = unwrapped(module), continuous(unwrapped(module).schedule)
        teach = asked(self.teacher(denoiser), batch.condition)
        t, r = spans(draw, self.diagonal)
        now, nxt = schedule(t), schedule(r)
        x_t = add_noise(batch.x, draw.normal(batch.x, Purpose.NOISE), now)
        told, change = along(module, schedule, x_t, t, r, batch.condition, r_rate=1.0)
        factor = -2 * torch.expm1((now.logsnr - nxt.logsnr) / 2) / rates(schedule, r).logsnr
        with torch.no_grad():
            aim = told.replace_x0(teach(told.moved(nxt), nxt).x0).as_(told.kind)
        moving = told.replace_x0(told.x0 + like(factor, x_t) * change).as_(told.kind)
        error = weighed(denoiser, replace(told, value=moving), aim, self.weight, batch.weight)
        plain = (r == t).to(error.device)
        terms = {"diagonal": torch.where(plain, error, 0), "steps": torch.where(plain, 0, error)}
        return Loss(error, t, terms)
