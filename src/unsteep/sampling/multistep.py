"""Linear multistep methods: one network call a step, and the values of the last calls.

The term of one form of the flow (see `exponential`) is extrapolated by the polynomial through its last values, in the
half log-SNR l, and integrated exactly: exponential Adams-Bashforth, of which

    DEIS       Zhang & Chen 2023, in the form of eps, x0 or v
    LMS        the form of eps with a polynomial in sigma/alpha: classical Adams-Bashforth
    DPM++ M    Lu et al. 2022b: the form of x0. Order 2 takes the extrapolated value in the middle of the step;
               order 3 as published lacks a factor 2 in its second difference and is of second order

The first steps have fewer values and lower order; a step from no signal or to no noise is DDIM's. LMS alone, whose
polynomial in sigma/alpha reaches to 0, can end as it goes: of its own order where data have a density.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, Literal, Self

import torch
from torch import Tensor

from unsteep.core.arguments import checked
from unsteep.core.estimate import Estimate
from unsteep.core.level import NoiseLevel
from unsteep.core.noise import NoiseSource
from unsteep.denoiser import Denoise
from unsteep.sampling.exponential import (
    POINTS,
    WEIGHTS,
    Form,
    advance,
    at_an_end,
    combine,
    first_order,
    half_logsnr,
    lagrange,
    steady,
    weights,
)
from unsteep.sampling.grids import Spacing
from unsteep.sampling.known import Known
from unsteep.sampling.loop import At

History = tuple[tuple[Tensor, Tensor], ...]  # (l, value) of the last calls, oldest first


def remember(memory: History | None, estimate: Estimate, form: Form, order: int) -> History:
    """The last `order` calls, this one last."""
    now = (half_logsnr(estimate.level), estimate.as_(form))
    return (*(memory or ()), now)[-order:]


@dataclass(frozen=True, kw_only=True)
class DEIS:
    """Exponential Adams-Bashforth of `order` 1 to 4 in one `form` of the flow."""

    order: Literal[1, 2, 3, 4] = 3
    form: Form = "eps"
    spacing: ClassVar[Spacing] = "visible"
    flows: ClassVar[bool] = True

    def __post_init__(self) -> None:
        checked(self)

    def step(
        self,
        denoise: Denoise,
        x: Tensor,
        now: NoiseLevel,
        nxt: NoiseLevel,
        noise: NoiseSource,
        memory: History | None,
        at: At | None,
    ) -> tuple[Tensor, Estimate, History | None]:
        estimate = denoise(x, now)
        if at_an_end(now, nxt):
            return first_order(estimate, nxt), estimate, None
        history = remember(memory, estimate, self.form, self.order)
        nodes, values = zip(*history, strict=True)
        shares = steady(lambda some: weights(self.form, some, now, nxt), nodes)
        values = values[-len(shares) :]
        if self.form == "v":
            return combine(x, nxt.scale / now.scale, values, shares), estimate, history
        return advance(estimate, nxt, values[-1], values[:-1], shares[:-1]), estimate, history


@dataclass(frozen=True, kw_only=True)
class LMS:
    """Adams-Bashforth of `order` 1 to 4 for d(x / alpha) = eps d(sigma / alpha), on uneven steps.

    `end`: with the denoiser, or "smooth", with the polynomial that leads there; a `Model` puts what suits its data, as
    they are values of a grid or have a density, in place of None, which is the denoiser.
    """

    order: Literal[1, 2, 3, 4] = 4
    end: Literal["denoiser", "smooth"] | None = None
    spacing: ClassVar[Spacing] = "visible"
    flows: ClassVar[bool] = True

    def __post_init__(self) -> None:
        checked(self)

    def fitted(self, known: Known) -> Self:
        """With the end that suits the data, unless it was given one."""
        return self if self.end else replace(self, end="denoiser" if known.atoms else "smooth")

    def step(
        self,
        denoise: Denoise,
        x: Tensor,
        now: NoiseLevel,
        nxt: NoiseLevel,
        noise: NoiseSource,
        memory: History | None,
        at: At | None,
    ) -> tuple[Tensor, Estimate, History | None]:
        estimate = denoise(x, now)
        smooth = self.end == "smooth" and memory is not None
        if bool(now.alpha == 0) or (bool(nxt.sigma == 0) and not smooth):
            return first_order(estimate, nxt), estimate, None
        history = remember(memory, estimate, "eps", self.order)
        nodes, values = zip(*history, strict=True)
        weigh = _to_no_noise if bool(nxt.sigma == 0) else _over
        shares = steady(lambda some: weigh(some, now, nxt), nodes)
        values = values[-len(shares) :]
        return advance(estimate, nxt, values[-1], values[:-1], shares[:-1]), estimate, history


def _over(nodes: Sequence[Tensor], now: NoiseLevel, nxt: NoiseLevel) -> Tensor:
    """The weights of eps, (k,), by its polynomial in sigma / alpha."""
    return weights("eps", nodes, now, nxt, lambda half: torch.exp(-half))


def _to_no_noise(nodes: Sequence[Tensor], now: NoiseLevel, nxt: NoiseLevel) -> Tensor:
    """The same where sigma / alpha ends at 0, and its logarithm nowhere."""
    s = now.sigma / now.alpha
    basis = lagrange(torch.exp(-torch.stack([*nodes])), s * (1 + POINTS) / 2)
    return -nxt.alpha * s / 2 * basis @ WEIGHTS


@dataclass(frozen=True, kw_only=True)
class DPMMultistep:
    """DPM-Solver++ 2M and 3M. `published`: order 3 without its factor 2, as other libraries have it."""

    order: Literal[2, 3] = 2
    published: bool = False
    spacing: ClassVar[Spacing] = "visible"
    flows: ClassVar[bool] = True

    def __post_init__(self) -> None:
        checked(self)

    @property
    def converges(self) -> float:
        return 2 if self.published else self.order

    def step(
        self,
        denoise: Denoise,
        x: Tensor,
        now: NoiseLevel,
        nxt: NoiseLevel,
        noise: NoiseSource,
        memory: History | None,
        at: At | None,
    ) -> tuple[Tensor, Estimate, History | None]:
        estimate = denoise(x, now)
        if at_an_end(now, nxt):
            return first_order(estimate, nxt), estimate, None
        history = remember(memory, estimate, "x0", self.order)
        nodes, values = zip(*history, strict=True)
        shares = _published(nodes, now, nxt) if self.published else steady(lambda some: _exact(some, now, nxt), nodes)
        return combine(x, nxt.sigma / now.sigma, values[-len(shares) :], shares), estimate, history


def _exact(nodes: Sequence[Tensor], now: NoiseLevel, nxt: NoiseLevel) -> Tensor:
    """The weights of DPM-Solver++, (k,), with the factor that the published ones of three values lack."""
    return weights("x0", nodes, now, nxt) if len(nodes) == 3 else _published(nodes, now, nxt)


def _published(nodes: Sequence[Tensor], now: NoiseLevel, nxt: NoiseLevel) -> Tensor:
    """The weights of DPM-Solver++ as in its code, (k,): of one, two or three values."""
    end = half_logsnr(nxt)
    h = end - nodes[-1]
    whole = -torch.expm1(-h)  # of a constant
    if len(nodes) == 1:
        return nxt.alpha * whole[None]
    r0 = (nodes[-1] - nodes[-2]) / h
    if len(nodes) == 2:
        return nxt.alpha * whole * torch.stack([-1 / (2 * r0), 1 + 1 / (2 * r0)])
    slope = 1 - whole / h  # of a slope of 1 a step
    curvature = 0.5 - slope / h  # of a second derivative of 1 a step^2
    r1 = (nodes[-2] - nodes[-3]) / h
    # Rows: what each of the three values puts into the first difference, the one before, and their difference.
    last = torch.stack([torch.zeros_like(r0), -1 / r0, 1 / r0])
    before = torch.stack([-1 / r1, 1 / r1, torch.zeros_like(r1)])
    bend = (last - before) / (r0 + r1)  # half the second derivative: here the factor 2 is missing
    level = torch.tensor([0.0, 0.0, 1.0], dtype=torch.float64)
    return nxt.alpha * (whole * level + slope * (last + r0 * bend) + curvature * bend)
