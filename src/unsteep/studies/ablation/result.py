"""What a trained cell of an ablation is measured by, on real data that are the same for every cell.

Bits per dimension of the bound, with the variance the cell was trained for; and samples drawn by every step of its own
chain with that variance, held against unseen data (see `quality`). All cells see the same images, noise and seeds, so
their differences are known better than each interval alone says.
"""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch

from unsteep.core.noise import permutation
from unsteep.core.schedules import steps_of
from unsteep.data import Examples
from unsteep.data.reading import in_memory
from unsteep.evaluation.quality import Classifier, energy_distance
from unsteep.metrics.interval import Interval
from unsteep.model import Model
from unsteep.pages.files import replacing, write_json
from unsteep.sampling import Ancestral
from unsteep.training.run import Run

HELD, LEARNED_FROM = 2000, 5000  # real examples that samples are held against, and that the classifier learns from


@dataclass(frozen=True, kw_only=True)
class Extent:
    """How closely a cell is measured: `samples` drawn, `images` coded by the bound, with `terms` of it each."""

    samples: int = 500
    images: int = 128
    terms: int = 100

    def __post_init__(self) -> None:
        for name, least in (("samples", 2), ("images", 2), ("terms", 1)):
            if getattr(self, name) < least:
                raise ValueError(f"{name}: expected at least {least}, got {getattr(self, name)}")


@dataclass(frozen=True, kw_only=True)
class Finding:
    """What became of a cell. `diverged`: where, or empty. `seconds` of training; None if it was done in parts."""

    measure: Extent
    diverged: str = ""
    bits: Interval | None = None
    energy: Interval | None = None
    agreement: Interval | None = None
    seconds: float | None = None

    def words(self) -> str:
        """In one line."""
        if self.bits is None or self.energy is None:
            return f"diverged {self.diverged}"
        half = self.bits.high - self.bits.value
        line = f"{self.bits.value:8.4f} ± {half:.4f} bits/dim   energy distance {self.energy.value:.4f}"
        return line if self.agreement is None else f"{line}   {self.agreement.value:.1%} labelled as asked"

    def write(self, folder: Path) -> None:
        """Into the folder of its cell."""
        write_json(asdict(self), folder / "result.json")

    @staticmethod
    def read(folder: Path) -> Finding | None:
        """The result of the cell in a folder, if it has one."""
        if not (folder / "result.json").exists():
            return None
        table = json.loads((folder / "result.json").read_text(encoding="utf-8"))
        numbers = {k: None if table[k] is None else Interval(**table[k]) for k in ("bits", "energy", "agreement")}
        return Finding(**{**table, **numbers, "measure": Extent(**table["measure"])})


class Judge:
    """Real data that every cell is held against: unseen ones, if the data of the run hold any out.

    `reference`: the energy distance that as many training examples have, and the share of unseen examples that the
    classifier names as they are labelled: what a perfect model would get.
    """

    def __init__(self, run: Run, data: Examples, measure: Extent) -> None:
        self.space, self.measure = run.describe(data).space, measure
        self.unseen = getattr(run.data, "holdout", 1.0) > 0
        self.held = some(in_memory(run.data.read("test")) if self.unseen else data, HELD)
        if len(self.held) < 2:
            raise ValueError("data: expected at least 2 unseen examples, to measure on, got 1; raise data.holdout")
        self.classifier = None
        if run.condition.label:
            seen = some(data, LEARNED_FROM)
            assert seen.labels is not None
            self.classifier = Classifier(self.space.encode(seen.x), seen.labels)
        self.reference: tuple[Interval | None, Interval | None] = None, None
        if self.unseen:  # of data held against themselves nothing can be said
            self.reference = self.energy(some(data, measure.samples)), self.agreement(self.held)

    def energy(self, given: Examples) -> Interval:
        """The energy distance of examples, in the data's own units, from the real ones."""
        x, y = (self.space.encode(each.x).flatten(1) for each in (given, self.held))
        return energy_distance(x, y)

    def agreement(self, given: Examples) -> Interval | None:
        """The share of examples that look like what they are labelled; None where classes play no part."""
        if self.classifier is None or given.labels is None:
            return None
        return self.classifier.agreement(self.space.encode(given.x), given.labels)

    def measured(self, model: Model, seed: int, folder: Path) -> Finding:
        """The result of a trained cell. Leaves its samples in `folder`, as samples.npz."""
        learned = bool(model.denoiser.learn_variance)
        variance: Literal["beta", "learned"] = "learned" if learned else "beta"
        coded = some(self.held, self.measure.images)
        labels = coded.labels if model.names else None
        terms = self.measure.terms
        bits = model.likelihood(coded.x, labels, variance=variance, terms=terms, seed=seed, progress=True)
        bits_per_dim = Interval.of(bits.bits_per_dim())
        if not math.isfinite(bits_per_dim.value + bits_per_dim.half):
            return Finding(measure=self.measure, diverged="in the end: its bound is not finite")
        samples = _drawn(model, self.measure.samples, variance, seed)
        _write_samples(samples, folder / "samples.npz")
        return Finding(
            measure=self.measure,
            bits=bits_per_dim,
            energy=self.energy(samples),
            agreement=self.agreement(samples),
        )


def _drawn(model: Model, n: int, variance: Literal["beta", "learned"], seed: int) -> Examples:
    """By every step of the chain, as in the paper: variances of a learned diagonal hold on no other grid."""
    labels = model.labels_of(n, None, seed)
    x = model.sample(
        n,
        label=None if labels is None else labels.tolist(),
        steps=steps_of(model.denoiser.schedule),
        solver=Ancestral(variance=variance),
        seed=seed,
        batch_size=128,
        progress=True,
    )
    return Examples(x, labels, model.names, source="samples")


def _write_samples(samples: Examples, path: Path) -> None:
    """As `unsteep sample` does: images (n, h, w, c) uint8 or x (n, d), with labels where there are any."""
    x = samples.x.numpy()
    arrays = {"images": x.transpose(0, 2, 3, 1)} if x.ndim == 4 else {"x": x}
    if samples.labels is not None:
        arrays["labels"] = samples.labels.numpy()
    with replacing(path) as beside:
        np.savez(beside, **arrays)  # type: ignore[arg-type]  # the stub has no dict of arrays


def read_samples(folder: Path) -> Examples | None:
    """The samples of the cell in a folder, if it has any."""
    if not (folder / "samples.npz").exists():
        return None
    with np.load(folder / "samples.npz") as stored:
        x = stored["images"].transpose(0, 3, 1, 2) if "images" in stored else stored["x"]
        labels = torch.from_numpy(stored["labels"]) if "labels" in stored else None
        return Examples(torch.from_numpy(x.copy()), labels, source="samples")


def some(data: Examples, n: int) -> Examples:
    """n examples at random, the same ones every time: data may be sorted by class."""
    return data.select(permutation(len(data), seed=0, epoch=0)[:n])
