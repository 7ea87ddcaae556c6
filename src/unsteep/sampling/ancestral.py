"""Ancestral sampling: draw x_nxt from the model's reverse step p(x_nxt | x_now) (Ho et al. 2020, algorithm 2).

On a sub-grid the step is that of the sub-grid's own chain. The mean alone is taken where nxt.sigma = 0.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, ClassVar, Self

from torch import Tensor

from unsteep.core.arguments import checked
from unsteep.core.estimate import Estimate
from unsteep.core.gaussian import ReverseVariance, reverse
from unsteep.core.level import NoiseLevel
from unsteep.core.noise import NoiseSource
from unsteep.denoiser import Denoise
from unsteep.sampling.known import Known
from unsteep.sampling.loop import At


@dataclass(frozen=True, kw_only=True)
class Ancestral:
    """`variance` of the step: "beta" (the better one at few steps), "beta_tilde", "learned" by the model, or
    "optimal" for its measured error. A `Model` puts the function for "optimal" in its place, and for None its own:
    "learned" where it learned one, else "beta", which is what None means without a model."""

    variance: ReverseVariance | None = None
    draws: ClassVar[bool] = True
    order: ClassVar[float] = 1

    def __post_init__(self) -> None:
        if not callable(self.variance):
            checked(self)

    def fitted(self, known: Known) -> Self:
        """With the model's own variance, or what it knows by this name."""
        return replace(self, variance=known.variance(self.variance))  # type: ignore[arg-type]  # a function is no name

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
            return reverse(estimate, nxt, "beta_tilde").mean, estimate, None
        # Where x_now holds no signal, x_nxt is alpha_nxt x0 with the noise of its level, whatever the variance.
        variance = "beta_tilde" if bool(now.alpha == 0) else (self.variance or "beta")
        if variance == "optimal":
            raise ValueError("variance: optimal needs the error that a Model measured; sample through the model")
        return reverse(estimate, nxt, variance).sample(noise.normal(x, draw=0)), estimate, None
