"""Loss weights by noise level, and their exact conversion to the kind that a head predicts.

With S = alpha^2 / sigma^2 and m2 = alpha^2 + sigma^2, one error of x0 is, in the other kinds,

    eps_error^2 = S x0_error^2,   x0_error^2 = sigma^2/m2 v_error^2 = sigma^2/(alpha + sigma)^2 flow_error^2

so that a weight stated for one kind is a weight for every kind: the same estimate has the same weighted loss whatever
the head. In the literature weights are stated for the eps error (w) or the x0 error (w S):

                  on the eps error        on the x0 error
    Unit          1                       S                  L_simple of an eps head
    SNR           S^(p-1)                 S^p                p = 1 is Unit, p = 0 unit on x0 (Salimans & Ho 2022)
    TruncatedSNR  max(1, 1/S)             max(S, 1)          (Salimans & Ho 2022)
    MinSNR        min(1, g/S)             min(S, g)          (Hang et al. 2023)
    P2            1 / (k + S)^g           S / (k + S)^g      (Choi et al. 2022)
    Debiased      1 / sqrt(S)             sqrt(S)            (Yu et al. 2023)
    Sigmoid       sigmoid(b - logsnr)     S sigmoid(b - logsnr)   (Kingma & Gao 2023; Hoogeboom et al. 2024)
    EDM           1 + 1/(s^2 S)           S + 1/s^2          s = std of the data (Karras et al. 2022)

Sigmoid's papers weigh the integral over log-SNR; with times uniform in t it lacks their factor -dlogsnr/dt. `VLB` is
the bound's own weight, T A^2 / (2 beta) on the x0 error for steps with the fixed variance beta (Ho et al. 2020, eq.
12): with it the squared error is L_{t-1} in nats per dimension, up to a constant. Here all are computed on the x0
error, where they are finite at zero SNR. `Native` is 1 in the head's own kind.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Protocol, runtime_checkable

import torch
from torch import Tensor

from unsteep.core.estimate import Prediction
from unsteep.core.gaussian import posterior_weights
from unsteep.core.level import NoiseLevel, step_variances
from unsteep.core.open import Components
from unsteep.core.schedules import steps_of
from unsteep.denoiser import Denoiser


class Weight(Protocol):
    """A weight on the squared x0 error at each level: float64, of the level's shape, finite for t > 0.

    One that depends on more has, in place of this, `in_kind(kind, level, denoiser)`: on the error in the estimate's
    kind.
    """

    def __call__(self, level: NoiseLevel) -> Tensor: ...


@runtime_checkable
class OfModel(Protocol):
    """A weight that depends on the model."""

    def in_kind(self, kind: Prediction, level: NoiseLevel, denoiser: Denoiser) -> Tensor: ...


def in_kind(weight: Weight | OfModel, kind: Prediction, level: NoiseLevel, denoiser: Denoiser) -> Tensor:
    """The weight on the squared error of an estimate of `kind`: float64, of the level's shape."""
    if isinstance(weight, OfModel):
        return weight.in_kind(kind, level, denoiser)
    return weight(level) * x0_factor(kind, level)


def x0_factor(kind: Prediction, level: NoiseLevel) -> Tensor:
    """f with x0_error^2 = f kind_error^2 for one and the same estimate."""
    alpha, sigma = level.alpha, level.sigma
    match kind:
        case "x0":
            return torch.ones_like(alpha)
        case "eps":
            return (sigma / alpha) ** 2
        case "v":
            return (sigma / level.scale) ** 2
        case "flow":
            return (sigma / (alpha + sigma)) ** 2
        case "score":
            return (sigma**2 / alpha) ** 2
    raise ValueError(f"unknown prediction kind {kind!r}")


@dataclass(frozen=True, kw_only=True)
class Native:
    """1 on the squared error in the head's own kind: the head's L_simple (Ho et al. 2020, eq. 14)."""

    def in_kind(self, kind: Prediction, level: NoiseLevel, denoiser: Denoiser) -> Tensor:
        """The denoiser's own."""
        return denoiser.native_weight(level)


