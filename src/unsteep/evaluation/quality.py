"""How near samples are to real data, with 95% intervals, where no large network of features is at hand.

    energy distance   2 E|X - Y| - E|X - X'| - E|Y - Y'|, 0 exactly where both have one distribution (Szekely & Rizzo
                      2013); |.| is the root mean square of the difference, in the model's units
    agreement         the share of class-conditional samples that a classifier of real data names as they were asked

Neither is an FID, nor comparable with one: the energy distance looks at pixels, the classifier at classes alone.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from unsteep.metrics.interval import Interval, wilson

RESAMPLED = 400  # draws of a bootstrap


def energy_distance(x: Tensor, y: Tensor, seed: int = 0) -> Interval:
    """The energy distance of the distributions that x (n, d) and y (m, d) were drawn from: n, m at least 2.

    The estimate is unbiased, hence a little below 0 at times where the distributions are one. The interval is of a
    bootstrap of both sets: counts of a resampling weigh the pairs, and no example is paired with itself.
    """
    cross, within_x, within_y = (_distances(a, b) for a, b in ((x, y), (x, x), (y, y)))
    draws = np.random.default_rng(seed)

    def at(u: np.ndarray, w: np.ndarray) -> np.ndarray:
        """The distance for weights u (k, n), w (k, m)."""
        between = ((u @ cross) * w).sum(1) / (u.sum(1) * w.sum(1))
        return 2 * between - _without_self(within_x, u) - _without_self(within_y, w)

    n, m = cross.shape
    whole = float(at(np.ones((1, n)), np.ones((1, m)))[0])
    counts = [draws.multinomial(size, np.full(size, 1 / size), RESAMPLED).astype(np.float64) for size in (n, m)]
    low, high = np.quantile(at(*counts), [0.025, 0.975])
    return Interval(whole, min(whole, float(low)), max(whole, float(high)))


def _distances(a: Tensor, b: Tensor) -> np.ndarray:
    return (torch.cdist(a.double(), b.double()) / math.sqrt(a.shape[1])).numpy()


def _without_self(within: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """The mean distance of a weighted pair of different examples."""
    pairs = weights.sum(1) ** 2 - (weights**2).sum(1)
    return ((weights @ within) * weights).sum(1) / np.maximum(pairs, 1)


class Classifier:
    """A support vector machine on real data x (n, ...), labels (n,): a fixed judge of class-conditional samples."""

    def __init__(self, x: Tensor, labels: Tensor) -> None:
        from sklearn.svm import SVC  # takes seconds to import

        self._machine = SVC(C=10).fit(x.flatten(1).numpy(), labels.numpy())

    def agreement(self, x: Tensor, labels: Tensor) -> Interval:
        """The share of x (n, ...) that it takes for the class in labels (n,)."""
        named = self._machine.predict(x.flatten(1).numpy())
        return wilson(int((named == labels.numpy()).sum()), len(labels))
