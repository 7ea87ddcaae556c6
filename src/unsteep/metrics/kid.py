"""The Kernel Inception Distance (Binkowski et al. 2018): the squared maximum mean discrepancy of two sets of features

    E k(x, x') + E k(y, y') - 2 E k(x, y),      k(a, b) = (a.b / d + 1)^3,

by the unbiased estimate, without the pairs of an example with itself; it may fall below 0. As published, the value is
the mean over random subsets of both sets.

The subsets' scatter is not its error: their standard deviation is that of a smaller set, and their standard error that
of drawing subsets from the given examples (an interval of it holds the truth in less than half of the cases). Here the
error comes from the influence of every example, its mean kernel with its own set less that with the other, twice, added
up over the subsets in which it stands: intervals hold the truth in 94% to 99% of cases, wide where both sets are of one
distribution.
"""

from __future__ import annotations

import torch
from torch import Tensor

from unsteep.core.noise import permutation
from unsteep.metrics.frechet import check_sets
from unsteep.metrics.interval import Interval, Z


def polynomial(a: Tensor, b: Tensor) -> Tensor:
    """k of each of (n, d) with each of (m, d): (n, m)."""
    return torch.addmm(a.new_ones(()), a, b.T, alpha=1 / a.shape[1]).pow_(3)


def discrepancy(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The unbiased estimate for features (n, d) and (m, d), and the influence of each example of x (n,) and of y (m,),
    up to a constant of its set. Written here because the error needs the rows of kernels, where others return sums."""
    within_x, within_y, between = polynomial(x, x), polynomial(y, y), polynomial(x, y)
    of_x = (within_x.sum(1) - within_x.diagonal()) / (len(x) - 1)
    of_y = (within_y.sum(1) - within_y.diagonal()) / (len(y) - 1)
    value = of_x.mean() + of_y.mean() - 2 * between.mean()
    return value, 2 * (of_x - between.mean(1)), 2 * (of_y - between.mean(0))


def kid(x: Tensor, reference: Tensor, *, subsets: int = 100, size: int = 1000, seed: int = 0) -> Interval:
    """KID of features x (n, d) against reference (m, d). Subsets have no more than min(n, m) examples of each, and
    where they are both sets as a whole, there is one."""
    check_sets(x, reference)
    sets = (x, reference)
    size = min(size, *map(len, sets))
    subsets = 1 if size == max(map(len, sets)) else subsets
    values = []
    influence = [torch.zeros(len(one), dtype=torch.float64) for one in sets]
    drawn = [torch.zeros(len(one), dtype=torch.float64) for one in sets]
    for subset in range(subsets):
        chosen = [permutation(len(one), seed, 2 * subset + which)[:size] for which, one in enumerate(sets)]
        value, *found = discrepancy(*(one[index].double() for one, index in zip(sets, chosen, strict=True)))
        values.append(value)
        for total, times, index, part in zip(influence, drawn, chosen, found, strict=True):
            total[index] += part
            times[index] += 1
    mean = float(torch.stack(values).mean())
    half = Z * sum(_variance(total, times) for total, times in zip(influence, drawn, strict=True)) ** 0.5
    return Interval(mean, mean - half, mean + half)


def _variance(influence: Tensor, times: Tensor) -> float:
    """Of a mean to which each example adds its influence as many times as it was drawn."""
    centred = influence - times * (influence.sum() / times.sum())
    return float(centred.square().sum() / times.sum() ** 2)
