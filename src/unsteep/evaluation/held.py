"""What samples are held against: real pictures, what the features see in them, and the floor of each metric.

The floor is of real pictures that neither the reference nor the features know: of the other split, or, where there is
none, one part of the data against another.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Self

from torch import Tensor

from unsteep.core.noise import permutation
from unsteep.data.examples import Examples
from unsteep.evaluation.subjects import BATCH, Subject, aligned
from unsteep.features import domain
from unsteep.features.looking import Features, gather
from unsteep.metrics import measures
from unsteep.metrics.interval import Interval
from unsteep.metrics.measures import MEASURES, Evidence
from unsteep.metrics.seen import Seen
from unsteep.pages.progress import bar
from unsteep.training.introduction import all_the_same

KEPT = 1000
FEWEST = 10  # samples, and real ones for the floor


@dataclass(frozen=True, eq=False)
class Real:
    """`reference`: the real pictures that samples are held against; `training`: those that the model was trained on,
    () where that is unknown; `split`: as the protocol names the reference."""

    reference: Examples
    training: Examples | None = None
    split: str = "all"

    @cached_property
    def learned_from(self) -> Examples:
        """The half of the training pictures that features may be trained on; of the reference, if those are unknown.
        A net has seen these, and sees them otherwise than fresh ones: the floor must not be of them."""
        return self._half(0)

    @cached_property
    def unseen(self) -> Examples:
        """The other half."""
        return self._half(1)

    @property
    def few(self) -> bool:
        """Whether there are too few for features of the domain or for a floor, or all are one."""
        if all_the_same(self.reference.x) or len(self.learned_from) < domain.FEWEST:
            return True
        return min(len(self.reference), self.floor_of(FEWEST)) < FEWEST

    def floor_of(self, n: int) -> int:
        """How many real pictures stand in for n samples, where there are so many."""
        return min(n, len(self.unseen) if self.training is not None else len(self.unseen) // 2)

    def _half(self, which: int) -> Examples:
        data = self.reference if self.training is None else self.training
        return data.select(permutation(len(data), 0, 0).tensor_split([len(data) // 2])[which])


@dataclass(frozen=True, eq=False)
class Held:
    """What samples are held against: what the features see in the `reference`, and the floors of the metrics."""

    reference: Seen
    floors: dict[str, Interval]
    floor_of: str

    @classmethod
    def of(
        cls,
        features: Features,
        real: Real,
        metrics: Sequence[str],
        n: int,
        names: tuple[str, ...],
        seed: int = 0,
        progress: bool = False,
    ) -> Self:
        """For n samples."""
        reference = gather(features, watched(real.reference.x, progress, "the reference"))
        return cls(reference, *floors(features, real, metrics, n, names, seed, reference))


def floors(
    features: Features,
    real: Real,
    metrics: Sequence[str],
    n: int,
    names: tuple[str, ...],
    seed: int = 0,
    reference: Seen | None = None,
) -> tuple[dict[str, Interval], str]:
    """The metrics of n real pictures that are not in the reference, and what those are. `reference`: what the features
    see in it, if that is known."""
    if reference is None and real.training is not None:
        reference = gather(features, real.reference.x.split(BATCH))
    unseen, count = real.unseen, real.floor_of(n)
    data = unseen.select(slice(0, count))
    words = f"{count} real pictures of the other split"
    if real.training is None:
        words = f"{count} real pictures against {count} others"
        reference = gather(features, unseen.x[-count:].split(BATCH))
    seen = gather(features, data.x.split(BATCH))
    labels, told_apart = labels_among(data, names)
    assert reference is not None
    evidence = Evidence(seen, data.x[:KEPT], labels, told_apart, reference, seed)
    lacking = {need for need, there in (("labels", labels is not None), ("classifier", told_apart)) if not there}
    possible = tuple(name for name in metrics if lacking.isdisjoint(MEASURES[name].needs))
    return measures.take(possible, evidence), words


def labels_among(of: Subject | Examples, names: tuple[str, ...]) -> tuple[Tensor | None, bool]:
    """The labels of pictures, and whether they are numbered as the features' classes, `names`."""
    labels = aligned(of.labels, of.names, names)
    return (of.labels, False) if labels is None else (labels, True)


def watched(pictures: Tensor, progress: bool, what: str) -> Iterator[Tensor]:
    with bar(progress, -(-len(pictures) // BATCH), what) as advance:
        for batch in pictures.split(BATCH):
            yield batch
            advance()
