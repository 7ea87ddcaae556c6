"""Problems whose exact denoiser is known, and the exact end of the probability-flow equation on them.

With phi = atan2(sigma, alpha) and Y = x / sqrt(alpha^2 + sigma^2) the flow of every schedule is

    dY/dphi = v(Y, phi)

so the answer depends on a chain only by where it starts. It is integrated from t = 1 down to phi = 1e-5 by scipy's
DOP853. There v is linear in phi (its limit at clean data with a density is 0) and the rest is Y - phi v / 2.

Values have roughly the range and spread of pictures in [-1, 1].
"""

from __future__ import annotations

import copy
import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from unsteep.analytic import Mixture
from unsteep.core.condition import Condition
from unsteep.core.estimate import Estimate
from unsteep.core.level import NoiseLevel, preserving_level
from unsteep.core.noise import NoiseSource
from unsteep.core.schedules import Chain, LinearBetas
from unsteep.denoiser import Denoise
from unsteep.sampling import Frame
from unsteep.sampling.frame import frame_of

TASKS = """
The tasks: ten Gaussians of unequal width and weight in 2 and in 16 dimensions; 200 handwritten digits, each smoothed by
a kernel of std 0.15; six Gaussians in 32 dimensions whose variances span three decades; w is the scale of
classifier-free guidance to each sample's own class.
"""
ANSWER = {
    "tasks": TASKS,
    "answer": "found by a Runge-Kutta method of order 8 to ten digits.",
    "basins": "another component of the data than the exact answer",
}
TOLERANCE = 1e-10
CLEAN = 1e-5  # the angle at which the integration ends


class Task(Protocol):
    """What solvers are compared on: a denoiser, where to start, where exactly that leads."""

    @property
    def name(self) -> str: ...

    @property
    def says(self) -> str: ...

    @property
    def scale(self) -> float | None:
        """Of guidance, None for none."""
        ...

    @property
    def atoms(self) -> bool: ...  # whether the data take the values of a grid

    def denoise(self, n: int) -> Denoise:
        """The denoiser for a batch of n samples."""
        ...

    def start(self, n: int, seed: int) -> Tensor:
        """The noise that every solver starts from: (n, *shape)."""
        ...

    def exact(self, chain: Chain, n: int, seed: int, cache: Path) -> Tensor:
        """Where the exact flow takes `start`, kept in `cache`: (n, *shape)."""
        ...

    def basin(self, x0: Tensor) -> Tensor:
        """Which part of the data clean x0 (n, *shape) belongs to: int64 (n,)."""
        ...

    def frame(self, n: int) -> Frame:
        """The Gaussian that stands for the data."""
        ...

    def fingerprint(self, n: int, seed: int) -> str:
        """Changes with everything that the answers depend on."""
        ...


@dataclass(frozen=True)
class Problem:
    """A mixture to sample from; with a `scale`, guided to the label i mod (number of labels) for sample i."""

    name: str
    says: str
    mixture: Mixture
    scale: float | None = None
    atoms: bool = False

    def labels(self, n: int) -> Tensor:
        """The label of each of n samples, int64 (n,)."""
        assert self.mixture.labels is not None
        return torch.arange(n) % (int(self.mixture.labels.max()) + 1)

    def denoise(self, n: int) -> Denoise:
        """The exact denoiser, guided if it is to be."""
        if self.scale is None:
            return self.mixture
        return Guided(self.mixture, Condition(label=self.labels(n)), self.scale)

    def basin(self, x0: Tensor) -> Tensor:
        """The most probable component."""
        each = copy.copy(self.mixture)
        each.labels = torch.arange(len(each.means))  # a class of its own
        return each.label_log_prob(x0, LinearBetas()(0.0)).argmax(1)

    def start(self, n: int, seed: int) -> Tensor:
        """float64 (n, d)."""
        return NoiseSource(range(seed, seed + n)).normal(torch.empty(n, *self.mixture.shape).double(), draw=0)

    def frame(self, n: int) -> Frame:
        """From exact statistics, as `training.statistics` measures them."""
        mixture = self.mixture
        if self.scale is None:
            basis = torch.linalg.eigh(mixture.covariance()).eigenvectors
            frame = frame_of({"mean": mixture.mean(), "std": _deviations(mixture, basis), "basis": basis})
        else:
            labels = self.labels(n)
            classes = [_only(mixture, label) for label in range(int(labels.max()) + 1)]
            basis = torch.linalg.eigh(sum(one.covariance() for one in classes)).eigenvectors
            statistics = {
                "mean": mixture.mean(),
                "std": _deviations(mixture, basis),
                "basis": basis,
                "class_mean": torch.stack([one.mean() for one in classes]),
                "class_std": torch.stack([_deviations(one, basis) for one in classes]),
            }
            frame = frame_of(statistics, labels, self.scale)
        assert frame is not None
        return frame

    def fingerprint(self, n: int, seed: int) -> str:
        """Of the mixture, the guidance and the noise."""
        digest = hashlib.sha256(repr((self.scale, n, seed, TOLERANCE, CLEAN)).encode())
        mixture = self.mixture
        for tensor in (mixture.means, mixture.variances, mixture.basis, mixture.log_weights, mixture.labels):
            digest.update(b"-" if tensor is None else tensor.numpy().tobytes())
        return digest.hexdigest()[:16]

    def exact(self, chain: Chain, n: int, seed: int, cache: Path) -> Tensor:
        """By DOP853 (see the module)."""
        path = cache / f"exact-{self.name}-{type(chain).__name__}-{self.fingerprint(n, seed)}.npz"
        if not path.exists():
            first = chain(1.0)
            x0 = flow(self.denoise(n), self.start(n, seed), float(torch.atan2(first.sigma, first.alpha)))
            cache.mkdir(parents=True, exist_ok=True)
            np.savez(path, x0=x0.numpy())
        return torch.from_numpy(np.load(path)["x0"])


