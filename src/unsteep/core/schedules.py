"""Schedules: a time t in [0, 1] to a noise level. t = 0 is clean data, t = 1 the noisiest level.

The chains of betas stand in `chains`; the continuous families here give the log-SNR as a function of t in closed form.
Everything is float64 and computed from logarithms, accurate at both ends.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol

import torch

from unsteep.core.chains import (
    AnyChain,
    Betas,
    Chain,
    ConstantBetas,
    CosineBetas,
    Interpolated,
    LinearBetas,
    QuadraticBetas,
    SigmoidBetas,
)
from unsteep.core.level import NoiseLevel, Time, as_time, preserving_level


class Schedule(Protocol):
    """Anything that maps a time to a noise level and a log-SNR back to one.

    `logsnr` falls strictly with t, from +inf at t = 0 (the clean level) to `logsnr_min` at t = 1. `logsnr_max` is
    its supremum over t > 0: the log-SNR of step 1 of a chain, +inf where a continuous family reaches clean data
    smoothly.
    """

    @property
    def logsnr_min(self) -> float: ...

    @property
    def logsnr_max(self) -> float: ...

    def __call__(self, t: Time) -> NoiseLevel: ...

    def inverse(self, logsnr: Time) -> NoiseLevel:
        """The level at a given log-SNR; values outside the schedule's range give its end."""
        ...


def steps_of(schedule: Schedule) -> int:
    """T of a chain, interpolated or not; 1000 for other schedules, where a rule needs steps."""
    return getattr(schedule, "steps", 1000)


def finite_range(schedule: Schedule) -> tuple[float, float]:
    """(low, high): the log-SNRs at t = 1 and at t = 1/T, T the steps of a chain and 1000 elsewhere, between which a
    sampler works. Where no signal is left at t = 1, low is that of one step before."""
    step = 1 / steps_of(schedule)
    low = float(schedule(1.0).logsnr)
    low = low if low > -math.inf else float(schedule(1 - step).logsnr)
    return low, float(schedule(step).logsnr)


@dataclass(frozen=True, kw_only=True)
class VP:
    """The variance-preserving SDE of Song et al. 2021 (eq. 11, 29): log alpha^2 = -(beta_min t + (beta_max -
    beta_min) t^2 / 2)."""

    beta_min: float = 0.1
    beta_max: float = 20.0

    def __post_init__(self) -> None:
        if not 0 < self.beta_min <= self.beta_max:
            raise ValueError(f"VP: expected 0 < beta_min <= beta_max, got {self.beta_min} and {self.beta_max}")

    @property
    def logsnr_min(self) -> float:
        return float(self(1.0).logsnr)

    @property
    def logsnr_max(self) -> float:
        return math.inf

    def __call__(self, t: Time) -> NoiseLevel:
        t = as_time(t)
        minus_log_alpha_bar = t * (self.beta_min + (self.beta_max - self.beta_min) * t / 2)
        return preserving_level(t, -torch.log(torch.expm1(minus_log_alpha_bar)))

    def inverse(self, logsnr: Time) -> NoiseLevel:
        logsnr = torch.as_tensor(logsnr, dtype=torch.float64).clamp(min=self.logsnr_min)
        minus_log_alpha_bar = torch.logaddexp(torch.zeros_like(logsnr), -logsnr)
        root = torch.sqrt(self.beta_min**2 + 2 * (self.beta_max - self.beta_min) * minus_log_alpha_bar)
        t = 2 * minus_log_alpha_bar / (self.beta_min + root)
        return preserving_level(t.clamp(max=1), logsnr)  # rounding may pass 1


@dataclass(frozen=True, kw_only=True)
class Cosine:
    """logsnr = -2 log tan(a + (b - a) t), a cosine in alpha, cut to [logsnr_min, logsnr_max] (Kingma et al. 2021;
    Hoogeboom et al. 2023). With -inf and +inf it is the whole cosine, whose last level holds no signal."""

    logsnr_min: float = -15.0
    logsnr_max: float = 15.0

    def __post_init__(self) -> None:
        if not self.logsnr_min < self.logsnr_max:
            raise ValueError(f"Cosine: expected logsnr_min < logsnr_max, got {self.logsnr_min} and {self.logsnr_max}")

    @property
    def _angles(self) -> tuple[float, float, float]:
        """The quarter turn in three: cut off at the clean end, swept from t = 0 to 1, cut off at the noisy end."""
        clean, noisy = math.atan(math.exp(-self.logsnr_max / 2)), math.atan(math.exp(self.logsnr_min / 2))
        return clean, math.pi / 2 - clean - noisy, noisy

    def __call__(self, t: Time) -> NoiseLevel:
        t = as_time(t)
        clean, swept, noisy = self._angles
        # Measured from the nearer end: tan is accurate near 0, not near pi / 2.
        from_clean = -2 * torch.log(torch.tan(clean + swept * t))
        from_noise = 2 * torch.log(torch.tan(noisy + swept * (1 - t)))
        logsnr = torch.where(t < 0.5, from_clean, from_noise)
        return preserving_level(t, torch.where(t == 0, math.inf, logsnr))

    def inverse(self, logsnr: Time) -> NoiseLevel:
        logsnr = torch.as_tensor(logsnr, dtype=torch.float64)
        at_zero, logsnr = logsnr == math.inf, logsnr.clamp(self.logsnr_min, self.logsnr_max)
        clean, swept, _ = self._angles
        t = ((torch.atan(torch.exp(-logsnr / 2)) - clean) / swept).clamp(0, 1)  # rounding may pass either end
        return preserving_level(torch.where(at_zero, 0.0, t), torch.where(at_zero, math.inf, logsnr))


@dataclass(frozen=True, kw_only=True)
class Flow:
    """alpha = 1 - t, sigma = t: the straight path of rectified flow (Liu et al. 2023; Lipman et al. 2023). Not
    variance preserving."""

    @property
    def logsnr_min(self) -> float:
        return -math.inf

    @property
    def logsnr_max(self) -> float:
        return math.inf

    def __call__(self, t: Time) -> NoiseLevel:
        t = as_time(t)
        return NoiseLevel(t, 2 * (torch.log1p(-t) - torch.log(t)), 1 - t, t)

    def inverse(self, logsnr: Time) -> NoiseLevel:
        logsnr = torch.as_tensor(logsnr, dtype=torch.float64)
        t = torch.sigmoid(-logsnr / 2)
        return NoiseLevel(t, logsnr, torch.sigmoid(logsnr / 2), t)


AnySchedule = AnyChain | Interpolated | VP | Cosine | Flow  # what a configuration may name

__all__ = [
    "VP",
    "AnyChain",
    "AnySchedule",
    "Betas",
    "Chain",
    "ConstantBetas",
    "Cosine",
    "CosineBetas",
    "Flow",
    "Interpolated",
    "LinearBetas",
    "QuadraticBetas",
    "Schedule",
    "SigmoidBetas",
    "finite_range",
    "steps_of",
]
