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

import torch
from torch import Tensor

from unsteep.core.arguments import checked
from unsteep.core.level import NoiseLevel, like


@dataclass(frozen=True, kw_only=True)
class Maps:
    """What a map was trained for.

    `calls`: how many it is sampled with where nobody says. `grids`: it knows the steps of even grids in t of so many
    steps; (): those between any two levels. `diagonal`: whether nxt = now was trained, so that it is a plain denoiser,
    too.
    """

    calls: int
    grids: tuple[int, ...] = ()
    diagonal: bool = True

    def __post_init__(self) -> None:
        checked(self)
        if min(self.calls, *self.grids, 1) < 1:
            raise ValueError(f"calls: expected at least 1, and so grids, got {self.calls} and {self.grids}")

    def describe(self) -> str:
        """In a word or two."""
        return "end of a step"

    @property
    def words(self) -> str:
        """Its calls, as in "4 calls"."""
        return f"{self.calls} call{'' if self.calls == 1 else 's'}"

    def knows(self, steps: int) -> bool:
        """Whether it was trained for an even grid of so many steps."""
        return not self.grids or steps in self.grids


def share_of_first(now: NoiseLevel, mid: NoiseLevel, nxt: NoiseLevel) -> Tensor:
    """w of the module, float64: how much of a step's X0 is that of its first part. Levels of one shape, each cleaner
    than the one before; 0 where nxt is clean, 1 where all are one, as the steps of a coarse chain may be."""
    first, whole = (_signal(later) - _signal(now) for later in (mid, nxt))
    return torch.where(whole == 0, 1.0, first / torch.where(whole == 0, 1.0, whole))


def mean_x0(x: Tensor, x_nxt: Tensor, now: NoiseLevel, nxt: NoiseLevel) -> Tensor:
    """X0 of a step from x (b, ...) at `now` that leads to x_nxt at a cleaner `nxt`."""
    turn = nxt.alpha * now.sigma - now.alpha * nxt.sigma
    return like(now.sigma / turn, x) * x_nxt - like(nxt.sigma / turn, x) * x


def _signal(level: NoiseLevel) -> Tensor:
    return level.alpha / level.sigma
