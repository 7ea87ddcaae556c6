"""An estimate with its error."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Self

from torch import Tensor

USUAL_PLACES, MOST_PLACES = 4, 10  # where the interval has no width; and ever
Z = 1.959964  # the normal quantile of a 95% interval


@dataclass(frozen=True)
class Interval:
    """An estimate and its 95% interval, which need not lie evenly around it."""

    value: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Tensor) -> Self:
        """The mean of one value for each of n >= 2 independent examples, (n,), and 1.96 standard errors around it."""
        mean, half = (float(part) for part in intervals(values[:, None]))
        return cls(mean, mean - half, mean + half)

    @classmethod
    def of_few(cls, values: Tensor) -> Self:
        """The mean of a few independent replicates (k >= 2,), and Student's interval around it."""
        k = len(values)
        half = _student(k - 1) * float(values.double().std(correction=1)) / math.sqrt(k)
        mean = float(values.double().mean())
        return cls(mean, mean - half, mean + half)

    @property
    def half(self) -> float:
        """Half of its width."""
        return (self.high - self.low) / 2

    def __mul__(self, factor: float) -> Interval:
        low, high = sorted((self.low * factor, self.high * factor))
        return Interval(self.value * factor, low, high)

    def below(self, other: Interval) -> bool | None:
        """Whether this one is the smaller; None where the intervals overlap, and it is too close to tell."""
        if self.high < other.low:
            return True
        return False if other.high < self.low else None

    def __str__(self) -> str:
        return f"{self._set(self.value)} ± {self._set(self.half)}"

    def bracketed(self, unit: str = "", *, signed: bool = False) -> str:
        """As in 12.3 [11.9, 12.8], with a unit after the first number."""
        value, low, high = (self._set(one, signed) for one in (self.value, self.low, self.high))
        return f"{value}{unit} [{low}, {high}]"

    def _set(self, number: float, signed: bool = False) -> str:
        """A number to the digits that the interval bears: two of its half-width."""
        if not math.isfinite(number):
            return f"{number:{'+' if signed else ''}}"
        bears = math.isfinite(self.half) and self.half > 0
        places = min(1 - math.floor(math.log10(self.half)), MOST_PLACES) if bears else USUAL_PLACES
        return f"{round(number, places) + 0.0:{'+' if signed else ''}.{max(places, 0)}f}"


def intervals(values: Tensor) -> tuple[Tensor, Tensor]:
    """Means (k,) and half-widths (k,) of their 95% intervals, for values (n, k) of n >= 2 independent examples."""
    return values.mean(0), Z * values.std(0, correction=1) / len(values) ** 0.5


def wilson(hits: int, n: int) -> Interval:
    """The share hits / n by Wilson's score interval, which holds near 0 and 1 too (Wilson 1927)."""
    share, spread = hits / n, Z**2 / n
    middle = (share + spread / 2) / (1 + spread)
    half = math.sqrt(spread * (share * (1 - share) + spread / 4)) / (1 + spread)
    return Interval(share, max(0.0, middle - half), min(1.0, middle + half))


def _student(degrees: int) -> float:
    """The 97.5% quantile of Student's t."""
    from scipy.special import stdtrit

    return float(stdtrit(degrees, 0.975))
