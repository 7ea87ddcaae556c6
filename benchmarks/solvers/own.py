"""Problems that the default solver's constants are settled on, beside those of `problems`, which judge it.

They differ in spread (0.1 to 3), dimension (2 to 128) and kind: curves, clusters, photographs, tables of measurements,
heavy tails, a rare mode; with a density, and with values of a grid, as pixels have. One half is for choosing, the
other, held back, must agree before a constant changes.
"""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor

from solvers.problems import Problem, _normal, _uniform
from unsteep.analytic import Mixture

Half = Literal["chosen", "held"]


def _curve(points: Tensor, width: float) -> Mixture:
    return Mixture(points.double(), torch.full((len(points),), width**2))


def ring() -> Mixture:
    """24 narrow Gaussians on a circle."""
    angle = 2 * math.pi * torch.arange(24) / 24
    return _curve(1.2 * torch.stack([angle.cos(), angle.sin()], 1), 0.08)


def spiral() -> Mixture:
    """40 Gaussians along two turns of a spiral."""
    turn = torch.linspace(0.15, 1, 40)
    angle = 4 * math.pi * turn
    return _curve(1.3 * turn[:, None] * torch.stack([angle.cos(), angle.sin()], 1), 0.06)


def wide() -> Mixture:
    """Three wide Gaussians far from the origin's scale."""
    return Mixture(3 * _normal(21, 3, 3), (0.5 + _uniform(22, 3)) ** 2, 0.5 + _uniform(23, 3))


def narrow() -> Mixture:
    """Six small clusters: all data within 0.1."""
    return Mixture(0.08 * _normal(24, 6, 8), (0.01 + 0.03 * _uniform(25, 6)) ** 2, 0.5 + _uniform(26, 6))


def low_rank() -> Mixture:
    """Twelve Gaussians whose means lie in four of 48 dimensions."""
    plane = torch.linalg.qr(_normal(27, 48, 4)).Q
    return Mixture(1.5 * _normal(28, 12, 4) @ plane.T, (0.05 + 0.1 * _uniform(29, 12)) ** 2, 0.5 + _uniform(30, 12))


def many() -> Mixture:
    """Twenty Gaussians in 128 dimensions."""
    return Mixture(0.25 * _normal(31, 20, 128), (0.1 + 0.2 * _uniform(32, 20)) ** 2, 0.5 + _uniform(33, 20))


def heavy() -> Mixture:
    """Eight Gaussians about one place, each twice as wide as the one before."""
    return Mixture(0.1 * _normal(34, 8, 6), (0.02 * 2.0 ** torch.arange(8)) ** 2)


def rare() -> Mixture:
    """Four clusters, and a fifth far away with two percent of the data."""
    means = torch.cat([0.5 * _normal(35, 4, 4), torch.full((1, 4), 2.0)])
    return Mixture(means, torch.full((5,), 0.15**2), torch.tensor([1.0, 1, 1, 1, 0.08]))


def photographs(name: str, size: int, colour: bool, points: int, width: float) -> Mixture:
    """Squares of `size` pixels from a photograph of scikit-learn's, each smoothed by a kernel of std `width`; 0 leaves
    them points with the values of pixels."""
    from sklearn.datasets import load_sample_image

    picture = torch.from_numpy(load_sample_image(name).copy()).double()
    picture = picture if colour else picture.mean(2, keepdim=True).round()
    corners = _uniform(36, points, 2) * torch.tensor([picture.shape[0] - 4 * size, picture.shape[1] - 4 * size])
    squares = torch.stack([picture[y : y + 4 * size : 4, x : x + 4 * size : 4] for y, x in corners.long().tolist()])
    return Mixture(squares.flatten(1) / 127.5 - 1, torch.full((points,), width**2))


def table(name: str, points: int, width: float) -> Mixture:
    """Rows of a table of measurements, standardized, each smoothed."""
    from sklearn import datasets

    rows = torch.from_numpy(getattr(datasets, f"load_{name}")(return_X_y=True)[0]).double()[:points]
    return Mixture((rows - rows.mean(0)) / rows.std(0), torch.full((len(rows),), width**2))


def digits_as_they_are() -> Mixture:
    """200 handwritten digits, others than those of `problems`, as points."""
    from sklearn.datasets import load_digits

    return Mixture.points(torch.from_numpy(load_digits(return_X_y=True)[0][400:600] / 8 - 1).double())


def patterns() -> Mixture:
    """32 patterns of 16 pixels, black or white."""
    return Mixture.points(2.0 * (_uniform(37, 32, 16) < 0.5).double() - 1)


def rectangles(size: int = 6) -> Mixture:
    """Every white rectangle on black, 6 x 6 pixels."""
    shapes = []
    for top in range(size):
        for left in range(size):
            for bottom in range(top + 1, size + 1):
                for right in range(left + 1, size + 1):
                    picture = -torch.ones(size, size, dtype=torch.float64)
                    picture[top:bottom, left:right] = 1
                    shapes.append(picture.flatten())
    return Mixture.points(torch.stack(shapes))


def problems(half: Half) -> dict[str, Problem]:
    """Those of one half, by name; of each with a density a second one, "as pixels", that is sampled as pictures are."""
    dense: dict[Half, dict[str, Mixture]] = {
        "chosen": {
            "ring": ring(),
            "wide": wide(),
            "china-64": photographs("china.jpg", 8, False, 150, 0.1),
            "wine": table("wine", 178, 0.4),
            "low-rank": low_rank(),
            "heavy": heavy(),
        },
        "held": {
            "spiral": spiral(),
            "narrow": narrow(),
            "flower-48": photographs("flower.jpg", 4, True, 150, 0.08),
            "cancer": table("breast_cancer", 150, 0.4),
            "rare": rare(),
            "many": many(),
        },
    }
    points: dict[Half, dict[str, Mixture]] = {
        "chosen": {"digit-points": digits_as_they_are(), "patterns": patterns()},
        "held": {"flower-points": photographs("flower.jpg", 4, True, 150, 0.0), "rectangles": rectangles()},
    }
    found = [Problem(name, name, mixture) for name, mixture in dense[half].items()]
    found += [Problem(f"{one.name}-pixels", f"{one.name}, as pixels", one.mixture, atoms=True) for one in found]
    found += [Problem(name, name, mixture, atoms=True) for name, mixture in points[half].items()]
    return {problem.name: problem for problem in found}
