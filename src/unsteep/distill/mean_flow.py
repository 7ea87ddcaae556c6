"""MeanFlow (Geng et al. 2025, "Mean flows for one-step generative modeling"): the Eulerian identity, on any schedule.

Where a map leads must not change as its beginning moves along the flow. With W = alpha sigma' - alpha' sigma and
D = alpha_nxt sigma - alpha sigma_nxt that is

    X0 = X0 + (sigma_nxt / sigma) (x0 - X0) - D / W dX0 / dt,    dx / dt = alpha' x0 + sigma' eps,

whose right-hand side, without gradient, is what X0 learns: x0 itself at nxt = now, and on the flow path the paper's
target v - (t - r) du / dt, in other words. (x0, eps) are the teacher's estimate, or the example and its noise, which
are that on average, the target being linear in them. The loss of an example is divided by (itself + 1e-3)^power.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from unsteep.core.condition import Condition
from unsteep.core.estimate import Estimate
from unsteep.core.level import add_noise, like
from unsteep.core.maps import Maps
from unsteep.core.noise import Draw, Purpose
from unsteep.core.schedules import Schedule, continuous
from unsteep.data.batch import Batch
from unsteep.denoiser import unwrapped
from unsteep.distill.teaching import Taught, asked, check_learns, check_share, spans
from unsteep.objectives.derivative import along, rates
from unsteep.objectives.loss import Loss
from unsteep.objectives.mse import weighed

SMALL = 1e-3


@dataclass(frozen=True, kw_only=True)
class MeanFlow(Taught):
    """Steps between any two levels, by the Eulerian identity."""

    learns: Literal["teacher", "data"] = "teacher"
    """From whom: from the model that the run starts from, or from the data, and then from any beginning."""
    diagonal: float = 0.5
    """Share of the examples whose step ends where it begins: they learn the plain estimate."""
    power: float = 1.0
    """How far losses of different size are made alike: 0 not at all, 1 wholly."""
    cost: ClassVar[float] = 3.0

    def __post_init__(self) -> None:
        super().__post_init__()
        check_share(self.diagonal)
        check_learns(self)

    @property
    def starts(self) -> bool:
        """Whether it needs a teacher."""
        return self.learns == "teacher"

    @property
    def maps(self) -> Maps:
        """Which steps it trains."""
        return Maps(calls=self.calls)

    def __call__(self, module: nn.Module, batch: Batch, draw: Draw) -> Loss:
        denoiser, schedule = unwrapped(module), continuous(unwrapped(module).schedule)
        t, r = spans(draw, self.diagonal)
        now = schedule(t)
        eps = draw.normal(batch.x, Purpose.NOISE)
        x_t = add_noise(batch.x, eps, now)
        x0 = batch.x
        if self.learns == "teacher":
            with torch.no_grad():
                said = asked(self.teacher(denoiser), batch.condition)(x_t, now)
                x0, eps = said.x0, said.eps
        plain, error = (r == t).to(x_t.device), x_t.new_zeros(len(t))
        for rows in (plain, ~plain):
            if bool(rows.any()):
                at = rows.cpu()
                condition = None if batch.condition is None else batch.condition.select(rows)
                told, aim = _target(module, schedule, x_t[rows], x0[rows], eps[rows], t[at], r[at], condition)
                counts = None if batch.weight is None else batch.weight[rows]
                error = error.masked_scatter(rows, weighed(denoiser, told, aim, self.weight, counts))
        terms = {"diagonal": torch.where(plain, error, 0), "steps": torch.where(plain, 0, error)}
        return Loss(error / (error.detach() + SMALL) ** self.power, t, terms)


def _target(
    module: nn.Module,
    schedule: Schedule,
    x: Tensor,
    x0: Tensor,
    eps: Tensor,
    t: Tensor,
    r: Tensor,
    condition: Condition | None,
) -> tuple[Estimate, Tensor]:
    """What the map says of steps from t to r, with its gradient, and what it should have, in its kind."""
    now, nxt = schedule(t), schedule(r)
    if torch.equal(t, r):  # of which no derivative is needed
        told: Estimate = module(x, now, condition, nxt)
        return told, told.replace_x0(x0).as_(told.kind)
    slope = rates(schedule, t)
    way = like(slope.alpha, x) * x0 + like(slope.sigma, x) * eps
    told, change = along(module, schedule, x, t, r, condition, x_rate=way, t_rate=1.0)
    turn = nxt.alpha * now.sigma - now.alpha * nxt.sigma
    factor = turn / (now.alpha * slope.sigma - slope.alpha * now.sigma)
    aim = told.x0 + like(nxt.sigma / now.sigma, x) * (x0 - told.x0) - like(factor, x) * change
    return told, told.replace_x0(aim.detach()).as_(told.kind)
