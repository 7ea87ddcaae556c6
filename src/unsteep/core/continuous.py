"""The continuous families: the log-SNR as a function of t in closed form, and t as one of the log-SNR.

    VP               log alpha^2 is quadratic in t
    Cosine           (alpha, sigma) turns evenly from data to noise
    SigmoidAlphaBar  alpha^2 falls like a sigmoid
    Laplace          uniform times have Laplace-distributed log-SNRs
    Flow             alpha = 1 - t, sigma = t
    Karras           alpha = 1, sigma^(1/rho) is linear in t

All preserve variance, alpha^2 + sigma^2 = 1, but for Flow and Karras. t = 0 is clean data, (alpha, sigma, logsnr) = (1,
0, +inf), in all; one with a finite logsnr_max approaches that as t -> 0+.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from unsteep.core.arguments import checked
from unsteep.core.level import NoiseLevel, Time, as_logsnr, as_time, preserving_level

MOST_RHO = 1000.0


def within(logsnr: Time, low: float, high: float) -> Tensor:
    """`logsnr` as float64, cut to [low, high]; +inf, the clean level, stays."""
    logsnr = as_logsnr(logsnr)
    return torch.where(logsnr == math.inf, logsnr, logsnr.clamp(low, high))


@dataclass(frozen=True, kw_only=True)
class VP:
    """The variance-preserving SDE of Song et al. 2021 (eq. 11, 29): log alpha^2 = -(beta_min t + (beta_max -
    beta_min) t^2 / 2)."""

    steps: ClassVar[int | None] = None
    preserving: ClassVar[bool] = True
    beta_min: float = 0.1
    beta_max: float = 20.0

    def __post_init__(self) -> None:
        checked(self)
        if not 0 < self.beta_min <= self.beta_max < math.inf:
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
        logsnr = within(logsnr, self.logsnr_min, self.logsnr_max)
        minus_log_alpha_bar = torch.logaddexp(torch.zeros_like(logsnr), -logsnr)
        root = torch.sqrt(self.beta_min**2 + 2 * (self.beta_max - self.beta_min) * minus_log_alpha_bar)
        t = 2 * minus_log_alpha_bar / (self.beta_min + root)
        return preserving_level(t.clamp(max=1), logsnr)  # rounding may pass 1


@dataclass(frozen=True, kw_only=True)
class Cosine:
    """logsnr = -2 log tan(a + (b - a) t), a cosine in alpha, cut to [logsnr_min, logsnr_max] (Kingma et al. 2021;
    Hoogeboom et al. 2023). With -inf and +inf it is the whole cosine, whose last level holds no signal."""

    steps: ClassVar[int | None] = None
    preserving: ClassVar[bool] = True
    logsnr_min: float = -15.0
    logsnr_max: float = 15.0

    def __post_init__(self) -> None:
        checked(self)
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
        logsnr = within(logsnr, self.logsnr_min, self.logsnr_max)
        clean, swept, _ = self._angles
        t = (torch.atan(torch.exp(-logsnr / 2)) - clean) / swept
        return preserving_level(t.clamp(0, 1), logsnr)  # rounding may pass either end


@dataclass(frozen=True, kw_only=True)
class SigmoidAlphaBar:
    """alpha^2 = (sigmoid(b) - sigmoid(z)) / (sigmoid(b) - sigmoid(a)), where z runs from a = start / tau at t = 0 to
    b = end / tau at t = 1 (Jabri et al. 2022; Chen 2023). No signal is left at t = 1.

    Written with sinh, which is accurate at both ends: SNR = sinh((b - z) / 2) cosh(a / 2) / (sinh((z - a) / 2)
    cosh(b / 2)).
    """

    steps: ClassVar[int | None] = None
    preserving: ClassVar[bool] = True
    start: float = -3.0
    end: float = 3.0
    tau: float = 1.0

    def __post_init__(self) -> None:
        checked(self)
        if not (self.start < self.end and 0 < self.tau < math.inf and math.isfinite(self.end - self.start)):
            raise ValueError(
                f"SigmoidAlphaBar: expected start < end and tau > 0, got start={self.start}, end={self.end}, "
                f"tau={self.tau}"
            )

    @property
    def logsnr_min(self) -> float:
        return -math.inf

    @property
    def logsnr_max(self) -> float:
        return math.inf

    @property
    def _half(self) -> float:
        """(b - a) / 2."""
        return (self.end - self.start) / self.tau / 2

    @property
    def _offset(self) -> float:
        """log cosh(a / 2) - log cosh(b / 2)."""
        a, b = abs(self.start / self.tau), abs(self.end / self.tau)
        return (a - b) / 2 + math.log1p(math.exp(-a)) - math.log1p(math.exp(-b))

    def __call__(self, t: Time) -> NoiseLevel:
        t = as_time(t)
        h = self._half
        signal, noise = torch.log(-torch.expm1(-2 * h * (1 - t))), torch.log(-torch.expm1(-2 * h * t))
        return preserving_level(t, h * (1 - 2 * t) + signal - noise + self._offset)

    def inverse(self, logsnr: Time) -> NoiseLevel:
        logsnr = as_logsnr(logsnr)
        h = torch.tensor(self._half, dtype=torch.float64)
        # SNR = c sinh((1 - t) h) / sinh(t h) solved for t: exp(2 t h) = 1 + 2 sinh(h) / (SNR / c + exp(-h))
        grown = h + torch.log(-torch.expm1(-2 * h)) - torch.logaddexp(logsnr - self._offset, -h)
        t = torch.logaddexp(torch.zeros_like(grown), grown) / (2 * h)
        return preserving_level(t.clamp(max=1), logsnr)  # rounding may pass 1


@dataclass(frozen=True, kw_only=True)
class Laplace:
    """Uniform times have log-SNRs of the Laplace distribution around `mu` of scale `b`, cut to [logsnr_min,
    logsnr_max]: training looks most at the levels near mu (Hang et al. 2024)."""

    steps: ClassVar[int | None] = None
    preserving: ClassVar[bool] = True
    mu: float = 0.0
    b: float = 0.5
    logsnr_min: float = -10.0
    logsnr_max: float = 10.0

    def __post_init__(self) -> None:
        checked(self)
        if not (self.logsnr_min < self.mu < self.logsnr_max and 0 < self.b < math.inf):
            raise ValueError(
                f"Laplace: expected logsnr_min < mu < logsnr_max and b > 0, got {self.logsnr_min}, {self.mu}, "
                f"{self.logsnr_max} and b={self.b}"
            )

    @property
    def _masses(self) -> tuple[float, float, float]:
        """The distribution in three: cut off at the clean end, kept, cut off at the noisy end."""
        clean, noisy = (math.exp(-abs(end - self.mu) / self.b) / 2 for end in (self.logsnr_max, self.logsnr_min))
        return clean, 1 - clean - noisy, noisy

    def __call__(self, t: Time) -> NoiseLevel:
        t = as_time(t)
        clean, kept, noisy = self._masses
        above, below = clean + kept * t, noisy + kept * (1 - t)  # the masses of cleaner and of noisier levels
        logsnr = self.mu + self.b * torch.where(above < below, -torch.log(2 * above), torch.log(2 * below))
        logsnr = torch.where(t == 1, self.logsnr_min, logsnr)  # to the last digit
        return preserving_level(t, torch.where(t == 0, math.inf, logsnr))

    def inverse(self, logsnr: Time) -> NoiseLevel:
        logsnr = within(logsnr, self.logsnr_min, self.logsnr_max)
        clean, kept, noisy = self._masses
        tail = torch.exp(-(logsnr - self.mu).abs() / self.b) / 2
        t = torch.where(logsnr > self.mu, (tail - clean) / kept, 1 - (tail - noisy) / kept)
        return preserving_level(t.clamp(0, 1), logsnr)  # rounding may pass either end


@dataclass(frozen=True, kw_only=True)
class Flow:
    """alpha = 1 - t, sigma = t: the straight path of rectified flow (Liu et al. 2023; Lipman et al. 2023). Not
    variance preserving."""

    steps: ClassVar[int | None] = None
    preserving: ClassVar[bool] = False

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
        logsnr = as_logsnr(logsnr)
        t = torch.sigmoid(-logsnr / 2)
        return NoiseLevel(t, logsnr, torch.sigmoid(logsnr / 2), t)


@dataclass(frozen=True, kw_only=True)
class Karras:
    """alpha = 1, and sigma^(1/rho) linear in t from sigma_min at t -> 0+ to sigma_max at t = 1: variance exploding
    (Karras et al. 2022, eq. 5).

    sigma counts in units of x0. Where x0 has unit variance, a v head with `input_scale` "unit" has the preconditioning
    of EDM, whose F is -v. For data of standard deviation s, x0 is the data divided by s, and so is sigma: the paper's
    range on pictures, of s = 0.5, is 0.004 to 160. (Only ratios enter: alpha = s beside the paper's own sigma gives the
    same v.)
    """

    steps: ClassVar[int | None] = None
    preserving: ClassVar[bool] = False
    sigma_min: float = 0.002
    sigma_max: float = 80.0
    rho: float = 7.0

    def __post_init__(self) -> None:
        checked(self)
        if not (0 < self.sigma_min < self.sigma_max < math.inf and 0 < self.rho <= MOST_RHO):
            raise ValueError(
                f"Karras: expected 0 < sigma_min < sigma_max and rho > 0, got {self.sigma_min}, "
                f"{self.sigma_max} and rho={self.rho}; rho is at most {MOST_RHO:g}"
            )

    @property
    def logsnr_min(self) -> float:
        return float(self(1.0).logsnr)

    @property
    def logsnr_max(self) -> float:
        return -2 * math.log(self.sigma_min)

    @property
    def _roots(self) -> tuple[float, float]:
        """sigma^(1/rho) at the clean end, and how much it grows."""
        low, high = self.sigma_min ** (1 / self.rho), self.sigma_max ** (1 / self.rho)
        return low, high - low

    def __call__(self, t: Time) -> NoiseLevel:
        t = as_time(t)
        low, growth = self._roots
        return self._level(t, torch.where(t == 0, math.inf, -2 * self.rho * torch.log(low + growth * t)))

    def inverse(self, logsnr: Time) -> NoiseLevel:
        logsnr = within(logsnr, self.logsnr_min, self.logsnr_max)
        low, growth = self._roots
        t = (torch.exp(-logsnr / (2 * self.rho)) - low) / growth
        return self._level(t.clamp(0, 1), logsnr)  # rounding may pass either end

    def _level(self, t: Tensor, logsnr: Tensor) -> NoiseLevel:
        return NoiseLevel(t, logsnr, torch.ones_like(t), torch.exp(-logsnr / 2))
