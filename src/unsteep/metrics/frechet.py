"""The Frechet distance between two sets of features (Heusel et al. 2017, section A1; FID on Inception's features).

Each set is taken for a Gaussian of its mean and covariance; the distance is squared, in the units of features squared:

    F = |mean_a - mean_b|^2 + tr(A) + tr(B) - 2 tr (R A R')^(1/2),      B = R' R.

R A R' is symmetric, so the trace of its root is a sum over real eigenvalues; R drops the directions in which B has no
variance (dead channels, fewer examples than dimensions), where they would be rounding alone.

The error comes from the influence of every example on F (the infinitesimal jackknife; Efron 1982, chapter 6): moving an
example c away from its set's mean by its weight 1/n changes F by c.c + 2 c.(mean_a - mean_b) - c.T c, where T is the
optimal transport from its set's Gaussian to the other's. The variance of F is that of the influences over n, of both
sets. Resampling finds the same terms at a hundred times the cost, and adds the spread of resampled sets around the
given ones, which near F = 0 makes intervals wider still.

F is biased: n samples of a distribution are away from it by tr(B) (d + 5) / 4n where all variances are alike, and
by less where they are not (see `bias`). An interval is about the mean of F at the given counts, not at infinite ones;
that of `fid_infinity` is (Chong & Forsyth 2020).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from unsteep.core.noise import permutation
from unsteep.metrics.interval import Interval, Z

ROWS = 4096  # examples in float64 at a time
NOISE = 1e-15  # a share of the largest eigenvalue, times their number: below, an eigenvalue is rounding


@dataclass(frozen=True, eq=False)
class Moments:
    """What the distance knows of n examples: mean (d,) and unbiased covariance (d, d), float64."""

    n: int
    mean: Tensor
    covariance: Tensor

    @cached_property
    def principal(self) -> tuple[Tensor, Tensor]:
        """The k <= d variances (k,) that are not rounding, and their axes (d, k)."""
        variances, axes = torch.linalg.eigh(self.covariance)
        kept = variances > NOISE * len(variances) * variances[-1]
        return variances[kept], axes[:, kept]

    @property
    def root(self) -> Tensor:
        """R (k, d) with R' R = covariance."""
        variances, axes = self.principal
        return (axes * variances.sqrt()).T


def check_sets(x: Tensor, reference: Tensor, least: int = 2) -> None:
    """ValueError unless both are features (n, d) of one d, of at least `least` examples."""
    for name, one in (("samples", x), ("the reference", reference)):
        if one.ndim != 2 or len(one) < least:
            raise ValueError(
                f"features of {name}: expected (n, d) of at least {least} examples, got {tuple(one.shape)}"
            )
    if x.shape[1] != reference.shape[1]:
        raise ValueError(
            f"features of samples have {x.shape[1]} dimensions and those of the reference {reference.shape[1]}: "
            "compute both by one network"
        )


def moments(features: Tensor) -> Moments:
    """Of features (n, d), n >= 2, of any dtype: the mean first, then products about it, so that an offset costs no
    digits."""
    n, d = features.shape
    mean = torch.stack([rows.double().sum(0) for rows in features.split(ROWS)]).sum(0) / n
    covariance = torch.zeros(d, d, dtype=torch.float64)
    for rows in features.split(ROWS):
        centred = rows.double() - mean
        covariance.addmm_(centred.T, centred)
    return Moments(n, mean, covariance / (n - 1))


def frechet_distance(a: Moments, b: Moments) -> float:
    """F. Symmetric; work on b, the reference, is done once for all distances to it."""
    return _distance(a, b, torch.linalg.eigvalsh(_product(a, b)))


def _product(a: Moments, b: Moments) -> Tensor:
    return b.root @ a.covariance @ b.root.T


def _distance(a: Moments, b: Moments, eigenvalues: Tensor) -> float:
    apart = (a.mean - b.mean).square().sum() + a.covariance.trace() + b.covariance.trace()
    return max(0.0, float(apart - 2 * eigenvalues.clamp(min=0).sqrt().sum()))


def fid(x: Tensor, reference: Tensor) -> Interval:
    """F between features x (n, d) and reference (m, d), and its interval over examples of both.

    The interval holds the mean of F at these counts: in 93% to 98% of cases for 500 examples in 8 dimensions (95% where
    the sets are apart; too wide, by a third, where both are of one distribution, and it may begin below 0).
    """
    check_sets(x, reference)
    value, of_x, of_reference = _with_influence(x, moments(x), reference, moments(reference))
    half = Z * (_variance(of_x) + _variance(of_reference)) ** 0.5
    return Interval(value, value - half, value + half)


