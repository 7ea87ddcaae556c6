"""Several answers about one x_t, and the point on the line through them: what most kinds of guidance share.

Answers of one kind are affine in each other's kinds (`core.estimate`), so that

    y = y_base + sum_i w_i (y_i - y_base)

is the same x0 whichever kind y is. Answers of one network under k conditions come from one batch of k b rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from unsteep.core.condition import Condition, joined
from unsteep.core.estimate import Estimate
from unsteep.core.level import NoiseLevel
from unsteep.denoiser import Denoise


class Conditional(Protocol):
    """A denoiser whose condition is not bound yet: a `Denoiser`, or a `Mixture` with labels."""

    def __call__(self, x_t: Tensor, level: NoiseLevel, condition: Condition) -> Estimate: ...


@runtime_checkable
class Guided(Denoise, Protocol):
    """A guided denoiser that still knows what it guides."""

    @property
    def plain(self) -> Denoise:
        """What is guided."""
        ...

    def pair(self, x_t: Tensor, level: NoiseLevel) -> tuple[Estimate, Estimate]:
        """(guided, plain) at x_t (b, ...), for no more network calls than the guided one alone takes."""
        ...


def answers(denoiser: Conditional, x_t: Tensor, level: NoiseLevel, conditions: Sequence[Condition]) -> list[Estimate]:
    """The estimate at x_t (b, ...) under each condition, from one batch. `level` of shape () or (b,)."""
    if len(conditions) == 1:
        return [denoiser(x_t, level, conditions[0])]
    k, row = len(conditions), level.expand(len(x_t))
    rows = NoiseLevel(*(one.repeat(k) for one in (row.t, row.logsnr, row.alpha, row.sigma)))
    told = denoiser(torch.cat([x_t] * k), rows, stacked(conditions))

    def parts(of: Tensor | None) -> Sequence[Tensor | None]:
        return [None] * k if of is None else of.chunk(k)

    others = zip(parts(told.variance_fraction), parts(told.log_variance), parts(told.valid), strict=True)
    return [Estimate(told.kind, v, x_t, level, *of) for v, of in zip(told.value.chunk(k), others, strict=True)]


def stacked(conditions: Sequence[Condition]) -> Condition:
    """Conditions on the same b samples, one after another as the rows of one.

    A kind of condition that only some of them have is null in the others. Shorter texts are padded.
    """
    nobody = torch.zeros(conditions[0].count, dtype=torch.bool)
    given = [one.drop(nobody) for one in conditions]  # dropped from nobody, it says all that it took for granted
    nulls = {name: null for one in given for name, null in one.nulls.items()}
    null = Condition({name: tensor for one in given for name, tensor in one.items()}, nulls=nulls).null()
    return joined([Condition({**null, **one}, nulls=nulls) for one in given])


def moved(base: Estimate, others: Sequence[Estimate], weights: Sequence[float]) -> Estimate:
    """base + sum_i w_i (other_i - base), in the base's kind. A learned variance is the first other's."""
    shift = sum(weight * (one.as_(base.kind) - base.value) for one, weight in zip(others, weights, strict=True))
    return replace((*others, base)[0], kind=base.kind, value=base.value + shift)
