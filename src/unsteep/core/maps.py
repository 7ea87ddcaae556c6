"""Maps: denoisers that also hear where a step ends, and answer with the estimate for which one DDIM step is exact.

With u = alpha / sigma and x0(s) the plain estimate on the way of the probability flow from `now` to `nxt`,

    X0(now, nxt) = 1 / (u_nxt - u_now) * integral of x0 du from u_now to u_nxt
    x_nxt        = alpha_nxt X0 + sigma_nxt E,    E = (x_now - alpha_now X0) / sigma_now

on any schedule: a convex average, finite at alpha = 0, which clipping keeps right. X0(now, now) is the plain estimate,
nxt = clean a consistency model. Two steps make one (the semigroup), `meet`:

    X0(now, nxt) = w X0(now, mid) + (1 - w) X0(mid, nxt),    w = (u_mid - u_now) / (u_nxt - u_now)
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from unsteep.core.arguments import checked
from unsteep.core.level import NoiseLevel


@dataclass(frozen=True, kw_only=True)
class Maps:
    """What a map was trained for.

    `calls`: how many it is sampled with where nobody says. `finest`: it knows the steps of even grids in t of 1, 2, 4
    ... up to so many; 0: steps between any two levels. `diagonal`: whether nxt = now was trained, so that it is a plain
    denoiser, too.
    """

    calls: int
    finest: int = 0
    diagonal: bool = True

    def __post_init__(self) -> None:
        checked(self)
        if self.calls < 1 or self.finest < 0:
            raise ValueError(f"calls: expected at least 1, and finest at least 0, got {self.calls} and {self.finest}")

    def describe(self) -> str:
        """In a word or two."""
        return "end of a step"


def share_of_first(now: NoiseLevel, mid: NoiseLevel, nxt: NoiseLevel) -> Tensor:
    """w of the module, float64: how much of a step's X0 is that of its first part. Levels of one shape, each cleaner
    than the one before; 0 where nxt is clean."""
    first, whole = (_signal(later) - _signal(now) for later in (mid, nxt))
    return first / whole


def _signal(level: NoiseLevel) -> Tensor:
    return level.alpha / level.sigma
