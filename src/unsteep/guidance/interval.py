"""Guidance in a limited interval of noise levels (Kynkaanniemi et al. 2024): guided for low < t <= high, plain outside.

At high noise guidance drives all samples to the same few modes, and at low noise it changes little: without both it
costs fewer calls, and less of the variety. The paper gives its interval in sigma, this one is in t.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from unsteep.core.estimate import Estimate
from unsteep.core.level import NoiseLevel
from unsteep.denoiser import Denoise, estimate
from unsteep.guidance.branches import Guided


@dataclass(frozen=True)
class GuidanceInterval:
    """`guided` where low < t <= high, and `plain` elsewhere: default, what `guided` says that it guides.

    The calls of the one inside, and of the other, one in most cases, outside. In a batch whose levels (b,) lie on both
    sides each row has its own, for the calls of both.
    """

    guided: Denoise
    low: float
    high: float
    plain: Denoise | None = None

    def __post_init__(self) -> None:
        check_interval(self.low, self.high)
        if self.plain is None and not isinstance(self.guided, Guided):
            raise ValueError(
                f"plain: {type(self.guided).__name__} does not say what it guides; give `plain`, what to call outside "
                f"the interval, or put what clips around this: Clip(GuidanceInterval(...))"
            )

    def __call__(self, x_t: Tensor, level: NoiseLevel) -> Estimate:
        inside = (self.low < level.t) & (level.t <= self.high)
        if bool(inside.all()):
            return self.guided(x_t, level)
        plain = self.guided.plain if self.plain is None and isinstance(self.guided, Guided) else self.plain
        assert plain is not None
        if not bool(inside.any()):
            return plain(x_t, level)
        return _by_row(inside, self.guided(x_t, level), plain(x_t, level))

    def to(self, x_t: Tensor, level: NoiseLevel, nxt: NoiseLevel) -> Estimate:
        """For a step that ends at `nxt`: outside the interval, for what is guided is no map."""
        if self.plain is None or bool(((self.low < level.t) & (level.t <= self.high)).any()):
            return self(x_t, level)
        return estimate(self.plain, x_t, level, nxt)


def check_interval(low: float, high: float) -> None:
    """ValueError for what is no interval of times."""
    if not 0 <= low < high <= 1:
        raise ValueError(f"interval: expected times 0 <= low < high <= 1, 1 being pure noise; got {low} to {high}")


def _by_row(first: Tensor, one: Estimate, other: Estimate) -> Estimate:
    """`one` in the rows where `first` (b,) is true, and `other` elsewhere: in the kind of both, or else in x0."""
    kind = one.kind if one.kind == other.kind else "x0"
    value = one.as_(kind)
    rows = first.to(value.device).reshape(-1, *(1,) * (value.ndim - 1))

    def chosen(a: Tensor | None, b: Tensor | None) -> Tensor | None:
        return None if a is None or b is None else torch.where(rows, a, b)

    return replace(
        one,
        kind=kind,
        value=torch.where(rows, value, other.as_(kind)),
        variance_fraction=chosen(one.variance_fraction, other.variance_fraction),
        log_variance=chosen(one.log_variance, other.log_variance),
    )
