"""The chains: T steps with variances beta_1 .. beta_T, as in Ho et al. 2020 and its successors.

    alpha_bar_n = prod_{i <= n} (1 - beta_i),   alpha = sqrt(alpha_bar),   sigma = sqrt(1 - alpha_bar),   t = n / T

`step` n runs 1..T as in the papers; n = 0 is the clean level. A chain takes a time to the step `ceil(round(t T, 6))`;
`.interpolated()` makes it continuous. A network trained on a chain hears step - 1, as Ho's does. All is float64 and
goes through logarithms (log1p, expm1): 1 - alpha_bar is never formed by subtraction.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import Annotated, ClassVar

import torch
from torch import Tensor

from unsteep.core.arguments import MOST_STEPS, checked, kind, number, shown
from unsteep.core.level import NoiseLevel, Time, as_logsnr, as_time, preserving_level
from unsteep.core.open import Components


class Chain:
    """A chain of T = `steps` variances. Subclasses say which; the table of levels 0..T is made once.

    `zero_terminal` shifts and scales sqrt(alpha_bar) so that no signal is left at step T (Lin et al. 2023, algorithm
    1).
    """

    steps: int
    zero_terminal: bool
    preserving: ClassVar[bool] = True

    def betas(self) -> Tensor:
        """beta_1 .. beta_T, float64 (T,), as the family defines them, before any zero-terminal rescaling."""
        raise NotImplementedError

    @cached_property
    def levels(self) -> NoiseLevel:
        """The T + 1 levels of the chain, clean first: level n is step n."""
        log_alpha_bar = torch.log1p(-self.betas()).cumsum(0)
        if self.zero_terminal:
            gone = torch.log1p(-torch.exp((log_alpha_bar[-1] - log_alpha_bar) / 2))  # log of 1 - alpha_T / alpha_n
            log_alpha_bar = log_alpha_bar + 2 * (gone - gone[0])
        logsnr = log_alpha_bar - torch.log(-torch.expm1(log_alpha_bar))
        logsnr = torch.cat([torch.tensor([math.inf], dtype=torch.float64), logsnr])
        return preserving_level(torch.arange(self.steps + 1, dtype=torch.float64) / self.steps, logsnr)

    @property
    def logsnr_min(self) -> float:
        return float(self.levels.logsnr[-1])

    @property
    def logsnr_max(self) -> float:
        return float(self.levels.logsnr[1])

    def __call__(self, t: Time) -> NoiseLevel:
        step = torch.ceil(torch.round(as_time(t) * self.steps, decimals=6)).long()
        return self.levels[step]

    def inverse(self, logsnr: Time) -> NoiseLevel:
        """The level of the chain whose log-SNR is nearest to `logsnr`."""
        logsnr = as_logsnr(logsnr).contiguous()
        table = self.levels.logsnr
        midpoints = (table[1:-1] + table[2:]) / 2  # between steps n and n + 1, falling with n
        step = 1 + torch.searchsorted(-midpoints, -logsnr, right=True)
        return self.levels[torch.where(logsnr == math.inf, 0, step)]

    def interpolated(self) -> Interpolated:
        """The chain as a continuous schedule through the same levels."""
        return Interpolated(chain=self)

    def _check(self) -> None:
        checked(self)
        if self.steps > MOST_STEPS:
            raise ValueError(f"steps: expected at most {MOST_STEPS}, got {self.steps}; take fewer")
        if self.steps < 1 + self.zero_terminal:
            raise ValueError(f"steps: expected at least {1 + self.zero_terminal}, got {self.steps}")
        betas = self.betas()
        if not bool(((betas > 0) & (betas < 1)).all()):
            raise ValueError(
                f"{type(self).__name__}: every beta must lie in (0, 1), got {float(betas.min()):.4g} to "
                f"{float(betas.max()):.4g} at steps={self.steps}; take more steps or smaller betas"
            )

    def _ramp(self, start: float, end: float) -> Tensor:
        """T numbers from `start` to `end`, counted from the end: it is the last step that has to reach the noise."""
        return torch.linspace(end, start, self.steps, dtype=torch.float64).flip(0)

    def _per_thousand(self, beta: Tensor) -> Tensor:
        """Betas stated for 1000 steps, scaled by 1000 / T, so that a chain of any T ends in the same noise."""
        return beta * (1000 / self.steps)


@dataclass(frozen=True, kw_only=True)
class LinearBetas(Chain):
    """beta linear from `start` to `end`, both stated for 1000 steps and scaled by 1000 / steps (Ho et al. 2020,
    section 4)."""

    steps: int = 1000
    """Steps of the chain."""
    start: float = 1e-4
    """The first beta, stated for 1000 steps."""
    end: float = 0.02
    """The last one."""
    zero_terminal: bool = False
    """Rescaled so that t = 1 is noise alone (Lin et al. 2024)."""

    def __post_init__(self) -> None:
        self._check()

    def betas(self) -> Tensor:
        return self._per_thousand(self._ramp(self.start, self.end))


@dataclass(frozen=True, kw_only=True)
class QuadraticBetas(Chain):
    """sqrt(beta) linear from sqrt(start) to sqrt(end), stated for 1000 steps. With 0.00085 and 0.012 it is the
    "scaled linear" chain of latent diffusion (Rombach et al. 2022)."""

    steps: int = 1000
    start: float = 1e-4
    end: float = 0.02
    zero_terminal: bool = False

    def __post_init__(self) -> None:
        self._check()

    def betas(self) -> Tensor:
        return self._per_thousand(self._ramp(math.sqrt(self.start), math.sqrt(self.end)) ** 2)


@dataclass(frozen=True, kw_only=True)
class ConstantBetas(Chain):
    """The same beta at every step, stated for 1000 steps."""

    steps: int = 1000
    value: float = 0.01
    zero_terminal: bool = False

    def __post_init__(self) -> None:
        self._check()

    def betas(self) -> Tensor:
        return self._per_thousand(torch.full((self.steps,), self.value, dtype=torch.float64))


@dataclass(frozen=True, kw_only=True)
class SigmoidBetas(Chain):
    """Sigmoid-shaped *betas* between `start` and `end`, stated for 1000 steps (GeoDiff, Xu et al. 2022); `sharpness`
    is the half-range of the sigmoid's argument. The schedule with a sigmoid-shaped alpha_bar is another one."""

    steps: int = 1000
    start: float = 1e-4
    end: float = 0.02
    sharpness: float = 6.0
    zero_terminal: bool = False

    def __post_init__(self) -> None:
        self._check()

    def betas(self) -> Tensor:
        ramp = self._ramp(-self.sharpness, self.sharpness)
        return self._per_thousand(self.start + (self.end - self.start) * torch.sigmoid(ramp))


