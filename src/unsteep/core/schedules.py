"""Schedules: a time t in [0, 1] to a noise level. t = 0 is clean data, t = 1 the noisiest level.

The chains of betas stand in `chains`, the families with a log-SNR in closed form in `continuous`. Everything is float64
and computed from logarithms, accurate at both ends. `Shifted` moves another schedule's log-SNR.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import Annotated, ClassVar, Protocol

from torch import Tensor

from unsteep.core.arguments import checked, shown
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
from unsteep.core.continuous import VP, Cosine, Flow, Karras, Laplace, SigmoidAlphaBar, within
from unsteep.core.level import NoiseLevel, Time, preserving_level
from unsteep.core.open import Components, listed


class Schedule(Protocol):
    """Anything that maps a time to a noise level and a log-SNR back to one.

    `logsnr` falls strictly with t, from +inf at t = 0 (the clean level) to `logsnr_min` at t = 1. `logsnr_max` is
    its supremum over t > 0: the log-SNR of step 1 of a chain, +inf where a continuous family reaches clean data
    smoothly. One with steps, as a chain or an interpolated one, has `steps`, their number T, besides; one whose
    alpha^2 + sigma^2 is 1 says `preserving`, True.
    """

    @property
    def logsnr_min(self) -> float: ...

    @property
    def logsnr_max(self) -> float: ...

    def __call__(self, t: Time) -> NoiseLevel: ...

    def inverse(self, logsnr: Time) -> NoiseLevel:
        """The level at a given log-SNR; values outside the schedule's range give its end."""
        ...


def schedule_of(value: Schedule) -> Schedule:
    """A schedule. ValueError for what cannot be called as one, and for a class in place of its instance."""
    if isinstance(value, type) or not callable(value) or not hasattr(value, "logsnr_min"):
        raise ValueError(f"schedule: expected a schedule, got {shown(value)}; give one, as LinearBetas()")
    return value


def steps_of(schedule: Schedule) -> int:
    """T of a chain, interpolated or not; 1000 for other schedules, where a rule needs steps."""
    return getattr(schedule, "steps", None) or 1000


def levels_of(schedule: Schedule) -> int | None:
    """How many noisy levels there are: T of a chain; None where time is continuous."""
    return schedule.steps if isinstance(schedule, Chain) else None


def continuous(schedule: Schedule) -> Schedule:
    """The schedule in continuous time: a chain interpolated, any other as it is."""
    return schedule.interpolated() if isinstance(schedule, Chain) else schedule


def finite_range(schedule: Schedule) -> tuple[float, float]:
    """(low, high): the log-SNRs between which a sampler works: those at t = 1 and at t = 1/T, T the steps of a chain
    and 1000 elsewhere. Where no signal is left at t = 1, low is that of one step before; a family that is no chain
    goes on to log-SNR 9, about step 1 of Ho's chain, where t = 1/1000 is still noisier."""
    step = 1 / steps_of(schedule)
    low, high = (float(schedule(t).logsnr) for t in (1.0, step))
    low = low if low > -math.inf else float(schedule(1 - step).logsnr)
    return low, high if getattr(schedule, "steps", None) else max(high, min(9.0, schedule.logsnr_max - 1e-3))


Shiftable = Interpolated | VP | Cosine | SigmoidAlphaBar | Laplace | Flow


@dataclass(frozen=True, kw_only=True)
class Shifted:
    """`schedule` for pictures of another size: its log-SNR plus 2 log(base / size) (Hoogeboom et al. 2023).

    `size`: pixels along a side. A picture of `size`, averaged in blocks down to `base`, then has the SNR that
    `schedule` would give it there. alpha^2 + sigma^2 stays 1, of Flow alpha + sigma: on Flow this is the shift of
    times t -> s t / (1 + (s - 1) t), s = size / base (Esser et al. 2024, eq. 23).
    """

    schedule: Shiftable = field(default_factory=Cosine)
    size: int
    base: int = 64
    steps: ClassVar[int | None] = None

    def __post_init__(self) -> None:
        checked(self)
        if not isinstance(self.schedule, Shiftable):
            raise ValueError(
                f"Shifted: expected a schedule of {', '.join(family.__name__ for family in listed(Shiftable))}, got "
                f"{type(self.schedule).__name__}; take a chain's interpolated(), or another range of sigma for Karras"
            )
        if self.size < 1 or self.base < 1:
            raise ValueError(f"Shifted: expected sizes in pixels, got size={self.size} and base={self.base}")

    @property
    def preserving(self) -> bool:
        return self.schedule.preserving

    @property
    def _shift(self) -> float:
        return 2 * math.log(self.base / self.size)

    @property
    def logsnr_min(self) -> float:
        return self.schedule.logsnr_min + self._shift

    @property
    def logsnr_max(self) -> float:
        return self.schedule.logsnr_max + self._shift

    def __call__(self, t: Time) -> NoiseLevel:
        level = self.schedule(t)
        return self._level(level.t, level.logsnr + self._shift)

    def inverse(self, logsnr: Time) -> NoiseLevel:
        logsnr = within(logsnr, self.logsnr_min, self.logsnr_max)
        return self._level(self.schedule.inverse(logsnr - self._shift).t, logsnr)

    def _level(self, t: Tensor, logsnr: Tensor) -> NoiseLevel:
        if isinstance(self.schedule, Flow):
            return replace(self.schedule.inverse(logsnr), t=t)
        return preserving_level(t, logsnr)


# What a configuration may name.
AnySchedule = Annotated[
    Schedule, Components(*listed(AnyChain), Interpolated, VP, Cosine, SigmoidAlphaBar, Laplace, Flow, Karras, Shifted)
]

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
    "Karras",
    "Laplace",
    "LinearBetas",
    "QuadraticBetas",
    "Schedule",
    "Shifted",
    "SigmoidAlphaBar",
    "SigmoidBetas",
    "continuous",
    "finite_range",
    "levels_of",
    "schedule_of",
    "steps_of",
]
