"""Solvers of the reverse stochastic equation (Anderson 1982; Song et al. 2021, eq. 6), written with two levels.

With d log alpha = f dt and -sigma^2 d logsnr = g^2 dt, for any schedule, and W a Brownian motion in reverse time,

    dx = (f x - g^2 score) dt + g dW.

Both take the noise of a step from one Brownian path per sample whose clock is t: increments divided by their standard
deviation. A finer grid refines the same path, so that samples converge one by one, and not only in distribution.

**Euler-Maruyama.** The forward step is x_now = r x_nxt + sqrt(beta) z with the pair's r = alpha_now / alpha_nxt and
beta, so (r - 1) x and beta stand for f x dt and g^2 dt, and the equation backwards is

    x_nxt = (2 - r) x + beta score + sqrt(beta) z

the reverse diffusion sampler of Song et al. 2021 (eq. 46), which no gap between levels makes unbounded.

**SDE-DPM-Solver++.** For an estimate D that stays the same on the way the equation is solved exactly. With
h = (logsnr_nxt - logsnr_now) / 2,

    x_nxt = (sigma_nxt / sigma_now) e^(-eta h) x + alpha_nxt (1 - e^(-(1 + eta) h)) D
            + sigma_nxt sqrt(1 - e^(-2 eta h)) z

D is carried to the middle of the step from this estimate and the last one, D + h / (2 h_last) (D - D_last) (Lu et al.
2022, section 6, with eta = 1; eta = 0 is the deterministic DPM-Solver++ 2M). With D of this estimate alone eta = 1 is
ancestral sampling with variance beta_tilde.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from unsteep.core.arguments import checked
from unsteep.core.estimate import Estimate
from unsteep.core.level import NoiseLevel, check_cleaner, like, step_variances
from unsteep.core.noise import NoiseSource, clock
from unsteep.denoiser import Denoise
from unsteep.sampling.loop import At


@dataclass(frozen=True, kw_only=True)
class EulerMaruyama:
    """First order, and good for many steps only. From a level without signal x_nxt is alpha_nxt x0 with fresh noise."""

    draws: ClassVar[bool] = True
    order: ClassVar[float] = 1

    def step(
        self,
        denoise: Denoise,
        x: Tensor,
        now: NoiseLevel,
        nxt: NoiseLevel,
        noise: NoiseSource,
        memory: Any,
        at: At | None,
    ) -> tuple[Tensor, Estimate, None]:
        estimate = denoise(x, now)
        if bool(nxt.sigma == 0):
            return like(nxt.alpha, x) * estimate.x0, estimate, None
        z = standard_increment(noise, x, now, nxt)
        if bool(now.alpha == 0):
            return like(nxt.alpha, x) * estimate.x0 + like(nxt.sigma, x) * z, estimate, None
        beta, _ = step_variances(now, nxt)
        drift = like(2 - now.alpha / nxt.alpha, x) * x - like(beta / now.sigma, x) * estimate.eps
        return drift + like(beta.sqrt(), x) * z, estimate, None


@dataclass(frozen=True, kw_only=True)
class SDEDPMSolver:
    """`eta` in [0, 1]: how much noise is added on the way, from none to that of the reverse stochastic equation."""

    eta: float = 1.0
    order: ClassVar[float] = 2

    def __post_init__(self) -> None:
        checked(self)
        if not 0 <= self.eta <= 1:
            raise ValueError(f"eta: expected a number from 0 (deterministic) to 1 (all of the noise), got {self.eta}")

    @property
    def draws(self) -> bool:
        return self.eta > 0

    @property
    def flows(self) -> bool:
        return not self.draws

    def step(
        self,
        denoise: Denoise,
        x: Tensor,
        now: NoiseLevel,
        nxt: NoiseLevel,
        noise: NoiseSource,
        memory: tuple[Tensor, Tensor] | None,
        at: At | None,
    ) -> tuple[Tensor, Estimate, tuple[Tensor, Tensor]]:
        check_cleaner(now, nxt)
        estimate = denoise(x, now)
        h = (nxt.logsnr - now.logsnr) / 2
        x0 = estimate.x0
        if bool(nxt.sigma == 0):
            return like(nxt.alpha, x) * x0, estimate, (x0, h)
        middle = x0
        if memory is not None:
            last, h_last = memory
            middle = x0 + like(h / (2 * h_last), x) * (x0 - last)  # the share is 0 after a step from no signal
        added = self.eta * h if self.eta else torch.zeros_like(h)  # h is infinite where no signal is
        kept = nxt.sigma / now.sigma * torch.exp(-added)
        x_nxt = like(kept, x) * x - like(nxt.alpha * torch.expm1(-h - added), x) * middle
        if self.eta:
            std = nxt.sigma * torch.sqrt(-torch.expm1(-2 * added))
            x_nxt = x_nxt + like(std, x) * standard_increment(noise, x, now, nxt)
        return x_nxt, estimate, (x0, h)


def standard_increment(noise: NoiseSource, x: Tensor, now: NoiseLevel, nxt: NoiseLevel) -> Tensor:
    """The Brownian path's increment over the step, divided by its standard deviation: standard normal, like x.

    Levels whose times the path's clock cannot tell apart get a normal number of their own.
    """
    elapsed = clock(now.t) - clock(nxt.t)
    if bool(elapsed == 0):
        return noise.normal(x, draw=0)
    return noise.brownian(x, now, nxt) / like(elapsed.sqrt(), x)