@dataclass(frozen=True)
class Guided:
    """Classifier-free guidance with one level for the whole batch, which is what makes a mixture fast."""

    mixture: Mixture
    condition: Condition
    scale: float

    def __call__(self, x_t: Tensor, level: NoiseLevel) -> Estimate:
        conditional = self.mixture(x_t, level, self.condition)
        if self.scale == 1:
            return conditional
        return conditional.replace_x0(torch.lerp(self.mixture(x_t, level).x0, conditional.x0, self.scale))


def _deviations(mixture: Mixture, basis: Tensor) -> Tensor:
    """Along each column of `basis`, which is whole, and 0 for all other directions: float64 (d + 1,)."""
    variances = ((mixture.covariance() @ basis) * basis).sum(0).clamp(min=0)
    return torch.cat([variances.sqrt(), variances.new_zeros(1)])


def _only(mixture: Mixture, label: int) -> Mixture:
    """The data of one class."""
    assert mixture.labels is not None
    one = copy.copy(mixture)
    one.log_weights = mixture.log_weights.masked_fill(mixture.labels != label, -torch.inf).log_softmax(0)
    return one


def flow(denoise: Denoise, x: Tensor, angle: float, tolerance: float = TOLERANCE) -> Tensor:
    """The exact flow of x (n, d), of unit variance, from `angle` to clean data."""
    from scipy.integrate import solve_ivp  # type: ignore[import-untyped]

    def v(phi: float, flat: np.ndarray) -> np.ndarray:
        at = torch.tensor(phi, dtype=torch.float64)
        level = preserving_level(at / angle, -2 * torch.log(torch.tan(at)))
        return denoise(torch.from_numpy(flat).reshape(x.shape), level).v.numpy().ravel()

    solved = solve_ivp(v, (angle, CLEAN), x.numpy().ravel(), method="DOP853", rtol=tolerance, atol=tolerance)
    end = solved.y[:, -1]
    return torch.from_numpy(end - CLEAN * v(CLEAN, end) / 2).reshape(x.shape)


def _uniform(seed: int, *shape: int) -> Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def _normal(seed: int, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def ten_in_the_plane() -> Mixture:
    """Ten round Gaussians of unequal width and weight in the plane, five classes."""
    means = 1.8 * _uniform(1, 10, 2) - 0.9
    return Mixture(means, (0.04 + 0.12 * _uniform(2, 10)) ** 2, 0.5 + _uniform(3, 10), torch.arange(10) % 5)


def ten_in_sixteen() -> Mixture:
    """Ten round Gaussians of unequal width and weight in 16 dimensions, five classes."""
    return Mixture(
        0.5 * _normal(4, 10, 16), (0.05 + 0.15 * _uniform(5, 10)) ** 2, 0.5 + _uniform(6, 10), torch.arange(10) % 5
    )


def digits(points: int = 200, width: float = 0.15) -> Mixture:
    """Handwritten digits of 8 x 8, `points` of them, each smoothed by a kernel of std `width`; ten classes."""
    from sklearn.datasets import load_digits

    values, labels = load_digits(return_X_y=True)
    means = torch.from_numpy(values[:points] / 8 - 1).double()
    return Mixture(means, torch.full((points,), width**2), labels=torch.from_numpy(labels[:points]).long())


def anisotropic(components: int = 6, d: int = 32) -> Mixture:
    """Six Gaussians in 32 dimensions whose variances span three decades, the axes of each turned a little; three
    classes."""
    spectrum = torch.logspace(0, -3, d, dtype=torch.float64)
    basis = torch.linalg.qr(_normal(7, d, d)).Q
    turns = 0.1 * _normal(8, components, d, d)
    axes = basis @ torch.linalg.matrix_exp(turns - turns.mT)
    covariances = 0.3 * axes @ torch.diag(spectrum) @ axes.mT
    means = 1.5 * (_normal(9, components, d) * spectrum.sqrt()) @ basis.T
    return Mixture(means, covariances, 0.5 + _uniform(10, components), torch.arange(components) % 3)


SCALES = (1.0, 1.5, 3.0)


def problems() -> dict[str, Problem]:
    """Every problem by name: four mixtures as they are, then guided at each of SCALES."""
    mixtures = {
        "plane-10": ("ten in 2-d", ten_in_the_plane()),
        "gauss16-10": ("ten in 16-d", ten_in_sixteen()),
        "digits": ("digits, 64-d", digits()),
        "anisotropic": ("anisotropic, 32-d", anisotropic()),
    }
    found = [Problem(name, says, mixture) for name, (says, mixture) in mixtures.items()]
    found += [
        Problem(f"{name}-cfg{scale:g}", f"{says}, w = {scale:g}", mixture, scale)
        for name, (says, mixture) in mixtures.items()
        for scale in SCALES
    ]
    return {problem.name: problem for problem in found}