@dataclass(frozen=True, kw_only=True)
class CosineBetas(Chain):
    """alpha_bar_n proportional to cos^2((n/T + s) / (1 + s) pi/2), each beta at most `max_beta` (Nichol & Dhariwal
    2021, eq. 17)."""

    steps: int = 1000
    """Steps of the chain."""
    s: float = 0.008
    """How far from no noise it begins."""
    max_beta: float = 0.999
    """The most of a step."""
    zero_terminal: bool = False
    """Rescaled so that t = 1 is noise alone (Lin et al. 2024)."""

    def __post_init__(self) -> None:
        self._check()

    def betas(self) -> Tensor:
        angle = (torch.arange(self.steps + 1, dtype=torch.float64) / self.steps + self.s) / (1 + self.s) * math.pi / 2
        # 1 - cos^2(b) / cos^2(a) = sin(b - a) sin(b + a) / cos^2(a): no difference of numbers close to 1
        betas = torch.sin(angle[1:] - angle[:-1]) * torch.sin(angle[1:] + angle[:-1]) / torch.cos(angle[:-1]) ** 2
        return betas.clamp(max=self.max_beta)


@dataclass(frozen=True)
class Betas(Chain):
    """A chain with the given beta_1 .. beta_T, taken as they are."""

    values: tuple[float, ...]
    zero_terminal: bool = False

    def __post_init__(self) -> None:
        if isinstance(self.values, str | bytes | dict) or not isinstance(self.values, Iterable):
            raise ValueError(f"values: expected a row of betas, got {shown(self.values)}; give one, as (0.1, 0.2)")
        object.__setattr__(
            self,
            "values",
            tuple(float(beta if isinstance(beta, float) else number("values", beta)) for beta in self.values),
        )
        self._check()

    @property
    def steps(self) -> int:  # type: ignore[override]  # derived here, a field elsewhere
        return len(self.values)

    def betas(self) -> Tensor:
        return torch.tensor(self.values, dtype=torch.float64)


AnyChain = Annotated[Chain, Components(LinearBetas, QuadraticBetas, ConstantBetas, SigmoidBetas, CosineBetas, Betas)]


@dataclass(frozen=True, kw_only=True)
class Interpolated:
    """A chain made continuous through its own levels.

    log(sigma / alpha) is linear in t between steps 1 and T. Below step 1, (sigma / alpha)^2 is linear in t. Where
    alpha_T = 0, alpha^2 is linear over the last interval.
    """

    chain: AnyChain
    preserving: ClassVar[bool] = True

    def __post_init__(self) -> None:
        kind("chain", self.chain, Chain, "a chain of betas", "give one, as LinearBetas()")

    @property
    def steps(self) -> int:
        return self.chain.steps

    @property
    def logsnr_min(self) -> float:
        return self.chain.logsnr_min

    @property
    def logsnr_max(self) -> float:
        return math.inf

    def __call__(self, t: Time) -> NoiseLevel:
        t = as_time(t)
        table = self.chain.levels.logsnr
        place = t * self.steps
        below = place.floor().long().clamp(1, max(1, self.steps - 1))
        above = (below + 1).clamp(max=self.steps)
        fraction = place - below
        logsnr = torch.lerp(table[below], table[above], fraction)
        if self.logsnr_min == -math.inf:
            alpha_bar = torch.sigmoid(table[-2]) * self.steps * (1 - t)
            logsnr = torch.where(place > self.steps - 1, torch.logit(alpha_bar), logsnr)
            logsnr = torch.where(place == self.steps - 1, table[-2], logsnr)  # lerp met 0 * inf there
        return preserving_level(t, torch.where(place < 1, table[1] - place.log(), logsnr))

    def inverse(self, logsnr: Time) -> NoiseLevel:
        logsnr = as_logsnr(logsnr).contiguous().clamp(min=self.logsnr_min)
        table = self.chain.levels.logsnr[1:]
        above = torch.searchsorted(-table, -logsnr).clamp(1, max(1, self.steps - 1))
        low, high = table[above - 1], table[above.clamp(max=self.steps - 1)]
        place = above + torch.where(low == high, 0.0, (low - logsnr) / (low - high))
        if self.logsnr_min == -math.inf:
            last = self.steps - torch.sigmoid(logsnr) / torch.sigmoid(table[-2])
            place = torch.where(logsnr < table[-2], last, place)
        place = torch.where(logsnr > table[0], torch.exp(table[0] - logsnr), place)
        return preserving_level(place / self.steps, logsnr)
