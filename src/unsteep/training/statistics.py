"""What is measured on the training data and kept with the model: tensors by name.

    range (2,)             the smallest and the largest value, in the data's own units
    label_counts (c,)      how many examples each class has
    mean (*shape), std (k + 1,), basis (d, k)            the Gaussian frame of the data (see `sampling.frame`)
    class_mean (c, *shape), class_std (c, k + 1)         the same for each class, in the same basis
    grid/<solver>/<steps>  times that tune-grid found; training on discards them
    x0_error (2, n)        log-SNRs and the mean squared error of the x0 estimates there, at the end of training

All but the first two are in the model's space. The directions are those of the variance within the classes. Sequences
of different lengths have no directions that go through all their frames: their frame is a mean (1, features) and one
deviation (1,), over what is real, without a basis.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property, reduce

import torch
from torch import Tensor

from unsteep.core.noise import NoiseSource, permutation
from unsteep.core.protocols import DataSet
from unsteep.data import Examples
from unsteep.data.reading import batches, in_memory, some
from unsteep.hearing import condition_of
from unsteep.likelihood import measure_x0_error, probing_levels
from unsteep.model import Description, Model

PROBED = 128  # examples that the error of the x0 estimates is measured on
MEASURED = 10_000  # examples that the frame is measured on, at most, and at most
NUMBERS = 40_000_000  # numbers in them
DIRECTIONS = 256  # of a frame, at most, and at most
ENTRIES = 4_000_000  # numbers in them
AT_ONCE = 500_000  # numbers in the model's space that are held at once while measuring
EXACT = 1024  # dimensions up to which the whole covariance is decomposed
VARYING = 1e-9  # of the largest variance: less is rounding


def measure(data: DataSet, description: Description, flip: bool = False) -> dict[str, Tensor]:
    """The statistics of `data` for a model of this description. `flip`: it is trained on mirrored pictures, too."""
    space, classes = description.space, len(description.names)
    statistics = {"range": range_of(data)}
    numbers = max(1, torch.Size(space.shape).numel())
    chosen = permutation(len(data), seed=0, epoch=0)[: min(MEASURED, max(DIRECTIONS, NUMBERS // numbers))]
    walk = (
        Walked(data, chosen)
        if isinstance(data, Examples)
        else Walked(in_memory(data, chosen), torch.arange(len(chosen)))
    )
    label = description.hearing("label")
    if label is not None:
        statistics["label_counts"] = torch.tensor(label.counts)
    walk = replace(walk, labelled=label is not None, encode=space.encode, flip=flip and walk.data.valid is None)
    return statistics | (walk.frame(classes) if walk.data.valid is None else walk.frame_of_frames(classes))


def range_of(data: DataSet) -> Tensor:
    """The smallest and the largest real value, float64 (2,)."""
    known = getattr(data, "extremes", None)
    if isinstance(known, tuple):
        return torch.tensor(known, dtype=torch.float64)
    ends = []
    for rows in batches(data):
        x = rows.x if rows.known is None else rows.x[rows.known]
        if x.numel():
            wide = x.to(torch.int32) if x.dtype == torch.uint16 else x
            ends.append(torch.stack([wide.min(), wide.max()]).double())
    both = torch.stack(ends)
    return torch.stack([both[:, 0].min(), both[:, 1].max()])


def frame(x0: Tensor, labels: Tensor | None = None, classes: int = 0) -> dict[str, Tensor]:
    """The Gaussian frame of x0 (n, *shape) in the model's space, and of each class where there are labels (n,)."""
    return Walked(Examples(x0, labels), torch.arange(len(x0)), labels is not None).frame(classes)


