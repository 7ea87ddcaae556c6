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

import torch
from torch import Tensor

from unsteep.core.noise import NoiseSource, permutation
from unsteep.core.protocols import DataSet
from unsteep.data.reading import batches, some
from unsteep.hearing import condition_of
from unsteep.likelihood import measure_x0_error, probing_levels
from unsteep.model import Description, Model

PROBED = 128  # examples that the error of the x0 estimates is measured on
MEASURED = 10_000  # examples that the frame is measured on, at most, and at most
NUMBERS = 40_000_000  # numbers in them
DIRECTIONS = 256  # of a frame, at most, and at most
ENTRIES = 4_000_000  # numbers in them
EXACT = 1024  # dimensions up to which the whole covariance is decomposed


def measure(data: DataSet, description: Description, flip: bool = False) -> dict[str, Tensor]:
    """The statistics of `data` for a model of this description. `flip`: it is trained on mirrored pictures, too."""
    space, classes = description.space, len(description.names)
    statistics = {"range": range_of(data)}
    numbers = max(1, torch.Size(space.shape).numel())
    chosen = permutation(len(data), seed=0, epoch=0)[: min(MEASURED, max(DIRECTIONS, NUMBERS // numbers))]
    rows = data.rows(chosen)
    x0 = space.encode(rows.x, rows.valid)
    labels = None
    label = description.hearing("label")
    if label is not None:
        statistics["label_counts"] = torch.tensor(label.counts)
        labels = rows.label
    if rows.valid is not None:
        return statistics | frame_of_frames(x0, _whole(rows.valid, x0), labels, classes)
    if flip:
        x0, labels = torch.cat([x0, x0.flip(-1)]), None if labels is None else labels.repeat(2)
    return statistics | frame(x0, labels, classes)


def range_of(data: DataSet) -> Tensor:
    """The smallest and the largest real value, float64 (2,)."""
    ends = []
    for rows in batches(data):
        x = rows.x if rows.valid is None else rows.x[rows.valid]
        if x.numel():
            wide = x.to(torch.int32) if x.dtype == torch.uint16 else x
            ends.append(torch.stack([wide.min(), wide.max()]).double())
    both = torch.stack(ends)
    return torch.stack([both[:, 0].min(), both[:, 1].max()])


def frame(x0: Tensor, labels: Tensor | None = None, classes: int = 0) -> dict[str, Tensor]:
    """The Gaussian frame of x0 (n, *shape) in the model's space, and of each class where there are labels (n,)."""
    rows, shape = x0.flatten(1).double(), x0.shape[1:]
    mean = rows.mean(0)
    if labels is None:
        basis = directions(rows - mean)
        return {"mean": mean.reshape(shape), "std": deviations(rows - mean, basis), "basis": basis}
    members = [rows[labels == label] for label in range(classes)]
    means = torch.stack([of.mean(0) if len(of) else mean for of in members])
    basis = directions(rows - means[labels])
    overall = deviations(rows - mean, basis)
    stds = [deviations(of - m, basis) if len(of) > 1 else overall for of, m in zip(members, means, strict=True)]
    return {
        "mean": mean.reshape(shape),
        "std": overall,
        "basis": basis,
        "class_mean": means.reshape(classes, *shape),
        "class_std": torch.stack(stds),
    }


def frame_of_frames(x0: Tensor, valid: Tensor, labels: Tensor | None, classes: int) -> dict[str, Tensor]:
    """The frame of sequences x0 (n, frames, features), of what is `valid` (n, frames), and of each class."""

    def of(which: Tensor) -> tuple[Tensor, Tensor]:
        real = x0[which].double()[valid[which]]
        mean = real.mean(0)
        return mean[None], (real - mean).square().mean().sqrt()[None]

    everyone = torch.ones(len(x0), dtype=torch.bool)
    mean, std = of(everyone)
    if labels is None:
        return {"mean": mean, "std": std}
    each = [of(labels == label) if bool((labels == label).any()) else (mean, std) for label in range(classes)]
    class_mean, class_std = (torch.stack(parts) for parts in zip(*each, strict=True))
    return {"mean": mean, "std": std, "class_mean": class_mean, "class_std": class_std}


def _whole(valid: Tensor, x0: Tensor) -> Tensor:
    """A mask for all frames of x0: those that were padded on are none."""
    missing = x0.shape[1] - valid.shape[1]
    return valid if missing <= 0 else torch.cat([valid, valid.new_zeros(len(valid), missing)], 1)


def directions(centred: Tensor) -> Tensor:
    """The directions of most variance of `centred` (n, d), as columns (d, k), float32: by the covariance, or by
    subspace iteration where that is too large."""
    n, d = centred.shape
    k = max(1, min(DIRECTIONS, ENTRIES // d, d))
    if d <= EXACT:
        return torch.linalg.eigh(centred.T @ centred / n)[1][:, -k:].float()
    centred = centred.float()
    q = NoiseSource([0]).normal(torch.empty(1, d, min(k + 16, d)), draw=0)[0]
    for _ in range(6):
        q, _ = torch.linalg.qr(centred.T @ (centred @ q))
    projected = centred @ q
    return q @ torch.linalg.eigh(projected.T @ projected)[1][:, -k:]


def deviations(centred: Tensor, basis: Tensor) -> Tensor:
    """The standard deviation of `centred` (n, d) along each column of `basis` and, last, along all other directions:
    (k + 1,) float64."""
    d, k = basis.shape
    along = ((centred @ basis.to(centred)) ** 2).mean(0)
    rest = ((centred**2).mean(0).sum() - along.sum()).clamp(min=0) / max(1, d - k)
    return torch.cat([along, rest[None]]).sqrt()


def probe(model: Model, data: DataSet) -> Tensor:
    """The error of the model's x0 estimates by noise level, on random training examples (see `measure_x0_error`)."""
    rows = some(data, permutation(len(data), seed=0, epoch=0)[:PROBED])
    rows = rows.rows(torch.arange(len(rows)))
    condition = condition_of(model.description.hears, rows)
    x0 = model.encoded(rows.x, condition)
    levels = probing_levels(model.denoiser.schedule)
    return measure_x0_error(model.denoise(condition, clip=True), x0, levels, NoiseSource(range(len(x0))))
