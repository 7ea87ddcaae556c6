"""Langevin dynamics at one noise level, as a corrector after another solver's steps and as a sampler of its own.

A step of size q sigma^2, for the density of x at the level of the estimate,

    x <- x + q sigma^2 score + sqrt(2 q) sigma z  =  x - q sigma eps + sqrt(2 q) sigma z

leaves that density alone up to the size of the step: noise about one point keeps the variance sigma^2 / (1 - q / 2).

**Predictor-corrector** (Song et al. 2021, algorithms 4 and 5). Their step has the length 2 (r |z| / |score|)^2 for a
"signal-to-noise ratio" r, the norms averaged over the batch. Here each sample has its own, so that it does not depend
on its company:

    q = 2 r^2 d / |eps|^2

with d, the number of elements, for |z|^2. On Gaussian data of many dimensions and variance S of x it settles at the
variance S (1 + r^2). |eps|^2 counts as at least 1, for that of a few elements can be next to nothing and would ask for
a step of any length; and q is at most 1, since where data are narrow a step of 2 sigma^2 would be unstable. Their
factor 1 - beta_i, close to one on their chain and equal to it where noise explodes, is left out.

**Annealed Langevin dynamics** (Song & Ermon 2019, algorithm 1): at every level of the grid some steps whose length goes
with sigma^2 in x / alpha, where noise explodes on any schedule; then on to the next level with the same x / alpha, and
at the end the denoiser (Jolicoeur-Martineau et al. 2021). To go on by h in log(sigma / alpha) leaves noise that n steps
shrink to a share h / (n q) above the level's own, and each step brings q / 2 too much; the default is the q where the
two are equal, sqrt(2 h / n). It lets the sampler converge, at order one half.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Annotated, Any, ClassVar, Self

import torch
from torch import Tensor

from unsteep.core import masked
from unsteep.core.arguments import MOST_STEPS, checked, shown, whole
from unsteep.core.estimate import Estimate
from unsteep.core.level import NoiseLevel, check_cleaner, like
from unsteep.core.noise import NoiseSource
from unsteep.core.open import Components
from unsteep.denoiser import Denoise
from unsteep.sampling.ancestral import Ancestral
from unsteep.sampling.ddim import DDIM
from unsteep.sampling.exponential import at_an_end, first_order
from unsteep.sampling.known import Known, fitted
from unsteep.sampling.loop import At, Solver, is_solver
from unsteep.sampling.sde import EulerMaruyama, SDEDPMSolver
from unsteep.sampling.traits import traits

AnyPredictor = Annotated[Solver, Components(Ancestral, DDIM, EulerMaruyama, SDEDPMSolver)]


@dataclass(frozen=True, kw_only=True)
class PredictorCorrector:
    """A step of `predictor`, then `corrections` Langevin steps at the new level, each one more network call.

    `ratio`: the "signal-to-noise ratio" r that sets their length, below 1.
    """

    predictor: AnyPredictor = field(default_factory=EulerMaruyama)
    corrections: int = 1
    ratio: float = 0.16
    draws: ClassVar[bool] = True

    def __post_init__(self) -> None:
        checked(self)
        whole("corrections", self.corrections, 1, MOST_STEPS)
        if not is_solver(self.predictor):
            raise ValueError(f"predictor: expected a solver, got {shown(self.predictor)}; give one, as EulerMaruyama()")
        if not 0 < self.ratio < 1:
            raise ValueError(f"ratio: expected a number between 0 and 1, the paper's is 0.16; got {self.ratio}")

    @property
    def calls(self) -> int:
        return traits(self.predictor).calls + self.corrections

    def fitted(self, known: Known) -> Self:
        """With a predictor that was told."""
        return replace(self, predictor=fitted(self.predictor, known))

    def step(
        self,
        denoise: Denoise,
        x: Tensor,
        now: NoiseLevel,
        nxt: NoiseLevel,
        noise: NoiseSource,
        memory: Any,
        at: At | None,
    ) -> tuple[Tensor, Estimate, Any]:
        x, estimate, memory = self.predictor.step(denoise, x, now, nxt, noise, memory, at)
        if bool(nxt.sigma > 0):
            for k in range(self.corrections):
                there = denoise(x, nxt)
                size = 2 * self.ratio**2 / self._mean_square(there)
                x = langevin(there, noise.normal(x, draw=1 + k), like(size, x))
        return x, estimate, memory

    def _mean_square(self, there: Estimate) -> Tensor:
        """|eps|^2 / d of each sample, (b,), and no less than the bounds of the step's length ask for."""
        square = there.eps.square()
        least = (1 / masked.count(square, there.valid).to(square)).clamp(min=2 * self.ratio**2)
        return torch.maximum(masked.mean(square, there.valid), least)


@dataclass(frozen=True, kw_only=True)
class AnnealedLangevin:
    """`corrections` Langevin steps at each level, each of them a network call, and the denoiser at the end.

    `size`: the share q of sigma^2 in a step, in (0, 1]; None: as the distance of the levels asks for. From a level
    without signal x_nxt is alpha_nxt x0 with the noise that x has.
    """

    corrections: int = 1
    size: float | None = None
    draws: ClassVar[bool] = True

    def __post_init__(self) -> None:
        checked(self)
        whole("corrections", self.corrections, 1, MOST_STEPS)
        if self.size is not None and not 0 < self.size <= 1:
            raise ValueError(f"size: expected a share of sigma^2 above 0 and up to 1, or none; got {self.size}")

    @property
    def calls(self) -> int:
        return self.corrections

    @property
    def order(self) -> float | None:
        return 0.5 if self.size is None else None  # steps of one length settle beside the density

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
        check_cleaner(now, nxt)
        estimate = denoise(x, now)
        if at_an_end(now, nxt):
            return first_order(estimate, nxt), estimate, None
        h = (nxt.logsnr - now.logsnr) / 2
        size = torch.sqrt(2 * h / self.corrections).clamp(max=1) if self.size is None else torch.tensor(self.size)
        for k in range(self.corrections):
            estimate = estimate if k == 0 else denoise(x, now)
            x = langevin(estimate, noise.normal(x, draw=k), like(size, x))
        return like(nxt.alpha / now.alpha, x) * x, estimate, None


def langevin(estimate: Estimate, z: Tensor, size: Tensor) -> Tensor:
    """The step of Langevin dynamics from estimate.x_t (b, ...) with the normal numbers z and the share `size` of
    sigma^2."""
    sigma = like(estimate.level.sigma, z)
    return estimate.x_t - size * sigma * estimate.eps + torch.sqrt(2 * size) * sigma * z
