"""What is measured on the training data and kept with the model: tensors by name.

    range (2,)             the smallest and the largest value, in the data's own units
    label_counts (c,)      how many examples each class has
    mean (*shape), std (k + 1,), basis (d, k)            the Gaussian frame of the data (see `sampling.frame`)
    class_mean (c, *shape), class_std (c, k + 1)         the same for each class, in the same basis
    grid/<solver>/<steps>  times that tune-grid found; training on discards them
    x0_error (2, n)        log-SNRs and the mean squared error of the x0 estimates there, at the end of training

All but the first two are in the model's space. The directions are those of the variance within the classes.
"""

from __future__ import annotations

import torch
from torch import Tensor

from unsteep.core.noise import NoiseSource, permutation
from unsteep.data import DataSet
from unsteep.likelihood import measure_x0_error, probing_levels
from unsteep.model import Description, Model
from unsteep.training.conditions import Conditions

PROBED = 128  # examples that the error of the x0 estimates is measured on
MEASURED = 10_000  # examples that the frame is measured on, at most, and at most
NUMBERS = 40_000_000  # numbers in them
DIRECTIONS = 256  # of a frame, at most, and at most
ENTRIES = 4_000_000  # numbers in them
EXACT = 1024  # dimensions up to which the whole covariance is decomposed


def measure(data: DataSet, description: Description, flip: bool = False) -> dict[str, Tensor]:
    """The statistics of `data` for a model of this description. `flip`: it is trained on mirrored pictures, too."""
    statistics = {"range": torch.stack([data.x.min(), data.x.max()]).double()}
    chosen = permutation(len(data), seed=0, epoch=0)[: min(MEASURED, max(DIRECTIONS, NUMBERS // data.x[0].numel()))]
    x0 = description.space.encode(data.x[chosen])
    labels = None
    if description.names:
        assert data.labels is not None
        statistics["label_counts"] = torch.bincount(data.labels, minlength=len(description.names))
        labels = data.labels[chosen]
    if flip:
        x0, labels = torch.cat([x0, x0.flip(-1)]), None if labels is None else labels.repeat(2)
    return statistics | frame(x0, labels, len(description.names))


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
    chosen = data.select(permutation(len(data), seed=0, epoch=0)[:PROBED])
    x0 = model.space.encode(chosen.x).to(model.device)
    condition = Conditions(model.description, chosen)(torch.arange(len(chosen)))
    levels = probing_levels(model.denoiser.schedule)
    return measure_x0_error(model.denoise(condition, clip=True), x0, levels, NoiseSource(range(len(x0))))
