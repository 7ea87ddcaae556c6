"""The laws that maps obey, held against maps that are known: those of Gaussian data, on any schedule, in float64."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from unsteep.analytic import GaussianMap
from unsteep.core.condition import Condition
from unsteep.core.estimate import Estimate
from unsteep.core.level import NoiseLevel, like
from unsteep.core.maps import share_of_first
from unsteep.core.noise import NoiseSource
from unsteep.core.schedules import Schedule, continuous
from unsteep.objectives.derivative import along, rates

COUNT = 1000  # of steps between random times, from random places
MEAN, VARIANCES = torch.tensor([0.3, -0.5, 0.1]).double(), torch.tensor([0.04, 0.5, 2.0]).double()


def errors(schedule: Schedule) -> dict[str, float]:
    """The largest error of each law over random steps on a schedule, by what it says."""
    exact, smooth, module = GaussianMap(MEAN, VARIANCES), continuous(schedule), _Exact()
    noise = NoiseSource(range(COUNT))
    times = 0.02 + 0.96 * noise.uniform(torch.empty(COUNT, 3, dtype=torch.float64), 0)
    t, s, r = times.sort(1, descending=True).values.unbind(1)
    now, mid, nxt = smooth(t), smooth(s), smooth(r)
    x = like(now.scale, torch.empty(COUNT, 3).double()) * noise.normal(torch.empty(COUNT, 3).double(), 1)
    said, first = exact.to(x, now, nxt), exact.to(x, now, mid)
    w = like(share_of_first(now, mid, nxt), x)
    ends = exact(exact.moved(x, now, nxt), nxt).x0
    told, change = along(module, smooth, x, t, r, r_rate=1.0)
    lagrangian = -2 * torch.expm1((now.logsnr - nxt.logsnr) / 2) / rates(smooth, r).logsnr
    plain, slope = exact(x, now), rates(smooth, t)
    way = like(slope.alpha, x) * plain.x0 + like(slope.sigma, x) * plain.eps
    _, along_flow = along(module, smooth, x, t, r, x_rate=way, t_rate=1.0)
    turn = nxt.alpha * now.sigma - now.alpha * nxt.sigma
    eulerian = turn / (now.alpha * slope.sigma - slope.alpha * now.sigma)
    shares = like(nxt.sigma / now.sigma, x)

    def largest(of: Tensor) -> float:
        return float(of.abs().max())

    return {
        "one DDIM step of a map is the flow": largest(said.moved(nxt) - exact.moved(x, now, nxt)),
        "a step of no length is the plain estimate": largest(exact.to(x, now, now).x0 - plain.x0),
        "two steps make one (shortcut, progressive, consistency)": largest(
            w * first.x0 + (1 - w) * exact.to(first.moved(mid), mid, nxt).x0 - said.x0
        ),
        "its end moves with the flow (flow map)": largest(told.x0 + like(lagrangian, x) * change - ends),
        "its end stays as it begins further on (MeanFlow)": largest(
            shares * (plain.x0 - said.x0) - like(eulerian, x) * along_flow
        ),
    }


class _Exact(nn.Module):
    """The exact map, called as a denoiser is."""

    def forward(self, x: Tensor, now: NoiseLevel, condition: Condition | None, nxt: NoiseLevel) -> Estimate:
        return GaussianMap(MEAN, VARIANCES).to(x, now, nxt)
