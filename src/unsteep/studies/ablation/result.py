"""What a trained cell of an ablation is measured by, on real data that are the same for every cell.

Bits per dimension of the bound, with the variance the cell was trained for; and samples drawn by every step of its own
chain with that variance, held against unseen data (see `quality`). All cells see the same images, noise and seeds, so
their differences are known better than each interval alone says.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from unsteep.core.noise import permutation
from unsteep.core.schedules import steps_of
from unsteep.data import Examples
from unsteep.data.reading import in_memory
from unsteep.evaluation.quality import Classifier, energy_distance
from unsteep.metrics.interval import Interval
from unsteep.model import Model
from unsteep.model.finite import NotFinite
from unsteep.sampling import Ancestral
from unsteep.studies.study import Outcome, Values
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
        self.reference: Values = {}
        if self.unseen:  # of data held against themselves nothing can be said
            self.reference = self._values(some(data, measure.samples), self.held)

    def _values(self, given: Examples, labelled: Examples) -> Values:
        """The energy distance of `given`, in the data's own units, from the real ones; and, where classes play a part,
        the share of `labelled` that look like what they are labelled."""
        x, y = (self.space.encode(each.x).flatten(1) for each in (given, self.held))
        found = {"energy": energy_distance(x, y)}
        if self.classifier is not None and labelled.labels is not None:
            found["agreement"] = self.classifier.agreement(self.space.encode(labelled.x), labelled.labels)
        return found

    def measured(self, model: Model, seed: int) -> Outcome:
        """What a trained cell comes to. NotFinite where its bound or its samples are not."""
        learned = bool(model.denoiser.learn_variance)
        variance: Literal["beta", "learned"] = "learned" if learned else "beta"
        coded = some(self.held, self.measure.images)
        labels = coded.labels if model.names else None
        terms = self.measure.terms
        bits = model.likelihood(coded.x, labels, variance=variance, terms=terms, seed=seed, progress=True)
        bits_per_dim = Interval.of(bits.bits_per_dim())
        if not math.isfinite(bits_per_dim.value + bits_per_dim.half):
            raise NotFinite("the end: its bound is not finite")
        drawn = _drawn(model, self.measure.samples, variance, seed)
        values = {"bits-per-dim": bits_per_dim, **self._values(drawn, drawn)}
        return Outcome(values, drawn.x.numpy(), labels=None if drawn.labels is None else drawn.labels.numpy())


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


def some(data: Examples, n: int) -> Examples:
    """n examples at random, the same ones every time: data may be sorted by class."""
    return data.select(permutation(len(data), seed=0, epoch=0)[:n])
