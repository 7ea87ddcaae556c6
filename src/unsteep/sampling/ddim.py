"""Denoising diffusion implicit models (Song, Meng & Ermon 2021, eq. 12), on any pair of levels:

    std   = eta sqrt(beta_tilde)
    x_nxt = alpha_nxt x0 + sqrt(sigma_nxt^2 - std^2) eps + std z

eta = 0 is deterministic, a first-order solver of the probability-flow equation; eta = 1 is ancestral sampling with
variance beta_tilde. From a level with alpha = 0 the same formula holds for heads that give x0 there. For a map (see
`core.maps`) the step with eta = 0 is exact.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from torch import Tensor

from unsteep.core.arguments import checked
from unsteep.core.estimate import Estimate
from unsteep.core.level import NoiseLevel, like, step_variances
from unsteep.core.noise import NoiseSource
from unsteep.denoiser import Denoise
from unsteep.denoiser import estimate as estimated
from unsteep.sampling.loop import At


@dataclass(frozen=True, kw_only=True)
class DDIM:
    """`eta` in [0, 1]: how much of the ancestral noise is drawn anew at each step."""

    eta: float = 0.0
    order: ClassVar[float] = 1

    def __post_init__(self) -> None:
        checked(self)
        if not 0 <= self.eta <= 1:
            raise ValueError(f"eta: expected a number from 0 (deterministic) to 1 (ancestral), got {self.eta}")

    @property
    def draws(self) -> bool:
        return self.eta > 0

    @property
    def flows(self) -> bool:
        return not self.draws

    @property
    def whole(self) -> bool:
        """Whether it takes a map's whole steps."""
        return not self.draws

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
        estimate = denoise(x, now) if self.eta else estimated(denoise, x, now, nxt)
        _, beta_tilde = step_variances(now, nxt)
        std = self.eta * beta_tilde.sqrt()
        kept = (nxt.sigma**2 - std**2).clamp(min=0).sqrt()
        x_nxt = like(nxt.alpha, x) * estimate.x0 + like(kept, x) * estimate.eps
        if bool(std > 0):
            x_nxt = x_nxt + like(std, x) * noise.normal(x, draw=0)
        return x_nxt, estimate, None
