"""Classifier-free guidance: towards one condition, or several, and away from none, or from a negative one.

    x0 = x0_base + scale (x0_condition - x0_base)                   Ho & Salimans 2022, with scale = 1 + their w
    x0 = x0_base + sum_i w_i (x0_i - x0_base)                       Liu et al. 2022: w_i > 0 is and, < 0 not

`base` is the estimate without a condition, as a network trained with condition dropout has it, or the one under a
negative condition. Scores of exact estimates make the second a product of densities, q(x_t) prod_i (q(x_t | c_i) /
q(x_t))^w_i, level by level; what its flow samples is near that product, not it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import fsum, isclose

from torch import Tensor

from unsteep.core.condition import Condition
from unsteep.core.estimate import Estimate
from unsteep.core.level import NoiseLevel
from unsteep.denoiser import Conditioned, Denoise
from unsteep.guidance.branches import Conditional, answers, moved


@dataclass(frozen=True)
class ClassifierFree:
    """x0 = x0_base + scale (x0_condition - x0_base), both in one network batch.

    `scale` 1 is the conditional denoiser itself and 0 the base alone, one call each; any other takes two. The base is
    unconditional, or `negative`, which has a row for each sample, too. A learned variance is the conditional one's.
    """

    denoiser: Conditional
    condition: Condition
    scale: float = 1.0
    negative: Condition | None = None

    def __call__(self, x_t: Tensor, level: NoiseLevel) -> Estimate:
        return self.pair(x_t, level)[0]

    @property
    def plain(self) -> Denoise:
        """The conditional denoiser."""
        return Conditioned(self.denoiser, self.condition)

    def pair(self, x_t: Tensor, level: NoiseLevel) -> tuple[Estimate, Estimate]:
        """(guided, conditional); at scale 0 the base twice, for one call."""
        base = self.condition.null() if self.negative is None else self.negative
        if self.scale in (0, 1):
            only = self.denoiser(x_t, level, self.condition if self.scale == 1 else base)
            return only, only
        towards, away = answers(self.denoiser, x_t, level, [self.condition, base])
        return moved(away, [towards], [self.scale]), towards


@dataclass(frozen=True)
class Composed:
    """x0 = x0_base + sum_i w_i (x0_i - x0_base) over `conditions` and their `weights`, all in one network batch.

    k conditions take k + 1 calls: one less where the weights add up to 1 and leave the base none, and one less for each
    weight of 0. With one condition it is `ClassifierFree`. The base is as there. Conditions may differ in what they
    hold: where one has a label and another a text, each is null in the other.
    """

    denoiser: Conditional
    conditions: tuple[Condition, ...]
    weights: tuple[float, ...]
    negative: Condition | None = None

    def __post_init__(self) -> None:
        if not self.conditions or len(self.conditions) != len(self.weights):
            raise ValueError(
                f"weights: expected one for each of one or more conditions, got {len(self.conditions)} conditions and "
                f"{len(self.weights)} weights"
            )

    def __call__(self, x_t: Tensor, level: NoiseLevel) -> Estimate:
        weights, told = self._told(x_t, level)
        return moved(told[-1], told[: len(weights)], weights)

    @property
    def plain(self) -> Denoise:
        """The conditions in the same proportions, but weights that add up to 1; ValueError where they add up to 0."""
        return replace(self, weights=_shares(self.weights))

    def pair(self, x_t: Tensor, level: NoiseLevel) -> tuple[Estimate, Estimate]:
        """(guided, plain)."""
        weights, told = self._told(x_t, level)
        shares, conditional = _shares(weights), told[: len(weights)]
        return moved(told[-1], conditional, weights), moved(conditional[-1], conditional, shares)

    def _told(self, x_t: Tensor, level: NoiseLevel) -> tuple[list[float], list[Estimate]]:
        """The weights that are not 0, the estimates that they are for, and after those the base; but where the weights
        add up to 1 any of the estimates is as good a base, and the last is."""
        kept = [(one, weight) for one, weight in zip(self.conditions, self.weights, strict=True) if weight != 0]
        asked, weights = [one for one, _ in kept], [weight for _, weight in kept]
        if not isclose(fsum(weights), 1, rel_tol=1e-12):
            asked.append(self.conditions[0].null() if self.negative is None else self.negative)
        return weights, answers(self.denoiser, x_t, level, asked)


def _shares(weights: Sequence[float]) -> tuple[float, ...]:
    """The weights over their sum."""
    total = fsum(weights)
    if total == 0:
        raise ValueError("weights: these add up to 0, and nothing is left of them without guidance")
    return tuple(weight / total for weight in weights)
