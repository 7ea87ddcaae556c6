"""Euler's and Heun's methods of Karras et al. 2022 (algorithm 2), with their churn.

In X = x / alpha and s = sigma / alpha the flow is dX/ds = eps, whatever the schedule:

    Euler   X_nxt = X + (s_nxt - s) eps                       the same step as DDIM's
    Heun    X_nxt = X + (s_nxt - s) (eps + eps_nxt) / 2       eps_nxt: called at Euler's point; order 2, two calls

A long step from much noise, in which s falls more than e^1.3-fold, takes eps as linear in 1 / s in place of s: so it
goes where data begin to show, and half of eps_nxt would count far too much there. From s < 1, where eps is nearly a
line in s, it must be the longer for that by 1 / s. Such steps come of grids of few levels, never of refining one.

`churn` = gamma first adds noise that lifts s to s (1 + gamma), where s lies in [churn_min, churn_max], and the step
goes on from there: their S_churn / steps. The last step adds none. The step from no signal, or an overlong one, is
DDIM's, and the step to no noise the denoiser itself.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from unsteep.core.arguments import checked
from unsteep.core.estimate import Estimate
from unsteep.core.level import NoiseLevel, like
from unsteep.core.noise import NoiseSource
from unsteep.denoiser import Denoise
from unsteep.sampling.exponential import advance, at_an_end, first_order, half_logsnr, overlong, weights
from unsteep.sampling.loop import At

LONG = 1.3  # in the half log-SNR


@dataclass(frozen=True, kw_only=True)
class Euler:
    """`churn`: 0, or up to sqrt(2) - 1; `churn_noise`: the standard deviation of the noise it adds (theirs: 1.003)."""

    churn: float = 0.0
    churn_min: float = 0.0
    churn_max: float = math.inf
    churn_noise: float = 1.0

    def __post_init__(self) -> None:
        checked(self)
        if not 0 <= self.churn <= math.sqrt(2) - 1:
            raise ValueError(f"churn: expected 0 to {math.sqrt(2) - 1:.4f}, S_churn / steps, got {self.churn}")

    @property
    def draws(self) -> bool:
        return self.churn > 0

    @property
    def flows(self) -> bool:
        return not self.draws

    @property
    def order(self) -> float | None:
        return None if self.draws else 1

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
        x, now = self._churned(x, now, nxt, noise, at)
        estimate = denoise(x, now)
        return first_order(estimate, nxt), estimate, None

    def _churned(
        self, x: Tensor, now: NoiseLevel, nxt: NoiseLevel, noise: NoiseSource, at: At | None
    ) -> tuple[Tensor, NoiseLevel]:
        """x with new noise, at the noisier level that it then has; as they are where there is no such level."""
        s = now.sigma / now.alpha
        if self.churn == 0 or not bool((s >= self.churn_min) & (s <= self.churn_max) & (nxt.sigma > 0)):
            return x, now
        if at is None:
            raise ValueError("at: churn goes to levels between those of the grid; give the schedule's `inverse` as at")
        lifted = at(now.logsnr - 2 * math.log1p(self.churn))
        added = ((lifted.sigma / lifted.alpha) ** 2 - s**2).clamp(min=0).sqrt()
        if bool(added == 0) or not bool(torch.isfinite(added)):
            return x, now
        z = self.churn_noise * noise.normal(x, draw=0)
        return like(lifted.alpha / now.alpha, x) * x + like(lifted.alpha * added, x) * z, lifted


@dataclass(frozen=True, kw_only=True)
class Heun(Euler):
    """Two calls a step, one at the last."""

    calls: ClassVar[int] = 2

    @property
    def order(self) -> float | None:
        return None if self.draws else 2

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
        long = _long(now, nxt)
        x, now = self._churned(x, now, nxt, noise, at)
        estimate = denoise(x, now)
        predicted = first_order(estimate, nxt)
        if at_an_end(now, nxt) or overlong(now, nxt):
            return predicted, estimate, None
        eps_nxt = denoise(predicted, nxt).eps
        if long:
            shares = weights("eps", (half_logsnr(now), half_logsnr(nxt)), now, nxt, torch.exp)
            return advance(estimate, nxt, estimate.eps, [eps_nxt], shares[1:]), estimate, None
        ds = nxt.sigma / nxt.alpha - now.sigma / now.alpha
        correction = (eps_nxt - estimate.eps) / 2
        return predicted + like(nxt.alpha * ds, x) * correction, estimate, None


def _long(now: NoiseLevel, nxt: NoiseLevel) -> bool:
    start, end = half_logsnr(now), half_logsnr(nxt)
    return float(end - start - start.clamp(min=0)) > LONG