@dataclass(frozen=True, kw_only=True)
class Unit:
    """1 on the eps error."""

    def __call__(self, level: NoiseLevel) -> Tensor:
        return level.logsnr.exp()


@dataclass(frozen=True, kw_only=True)
class SNR:
    """S^power on the x0 error."""

    power: float = 1.0

    def __call__(self, level: NoiseLevel) -> Tensor:
        return (level.alpha / level.sigma) ** (2 * self.power)


@dataclass(frozen=True, kw_only=True)
class TruncatedSNR:
    """max(S, 1) on the x0 error."""

    def __call__(self, level: NoiseLevel) -> Tensor:
        return level.logsnr.exp().clamp(min=1)


@dataclass(frozen=True, kw_only=True)
class MinSNR:
    """min(S, gamma) on the x0 error, and no less than `least`: 1 leaves what an x0 head learns where there is much
    noise as heavy as it was."""

    gamma: float = 5.0
    """The most that a level weighs."""
    least: float = 0.0
    """The least."""

    def __post_init__(self) -> None:
        _positive("gamma", self.gamma)
        if not 0 <= self.least <= self.gamma:
            raise ValueError(f"least: expected 0 to gamma, {self.gamma:g}, got {self.least:g}")

    def __call__(self, level: NoiseLevel) -> Tensor:
        return level.logsnr.exp().clamp(min=self.least, max=self.gamma)


@dataclass(frozen=True, kw_only=True)
class P2:
    """1 / (k + S)^gamma on the eps error."""

    gamma: float = 1.0
    k: float = 1.0

    def __post_init__(self) -> None:
        _positive("k", self.k)

    def __call__(self, level: NoiseLevel) -> Tensor:
        s = level.logsnr.exp()
        return s / (self.k + s) ** self.gamma


@dataclass(frozen=True, kw_only=True)
class Debiased:
    """1 / sqrt(S) on the eps error."""

    def __call__(self, level: NoiseLevel) -> Tensor:
        return level.alpha / level.sigma


@dataclass(frozen=True, kw_only=True)
class Sigmoid:
    """sigmoid(bias - logsnr) on the eps error."""

    bias: float = -1.0

    def __call__(self, level: NoiseLevel) -> Tensor:
        return level.logsnr.exp() * torch.sigmoid(self.bias - level.logsnr)


@dataclass(frozen=True, kw_only=True)
class EDM:
    """S + 1 / data_std^2 on the x0 error: unit on EDM's own head. `data_std` is the standard deviation of x0."""

    data_std: float = 0.5

    def __post_init__(self) -> None:
        _positive("data_std", self.data_std)

    def __call__(self, level: NoiseLevel) -> Tensor:
        return level.logsnr.exp() + 1 / self.data_std**2


@dataclass(frozen=True, kw_only=True)
class VLB:
    """The bound's own weight; it depends on the step's length, too. At the last step, that of a Gaussian L_0."""

    def in_kind(self, kind: Prediction, level: NoiseLevel, denoiser: Denoiser) -> Tensor:
        """For steps of the denoiser's chain."""
        between = self.between(level, denoiser.previous(level), steps_of(denoiser.schedule))
        return between * x0_factor(kind, level)

    def between(self, now: NoiseLevel, nxt: NoiseLevel, steps: int) -> Tensor:
        """T A^2 / (2 beta) on the squared x0 error of the step from `now` to `nxt` of a chain of T = `steps`."""
        a, _ = posterior_weights(now, nxt)
        beta, _ = step_variances(now, nxt)
        return steps * a**2 / (2 * beta)


AnyWeight = (
    Annotated[OfModel, Components(Native, VLB)]
    | Annotated[Weight, Components(Unit, SNR, TruncatedSNR, MinSNR, P2, Debiased, Sigmoid, EDM)]
)


def _positive(name: str, value: float) -> None:
    if not value > 0:
        raise ValueError(f"{name}: expected a positive number, got {value}")
