"""What a curve of many noisy points looks like on the whole, and on which scale."""

import numpy as np
from numpy.typing import ArrayLike


def smoothed(values: ArrayLike, width: float) -> np.ndarray:
    """A running mean with Gaussian weights of standard deviation `width`, in points.

    Centred, so it does not lag; at the ends, and beside values that are not finite, the weights that remain are
    normalised to one. values: (n,). Returns float64 (n,).
    """
    values = np.asarray(values, dtype=np.float64)
    reach = min(int(4 * width) + 1, len(values))
    weights = np.exp(-0.5 * (np.arange(-reach, reach + 1) / width) ** 2)
    there = np.isfinite(values)

    def mean_of(v: np.ndarray) -> np.ndarray:
        return np.convolve(v, weights)[reach : reach + len(v)]

    with np.errstate(invalid="ignore"):
        return mean_of(np.where(there, values, 0.0)) / mean_of(there.astype(np.float64))


def spans_decades(values: np.ndarray) -> bool:
    """Whether positive values range over more than a factor of 20, stray ones aside: a logarithmic axis is due."""
    finite = values[np.isfinite(values)]
    positive = finite[finite > 0]
    if positive.size == 0 or finite.min() < 0:
        return False
    low, high = np.quantile(positive, [0.01, 0.99])
    return bool(high > 20 * low)
