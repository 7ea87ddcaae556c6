"""Singlestep exponential methods: calls at levels between `now` and `nxt`, no memory.

With the half log-SNR l and h = l_nxt - l_now, in the form of eps (DPM-Solver-2 and -3, Lu et al. 2022a) or of x0
(DPM-Solver++ 2S and 3S, Lu et al. 2022b; see `exponential` for the forms):

    order 2    a first-order step to the middle, and the whole step with the value found there
    order 3    a first-order step to 1/3; from both values to 2/3; the whole step from those at 0 and 2/3

On a chain the levels between are levels of the chain, and the formulas take their true places. Where the chain has
none, where the step begins without signal or ends without noise, and where it is overlong, it is DDIM's, at one call.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from unsteep.core.arguments import checked
from unsteep.core.estimate import Estimate
from unsteep.core.level import NoiseLevel
from unsteep.core.noise import NoiseSource
from unsteep.denoiser import Denoise
from unsteep.sampling.exponential import advance, at_an_end, first_order, half_logsnr, overlong, weights
from unsteep.sampling.grids import Spacing
from unsteep.sampling.loop import At


@dataclass(frozen=True, kw_only=True)
class Singlestep:
    """DPM-Solver (form "eps") and DPM-Solver++ (form "x0") of `order` 2 or 3: as many calls a step."""

    order: Literal[2, 3] = 2
    form: Literal["x0", "eps"] = "x0"
    spacing: ClassVar[Spacing] = "logsnr"
    flows: ClassVar[bool] = True

    def __post_init__(self) -> None:
        checked(self)

    @property
    def calls(self) -> int:
        return self.order

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
        if at_an_end(now, nxt) or overlong(now, nxt):
            return first_order(estimate, nxt), estimate, None
        between = _between(now, nxt, (1 / 2,) if self.order == 2 else (1 / 3, 2 / 3), at)
        if not between:
            return first_order(estimate, nxt), estimate, None
        start, value = half_logsnr(now), estimate.as_(self.form)

        def walk(to: NoiseLevel, other: NoiseLevel, told: Tensor) -> Tensor:
            shares = weights(self.form, [start, half_logsnr(other)], now, to)
            return advance(estimate, to, value, [told], shares[1:])

        middle = between[0]
        value_middle = denoise(first_order(estimate, middle), middle).as_(self.form)
        if len(between) == 1:
            place = (half_logsnr(middle) - start) / (half_logsnr(nxt) - start)
            whole = weights(self.form, [start], now, nxt)
            return advance(estimate, nxt, value, [value_middle], whole / (2 * place)), estimate, None
        late = between[1]
        value_late = denoise(walk(late, middle, value_middle), late).as_(self.form)
        return walk(nxt, late, value_late), estimate, None


def _between(now: NoiseLevel, nxt: NoiseLevel, places: tuple[float, ...], at: At | None) -> list[NoiseLevel]:
    """The levels at `places` of the way in log-SNR, as many as the schedule has distinct ones for, in order."""
    if at is None:
        raise ValueError("at: this solver calls the network between levels; give the schedule's `inverse` as at")
    found = [now]
    for place in places:
        level = at(torch.lerp(now.logsnr, nxt.logsnr, place))
        if bool((level.t < found[-1].t) & (level.t > nxt.t)):
            found.append(level)
    return found[1:]