def _variance(influence: Tensor) -> float:
    return float(influence.var()) / len(influence)


def _with_influence(x: Tensor, a: Moments, reference: Tensor, b: Moments) -> tuple[float, Tensor, Tensor]:
    """F, and the influences of x (n,) and of the reference (m,), less their means."""
    eigenvalues, vectors = torch.linalg.eigh(_product(a, b))
    variances, axes = b.principal
    roots = eigenvalues.clamp(min=0).sqrt()
    most = eigenvalues[-1:]  # none where the reference does not vary at all
    back = torch.where(eigenvalues > NOISE * len(roots) * most, roots.rsqrt(), 0.0)
    # transport from A to B is R' V S^-1 V' R, and from B to A the pseudo-inverse of it
    of_x = _influence(x, a.mean, b.mean, b.root.T @ vectors * back)
    of_reference = _influence(reference, b.mean, a.mean, (axes * variances.rsqrt()) @ vectors * roots.sqrt())
    return _distance(a, b, eigenvalues), of_x, of_reference


def _influence(features: Tensor, mean: Tensor, other: Tensor, factor: Tensor) -> Tensor:
    found = []
    for rows in features.split(ROWS):
        centred = rows.double() - mean
        found.append((centred * (centred + 2 * (mean - other))).sum(1) - (centred @ factor).square().sum(1))
    influence = torch.cat(found)
    return influence - influence.mean()


def fid_infinity(x: Tensor, reference: Tensor, *, seed: int = 0) -> Interval:
    """F of infinitely many samples from the given reference set: the intercept of a line in 1/N through F of 15 random
    subsets of x, of sizes N from n/2 to n (Chong & Forsyth 2020, section 4). May fall below 0.

    They begin at a tenth of n; where n is not many times d, F is not linear so far out (at n = 1000 and d = 64, the
    intercept then lies 0.6 half-widths too low, from n/2 a tenth of that). Each F is taken less the mean influence of
    its subset, which is 0 on average and most of its noise. What the reference's own count adds stays. The interval
    joins the error of F at n with the standard error of the fit: it holds the limit in 91% to 99% of cases.
    """
    check_sets(x, reference)
    b = moments(reference)
    _, of_x, of_reference = _with_influence(x, moments(x), reference, b)
    sizes = torch.linspace(len(x) / 2, len(x), 15, dtype=torch.float64).round().long().tolist()
    subsets = [permutation(len(x), seed, draw)[:size] for draw, size in enumerate(sizes)]
    values = [frechet_distance(moments(x[subset]), b) - float(of_x[subset].mean()) for subset in subsets]
    y = torch.tensor(values, dtype=torch.float64)
    design = torch.stack([torch.ones_like(y), 1 / torch.tensor(sizes, dtype=torch.float64)], 1)
    line = torch.linalg.lstsq(design, y[:, None]).solution[:, 0]
    scatter = float((y - design @ line).square().sum()) / (len(y) - 2)
    error = scatter * float(torch.linalg.inv(design.T @ design)[0, 0])
    half = Z * (_variance(of_x) + _variance(of_reference) + error) ** 0.5
    value = float(line[0])
    return Interval(value, value - half, value + half)


def bias(reference: Moments, n: int) -> float:
    """What n samples from the reference's very Gaussian are on average away from it: F to second order in 1 / sqrt(n).

    With eigenvalues l of the covariance it is (1/n) (sum_i l_i + sum_ij (1 + [i = j]) l_i l_j / 2 (l_i + l_j)), because
    the mean of n has the covariance over n, and an entry ij of their covariance the variance (1 + [i = j]) l_i l_j / n.
    A reference of m examples adds as much with m for n.
    """
    variances, _ = reference.principal
    pairs = variances[:, None] * variances / (variances[:, None] + variances)
    return float(variances.sum() + (pairs.sum() + pairs.trace()) / 2) / n


def too_few(n: int, dimension: int, reference: Moments | None = None) -> str | None:
    """A warning where n samples are fewer than twice the features' dimensions, with the bias that this causes: in
    units of F where the reference is given, else as a share of the features' total variance if all are alike."""
    if n >= 2 * dimension:
        return None
    share = f"{(dimension + 5) / (4 * n):.0%} of the features' total variance"
    amount = share if reference is None else f"{bias(reference, n):.3g}"
    return (
        f"{n} samples in {dimension} dimensions of features: a Frechet distance is too large by about "
        f"{amount}; take at least {2 * dimension}, or compare by KID, which has no bias"
    )
