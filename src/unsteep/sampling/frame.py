"""A Gaussian that stands for the data: its mean, its principal directions, and the standard deviation along each.

    x0 ~ mean + V diag(std) z + std_rest (I - V V^T) z',    z, z' ~ N(0, I)

The columns of V are the k directions of most variance; all others share one standard deviation. Along the flow of this
Gaussian, V^T (x_t - alpha mean) / sqrt(alpha^2 std^2 + sigma^2) stays what it is, and so does the rest.

Coordinates in the frame are (b, k + d): the k coefficients, and what is left of x when they are taken out.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Self

import torch
from torch import Tensor

from unsteep.core.level import like
from unsteep.core.precision import arithmetic

FLOOR = 3e-3  # constant pixels have no spread, and 0 / 0 at sigma = 0


@dataclass(frozen=True)
class Frame:
    """`mean`: of a shape that broadcasts with x (b, *shape). `std` (k + 1,), the last for all other directions; or
    (b, k + 1), one row for each sample. `basis` (d, k), orthonormal columns over the flattened data. Without one, `std`
    (m,) or (b, m) is that of each of the m numbers of the data's last dimension, (1,) of all: nothing is mixed, and
    what pads a sequence stays where it is.

    `spread`: the root mean square of std over all directions and samples, in whose units a solver lays its grid.
    `reach`: that of all that the network was trained on, which is wider than that of one class. Both are the frame's,
    not the batch's, so that a sample does not depend on the others of its batch.
    """

    mean: Tensor
    std: Tensor
    spread: float
    reach: float
    basis: Tensor | None = None

    @classmethod
    def of(cls, mean: Tensor, std: Tensor, basis: Tensor | None = None) -> Self:
        """The frame of one Gaussian: `std` (k + 1,)."""
        spread = root_mean_square(std, basis)
        return cls(mean, std, spread, spread, basis)

    @property
    def floored(self) -> Tensor:
        """std, float64, at least FLOOR."""
        return self.std.double().clamp(min=FLOOR)

    @cached_property
    def rows(self) -> tuple[Tensor, Tensor | None]:
        """`floored` without repetition, (r, k + 1), and which of its rows each sample has, int64 (b,); where all share
        one, (k + 1,) and None."""
        if self.std.ndim == 1:
            return self.floored, None
        rows, which = self.floored.unique(dim=0, return_inverse=True)
        return (rows[0], None) if len(rows) == 1 else (rows, which)

    @arithmetic()
    def project(self, x: Tensor, alpha: Tensor | None = None) -> Tensor:
        """x - alpha mean in the frame: (b, k + d) for x (b, *shape). `alpha`: 1 where none is given."""
        centred = (x - self._mean(x, alpha)).flatten(1)
        if self.basis is None:
            return centred
        basis = self.basis.to(x)
        coefficients = centred @ basis
        # Where k = d the rest is what rounding of the basis leaves: without it, restoring would not undo this.
        return torch.cat([coefficients, torch.addmm(centred, coefficients, basis.T, alpha=-1)], 1)

    @arithmetic()
    def restore(self, coordinates: Tensor, x: Tensor, alpha: Tensor | None = None) -> Tensor:
        """The inverse of `project`, in the shape of x."""
        if self.basis is not None:
            k = self.basis.shape[1]
            coordinates = torch.addmm(coordinates[:, k:], coordinates[:, :k], self.basis.to(x).T)
        return self._mean(x, alpha) + coordinates.reshape(x.shape)

    def _mean(self, x: Tensor, alpha: Tensor | None) -> Tensor:
        mean = self.mean.to(x)
        return mean if alpha is None else like(alpha, x) * mean

    def wide(self, factor: Tensor, x: Tensor) -> Tensor:
        """A factor for each direction, (..., k + 1), for the coordinates of x: (..., k + d), in its dtype."""
        if self.basis is None:
            times = 1 if factor.shape[-1] == 1 else x[0].numel() // factor.shape[-1]
            return factor.repeat(*(1,) * (factor.ndim - 1), times).to(x)
        d, k = self.basis.shape
        return torch.cat([factor[..., :k], factor[..., k:].expand(*factor.shape[:-1], d)], -1).to(x)

    def each(self, factor: Tensor, x: Tensor) -> Tensor:
        """The same for a factor of the `rows`: (..., k + d) where all samples share one, or (..., b, k + d)."""
        wide, which = self.wide(factor, x), self.rows[1]
        return wide if which is None else wide[..., which.to(x.device), :]


@arithmetic()
def root_mean_square(std: Tensor, basis: Tensor | None, shares: Tensor | None = None) -> float:
    """Of standard deviations (k + 1,) or (b, k + 1) over all the directions that they stand for, and over the rows by
    their `shares` (b,), default alike."""
    squared = (std.double().clamp(min=FLOOR) ** 2).reshape(-1, std.shape[-1])
    squared = squared.mean(0) if shares is None else (shares / shares.sum()) @ squared
    if basis is None:
        return float(squared.mean().sqrt())
    d, k = basis.shape
    return float(((squared[:k].sum() + (d - k) * squared[-1]) / d).sqrt())


def frame_of(statistics: Mapping[str, Tensor], labels: Tensor | None = None, guidance: float = 1.0) -> Frame | None:
    """The frame of what is sampled, from a model's statistics (see `training.statistics`); None if it has none.

    With `labels` (b,), each sample's class: its mean, beyond it by the guidance scale, m + scale (m_class - m), and its
    standard deviations; of no class, -1, those of all. The reach is that of the guided classes together.
    """
    if "mean" not in statistics:
        return None
    mean, std, basis = statistics["mean"], statistics["std"], statistics.get("basis")
    if labels is None or guidance == 0 or "class_mean" not in statistics:
        return Frame.of(mean, std, basis)
    labels = labels.cpu()
    counts = statistics.get("label_counts")
    within = root_mean_square(statistics["class_std"], basis, None if counts is None else counts.double())
    between = max(0.0, root_mean_square(std, basis) ** 2 - within**2)
    reach = math.sqrt(within**2 + max(1.0, guidance) ** 2 * between)
    means, stds = (torch.cat([statistics[f"class_{name}"], statistics[name][None]]) for name in ("mean", "std"))
    return Frame(mean + guidance * (means[labels] - mean), stds[labels], within, reach, basis)


# Pictures of which nothing is known.
SCALAR = Frame.of(torch.zeros(()), torch.tensor([0.5], dtype=torch.float64))