@dataclass(frozen=True, eq=False)
class Walked:
    """The examples at `index`, walked over in the model's space, a few at a time: all of them, in float64 and centred,
    would be many times what they are. `labelled`: by class, too. `flip`: each once more, mirrored."""

    data: Examples
    index: Tensor
    labelled: bool = False
    encode: Callable[[Tensor, Tensor | None], Tensor] = lambda x, valid: x
    flip: bool = False

    def __len__(self) -> int:
        return len(self.index) * (1 + self.flip)

    def of(self, label: int) -> Walked:
        """Those of one class."""
        assert self.data.labels is not None
        return replace(self, index=self.index[self.data.labels[self.index] == label], labelled=False)

    def encoded(self, at: Tensor) -> Tensor:
        """Examples in the model's space."""
        return self.encode(self.data.x[at], None if self.data.known is None else self.data.rows(at).known)

    def pieces(self) -> Iterator[tuple[Tensor, Tensor]]:
        """(x (b, *shape), positions in the data (b,)) of all, in order."""
        n = len(self.index)
        for places in torch.arange(len(self)).split(max(1, AT_ONCE // max(1, self.shape.numel()))):
            at, mirror = self.index[places % max(1, n)], places >= n
            x = self.encoded(at)
            yield (torch.cat([x[~mirror], x[mirror].flip(-1)]) if bool(mirror.any()) else x), at

    @cached_property
    def shape(self) -> torch.Size:
        """Of one example in the model's space."""
        return self.encoded(torch.tensor([0])).shape[1:]

    def less(self, means: Tensor) -> Iterator[Tensor]:
        """Rows (b, d) float64 less their mean: `means` (d,), or (classes, d), each row's that of its class."""
        for x, at in self.pieces():
            rows = x.flatten(1).double()
            yield rows.sub_(means if means.ndim == 1 else means[self._labels(at)])

    def _labels(self, at: Tensor) -> Tensor:
        assert self.data.labels is not None
        return self.data.labels[at]

    def mean(self) -> Tensor:
        """Of the rows, float64 (d,)."""
        return _sum(x.flatten(1).double().sum(0) for x, _ in self.pieces()) / len(self)

    def frame(self, classes: int = 0) -> dict[str, Tensor]:
        """The Gaussian frame, and that of each class where there are labels."""
        mean, shape, n = self.mean(), self.shape, len(self)
        if not self.labelled:
            basis = directions(lambda: self.less(mean), n, len(mean))
            return {"mean": mean.reshape(shape), "std": _deviations(self.less(mean), n, basis), "basis": basis}
        members = [self.of(label) for label in range(classes)]
        means = torch.stack([of.mean() if len(of) else mean for of in members])
        basis = directions(lambda: self.less(means), n, len(mean))
        overall = _deviations(self.less(mean), n, basis)
        stds = [
            _deviations(of.less(m), len(of), basis) if len(of) > 1 else overall
            for of, m in zip(members, means, strict=True)
        ]
        return {
            "mean": mean.reshape(shape),
            "std": overall,
            "basis": basis,
            "class_mean": means.reshape(classes, *shape),
            "class_std": torch.stack(stds),
        }

    def frame_of_frames(self, classes: int = 0) -> dict[str, Tensor]:
        """The frame of sequences (n, frames, features), of what is valid, and of each class."""

        def of(walk: Walked) -> tuple[Tensor, Tensor]:
            counts = _sum(weight.sum(0) for _, weight in walk._real())
            mean = _sum((weight * real).sum(0) for real, weight in walk._real()) / counts.clamp(min=1e-12)
            square = _sum((weight * (real - mean).square()).sum() for real, weight in walk._real()) / counts.sum()
            return mean[None], square.sqrt()[None]

        mean, std = of(self)
        if not self.labelled:
            return {"mean": mean, "std": std}
        members = [self.of(label) for label in range(classes)]
        each = [of(walk) if len(walk) else (mean, std) for walk in members]
        class_mean, class_std = (torch.stack(parts) for parts in zip(*each, strict=True))
        return {"mean": mean, "std": std, "class_mean": class_mean, "class_std": class_std}

    def _real(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Frames that are real (k, features), float64, and how much their numbers count; those that `encode` padded on
        are none."""
        assert self.data.valid is not None
        for x, at in self.pieces():
            valid = self.data.valid[at][:, : x.shape[1]]
            real = x[:, : valid.shape[1]][valid].double()
            yield real, torch.ones_like(real) if self.data.weight is None else self.data.weight[at][valid].double()


def _sum(parts: Iterable[Tensor]) -> Tensor:
    """The sum of at least one, in the place of the first."""
    return reduce(Tensor.add_, parts)


def directions(centred: Callable[[], Iterable[Tensor]], n: int, d: int) -> Tensor:
    """The directions of most variance of n centred float64 rows, which `centred()` walks over in parts (b, d), as
    columns (d, k), float32: by the covariance, or by subspace iteration where that is too large. Those in which the
    rows do not vary are left out: which they were would be up to the last bits of a sum, thus to the size of the parts.
    """
    k = max(1, min(DIRECTIONS, ENTRIES // d, d))
    if d <= EXACT:
        basis, product = torch.eye(d, dtype=torch.float64), _sum(x.T @ x for x in centred())
    else:
        basis = NoiseSource([0]).normal(torch.empty(1, d, min(k + 16, d), dtype=torch.float64), draw=0)[0]
        for _ in range(6):
            basis = _orthonormal(_covariance_times(basis, centred()))
        product = _sum(y.T @ y for y in (x @ basis for x in centred()))
    variances, turned = torch.linalg.eigh(product / n)
    real = max(1, int((variances[-k:] > VARYING * variances[-1]).sum()))
    return (basis @ turned[:, -real:]).float()


def _covariance_times(basis: Tensor, centred: Iterable[Tensor]) -> Tensor:
    """n times the covariance of the rows, times `basis` (d, k): (d, k), stored by columns."""
    total = basis.new_zeros(basis.shape[::-1]).T
    for x in centred:
        total.addmm_(x.T, x @ basis)
    return total


def _orthonormal(columns: Tensor) -> Tensor:
    """The Q of the QR decomposition of `columns` (d, k), which is overwritten: `linalg.qr` would hold three of them."""
    torch.geqrf(columns, out=(columns, tau := columns.new_empty(columns.shape[1])))
    return torch.linalg.householder_product(columns, tau, out=columns)


def deviations(centred: Tensor, basis: Tensor) -> Tensor:
    """The standard deviation of `centred` (n, d) along each column of `basis` and, last, along all other directions:
    (k + 1,) float64."""
    return _deviations([centred], len(centred), basis)


def _deviations(centred: Iterable[Tensor], n: int, basis: Tensor) -> Tensor:
    """`deviations` of n rows in parts."""
    d, k = basis.shape
    along, square = None, None
    for x in centred:
        basis = basis.to(x)
        parts = ((x @ basis) ** 2).sum(0), (x**2).sum(0)
        along, square = parts if along is None or square is None else (along + parts[0], square + parts[1])
    assert along is not None
    assert square is not None
    rest = ((square / n).sum() - (along / n).sum()).clamp(min=0) / max(1, d - k)
    return torch.cat([along / n, rest[None]]).sqrt()


def probe(model: Model, data: DataSet) -> Tensor:
    """The error of the model's x0 estimates by noise level, on random training examples (see `measure_x0_error`)."""
    rows = some(data, permutation(len(data), seed=0, epoch=0)[:PROBED])
    rows = rows.rows(torch.arange(len(rows)))
    condition = condition_of(model.description.hears, rows)
    x0 = model.encoded(rows.x, condition)
    levels = probing_levels(model.denoiser.schedule)
    return measure_x0_error(model.denoise(condition, clip=True), x0, levels, NoiseSource(range(len(x0))))
