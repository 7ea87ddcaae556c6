"""What a network said about x_t, readable as any of the five kinds.

With x_t = alpha x0 + sigma eps and m2 = alpha^2 + sigma^2 (1 for variance-preserving schedules, not for exploding
ones or flow):

    score = -eps / sigma                        the gradient of log q(x_t), at the optimum (Song et al. 2021)
    v     = (alpha eps - sigma x0) / sqrt(m2)   Salimans & Ho 2022 when m2 = 1; -F of EDM when alpha = std of the data
    flow  = eps - x0                            the velocity of rectified flow, time running from data to noise

Each kind fixes the pair (x0, eps), given x_t:

    x0    ->  eps = (x_t - alpha x0) / sigma
    eps   ->  x0  = (x_t - sigma eps) / alpha
    v     ->  x0  = (alpha x_t - sigma sqrt(m2) v) / m2,   eps = (sigma x_t + alpha sqrt(m2) v) / m2
    flow  ->  x0  = (x_t - sigma flow) / (alpha + sigma),  eps = (x_t + alpha flow) / (alpha + sigma)

x0 cannot be had from eps or score where alpha = 0, nor eps from x0 where sigma = 0: those are errors here, not NaNs.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal, get_args

from torch import Tensor

from unsteep.core.arguments import shown
from unsteep.core.level import NoiseLevel, level_of, like, paired

Prediction = Literal["x0", "eps", "v", "score", "flow"]
PREDICTIONS: tuple[Prediction, ...] = get_args(Prediction)


@dataclass(frozen=True)
class Estimate:
    """A prediction of `kind` at the noisy x_t (b, ...), `value` of the same shape.

    `variance_fraction` in [0, 1]: a learned reverse variance, 0 = beta_tilde and 1 = beta, interpolated in log space
    (Nichol & Dhariwal 2021, eq. 15). `log_variance`: a learned diagonal one, in nats. Both of x_t's shape. `valid` (b,
    frames), bool: which frames of a sequence are real; None where all of x_t is.
    """

    kind: Prediction
    value: Tensor
    x_t: Tensor
    level: NoiseLevel
    variance_fraction: Tensor | None = None
    log_variance: Tensor | None = None
    valid: Tensor | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.kind, str) or self.kind not in PREDICTIONS:
            raise ValueError(f"kind: expected one of {', '.join(PREDICTIONS)}, got {shown(self.kind)}; choose one")
        paired(x_t=self.x_t, value=self.value)
        level_of("level", self.level)

    def as_(self, kind: Prediction) -> Tensor:
        """The estimate as `kind`; the kind that the network predicts comes back bit for bit. ValueError where it is
        undefined."""
        if not isinstance(kind, str) or kind not in PREDICTIONS:
            raise ValueError(f"kind: unknown prediction kind {shown(kind)}; the kinds are {', '.join(PREDICTIONS)}")
        if kind == self.kind:
            return self.value
        match kind:
            case "x0":
                return self._x0()
            case "eps":
                return self._eps()
            case "score":
                self._defined("score", self.level.sigma, "sigma")
                return -self._eps() / like(self.level.sigma, self.x_t)
            case "v":
                at = self.level.like(self.x_t)
                return (at.alpha * self._eps() - at.sigma * self._x0()) / like(self.level.scale, self.x_t)
            case "flow":
                return self._eps() - self._x0()
        raise AssertionError(kind)

    @property
    def x0(self) -> Tensor:
        """The clean data that the estimate stands for."""
        return self.as_("x0")

    @property
    def eps(self) -> Tensor:
        """The noise that the estimate stands for."""
        return self.as_("eps")

    @property
    def v(self) -> Tensor:
        """The velocity (alpha eps - sigma x0) / sqrt(alpha^2 + sigma^2)."""
        return self.as_("v")

    @property
    def score(self) -> Tensor:
        """-eps / sigma."""
        return self.as_("score")

    @property
    def flow(self) -> Tensor:
        """eps - x0."""
        return self.as_("flow")

    def replace_x0(self, x0: Tensor) -> Estimate:
        """The same estimate with another x0 (after clipping, say): every other kind follows from it."""
        return replace(self, kind="x0", value=x0)

    def moved(self, nxt: NoiseLevel) -> Tensor:
        """Where one DDIM step leads: alpha_nxt x0 + sigma_nxt eps."""
        return like(nxt.alpha, self.x_t) * self.x0 + like(nxt.sigma, self.x_t) * self.eps

    def _x0(self) -> Tensor:
        x, alpha, sigma = self.x_t, like(self.level.alpha, self.x_t), like(self.level.sigma, self.x_t)
        match self.kind:
            case "x0":
                return self.value
            case "v":
                scale = like(self.level.scale, x)
                return (alpha * x - sigma * scale * self.value) / scale**2
            case "flow":
                return (x - sigma * self.value) / like(self.level.alpha + self.level.sigma, x)
            case _:
                self._defined("x0", self.level.alpha, "alpha")
                return (x - sigma * self._eps()) / alpha

    def _eps(self) -> Tensor:
        x, alpha, sigma = self.x_t, like(self.level.alpha, self.x_t), like(self.level.sigma, self.x_t)
        match self.kind:
            case "eps":
                return self.value
            case "score":
                return -sigma * self.value
            case "v":
                scale = like(self.level.scale, x)
                return (sigma * x + alpha * scale * self.value) / scale**2
            case "flow":
                return (x + alpha * self.value) / like(self.level.alpha + self.level.sigma, x)
            case _:
                self._defined("eps", self.level.sigma, "sigma")
                return (x - alpha * self.value) / sigma

    def _defined(self, wanted: str, divisor: Tensor, name: str) -> None:
        if bool((divisor == 0).any()):
            cure = (
                "use a head that predicts x0, v or flow"
                if name == "alpha"
                else "there is no noise in clean data; stop at the level before"
            )
            raise ValueError(f"{wanted} of a {self.kind} estimate is undefined where {name} = 0: {cure}")


def target(kind: Prediction, x0: Tensor, eps: Tensor, level: NoiseLevel) -> Tensor:
    """What a perfect head of `kind` would say of x_t = alpha x0 + sigma eps: from the definitions, finite at both ends
    (but for score at sigma = 0). x0, eps: (b, ...)."""
    at = level.like(x0)
    match kind:
        case "x0":
            return x0
        case "eps":
            return eps
        case "v":
            return (at.alpha * eps - at.sigma * x0) / like(level.scale, x0)
        case "flow":
            return eps - x0
        case "score":
            return -eps / at.sigma
    raise ValueError(f"unknown prediction kind {kind!r}; the kinds are {', '.join(PREDICTIONS)}")
