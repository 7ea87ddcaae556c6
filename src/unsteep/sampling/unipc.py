"""UniPC: a predictor-corrector whose corrector costs no call (Zhao et al. 2023), in the form of x0.

Both are exponential Adams methods (see `exponential`): the predictor of order p extrapolates the last p values, and
when the next call has been made at the predicted point, the corrector redoes the step with that value as one more node
before the walk goes on. The call stays where it was made. Where a two-node formula has one coefficient too many,
UniPC takes 1/2 times B(h): B = h ("bh1") or 1 - e^-h ("bh2"), h the step in half log-SNR.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from unsteep.core.arguments import checked
from unsteep.core.estimate import Estimate
from unsteep.core.level import NoiseLevel
from unsteep.core.noise import NoiseSource
from unsteep.denoiser import Denoise
from unsteep.sampling.exponential import at_an_end, combine, first_order, half_logsnr, steady, weights
from unsteep.sampling.grids import Spacing
from unsteep.sampling.loop import At
from unsteep.sampling.multistep import History, remember


@dataclass(frozen=True)
class Corrected:
    """The last step: from `x` at `level`, predicted from `history`."""

    x: Tensor
    level: NoiseLevel
    history: History


@dataclass(frozen=True, kw_only=True)
class UniPC:
    """UniPC of `order` 1 to 3. `corrector` off is UniP. Keeps order + 1 states."""

    order: Literal[1, 2, 3] = 3
    variant: Literal["bh1", "bh2"] = "bh2"
    corrector: bool = True
    spacing: ClassVar[Spacing] = "visible"
    flows: ClassVar[bool] = True

    def __post_init__(self) -> None:
        checked(self)

    @property
    def converges(self) -> float:
        return self.order + self.corrector

    def step(
        self,
        denoise: Denoise,
        x: Tensor,
        now: NoiseLevel,
        nxt: NoiseLevel,
        noise: NoiseSource,
        memory: Corrected | None,
        at: At | None,
    ) -> tuple[Tensor, Estimate, Corrected | None]:
        estimate = denoise(x, now)
        if at_an_end(now, nxt):
            return first_order(estimate, nxt), estimate, None
        history = remember(None if memory is None else memory.history, estimate, "x0", self.order + 1)
        if memory is not None and self.corrector:
            nodes, values = zip(*history, strict=True)
            shares = self._shares(nodes, memory.level, now)
            x = combine(memory.x, now.sigma / memory.level.sigma, values, shares)
        history = history[-self.order :]
        nodes, values = zip(*history, strict=True)
        shares = steady(lambda some: self._shares(some, now, nxt), nodes)
        x_nxt = combine(x, nxt.sigma / now.sigma, values[-len(shares) :], shares)
        return x_nxt, estimate, Corrected(x, now, history)

    def _shares(self, nodes: Sequence[Tensor], now: NoiseLevel, nxt: NoiseLevel) -> Tensor:
        """The weight of each node's value in the step."""
        return self._of_two(nodes, now, nxt) if len(nodes) == 2 else weights("x0", nodes, now, nxt)

    def _of_two(self, nodes: Sequence[Tensor], now: NoiseLevel, nxt: NoiseLevel) -> Tensor:
        """The weights of the values before and at `now` (predictor), or at `now` and `nxt` (corrector)."""
        h = half_logsnr(nxt) - half_logsnr(now)
        whole = -torch.expm1(-h)
        slope = (h if self.variant == "bh1" else whole) / 2 * h / (nodes[1] - nodes[0])  # B/2 of the change in h
        at_now = 1 if bool(nodes[1] == half_logsnr(now)) else 0
        share = torch.stack([-slope, slope])
        share[at_now] = share[at_now] + whole
        return nxt.alpha * share
