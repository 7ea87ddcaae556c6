"""How good samples are, in numbers that state their protocol, their error, and their floor.

    value    a metric of n samples against the reference, with a 95% interval
    floor    the same metric of n real pictures that are not in the reference: what a perfect model would get

Samples stream through the features once; beyond the features, only the first KEPT pictures are held. Where the data
have a second split, the floor is of that one; else the reference is halved at random and one half held against the
other. Features that are trained here are trained on one half of the training pictures, and the floor is of the other.
Several replicates draw samples of other seeds; the value is then their mean, with Student's interval.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from importlib.metadata import version

import torch
from torch import Tensor

from unsteep.core.noise import permutation
from unsteep.data import DataSet
from unsteep.metrics import frechet, measures
from unsteep.metrics.accuracy import classification_accuracy_score
from unsteep.metrics.features import Features, Seen, gather
from unsteep.metrics.interval import Interval
from unsteep.metrics.measures import MEASURES, Evidence
from unsteep.metrics.memorization import Duplicates, Memorization, memorization, near_duplicates
from unsteep.metrics.protocol import Fact
from unsteep.progress import bar
from unsteep.studies.subjects import BATCH, Drawn, Subject, aligned, check_alike, check_range

KEPT = 1000
SHOWN = 48
PAIRWISE = ("lpips", "clip-score")
METRICS = (*MEASURES, "accuracy", *PAIRWISE, "memorization")
USUAL = ("fid", "kid", "precision", "recall", "density", "coverage")


@dataclass(frozen=True, eq=False)
class Real:
    """`reference`: the real pictures that samples are held against; `training`: those that the model was trained on,
    () where that is unknown; `split`: as the protocol names the reference."""

    reference: DataSet
    training: DataSet | None = None
    split: str = "all"

    @property
    def learned_from(self) -> DataSet:
        """The half of the training pictures that features may be trained on; of the reference, if those are unknown.
        A net has seen these, and sees them otherwise than fresh ones: the floor must not be of them."""
        return self._halves()[0]

    @property
    def unseen(self) -> DataSet:
        """The other half."""
        return self._halves()[1]

    def _halves(self) -> tuple[DataSet, DataSet]:
        data = self.reference if self.training is None else self.training
        order = permutation(len(data), 0, 0)
        return data.select(order[: len(data) // 2]), data.select(order[len(data) // 2 :])


@dataclass(frozen=True, eq=False)
class Copies:
    """Memorization in pixels and in features, and what the training set repeats."""

    pixels: Memorization
    features: Memorization
    duplicates: Duplicates


@dataclass(frozen=True, eq=False)
class Evaluation:
    """`values` and `floors` by metric; `protocol`: what they depend on; `kept`, `real`: the first samples and some real
    pictures, uint8; `copies`: if memorization was asked for, with the training pictures in `training`."""

    values: dict[str, Interval]
    floors: dict[str, Interval]
    protocol: dict[str, Fact]
    kept: Tensor
    real: Tensor
    notes: tuple[str, ...]
    seconds: float
    copies: Copies | None = None
    training: Tensor | None = None


def evaluate(
    subject: Subject,
    real: Real,
    features: Features,
    metrics: Sequence[str] = USUAL,
    *,
    names: tuple[str, ...] = (),
    replicates: int = 1,
    pairwise: Callable[[Tensor], dict[str, Interval]] | None = None,
    seed: int = 0,
    device: str = "cpu",
    progress: bool = False,
) -> Evaluation:
    """Measures `metrics` of the subject's pictures. `names`: of the classes that the features' logits tell apart.
    `pairwise`: takes LPIPS or CLIP scores of the pictures kept. ValueError for metrics that need what is not there.
    """
    started = time.monotonic()
    known = [name for name in metrics if name in MEASURES]
    check_alike(subject, real.reference)
    _check(subject, real, metrics, replicates)
    subjects = [subject]
    if isinstance(subject, Drawn):  # replicates share no sample
        subjects = [replace(subject, seed=subject.seed + r * subject.n) for r in range(replicates)]
    reference = gather(features, _batches(real.reference.x, progress, "the reference"))
    taken, first, kept_of = [], None, []
    for one in subjects:
        seen, kept = _look(features, one, progress)
        check_range(kept, real.reference.x[:KEPT])
        labels = aligned(one.labels, one.names, names or one.names)
        evidence = Evidence(seen, kept, labels, reference, seed, told_apart=bool(names) and labels is not None)
        taken.append(measures.take(tuple(known), evidence))
        kept_of.append(kept)
        first = first or evidence
    assert first is not None
    values = taken[0] if len(taken) == 1 else {name: _over([one[name] for one in taken]) for name in taken[0]}
    least, floor_of = floors(features, real, known, subject.n, names, seed, reference)
    if "accuracy" in metrics:
        values["accuracy"], least["accuracy"] = _accuracy(subject, real, device, progress)
    if pairwise is not None:
        values |= pairwise(kept_of[0])
    copies = _copies(first, real, features, progress) if "memorization" in metrics else None
    too_few = frechet.too_few(subject.n, features.dimension, frechet.moments(reference.features))
    notes = () if too_few is None or "fid" not in known else (too_few,)
    for note in notes:
        warnings.warn(note, stacklevel=2)
    return Evaluation(
        values=values,
        floors=least,
        protocol={
            **subject.facts(),
            "samples": subject.n,
            "replicates": len(subjects),
            "reference": real.reference.source,
            "reference pictures": len(real.reference),
            "reference digest": real.reference.digest(),
            "split": real.split,
            "floor": floor_of,
            "features": features.name,
            "features digest": features.digest,
            "feature dimension": features.dimension,
            "resize": features.resize,
            "quantisation": "uint8",
            "seed of resampling": seed,
            "unsteep": version("unsteep"),
            "torch": version("torch"),
        },
        kept=kept_of[0],
        real=real.reference.x[permutation(len(real.reference), 0, 0)[:SHOWN]],
        notes=notes,
        seconds=time.monotonic() - started,
        copies=copies,
        training=None if copies is None or real.training is None else real.training.x,
    )


def _check(subject: Subject, real: Real, metrics: Sequence[str], replicates: int) -> None:
    """Refuses before the work what would fail after it."""
    for name in metrics:
        if name not in METRICS:
            raise ValueError(f"metrics: unknown metric {name!r}; choose {', '.join(METRICS)}")
    if subject.n < 10 or len(real.reference) < 10:
        raise ValueError(
            f"evaluate: expected at least 10 samples and real pictures, got {subject.n} and {len(real.reference)}"
        )
    if replicates < 1 or (replicates > 1 and not isinstance(subject, Drawn)):
        raise ValueError(f"replicates: expected at least 1, of a model; got {replicates}")
    for name in ("memorization", "accuracy"):
        if name in metrics and real.training is None:
            raise ValueError(
                f"metrics: {name} needs training pictures beside held-out ones; take the test split of data that "
                "have one"
            )
    if "accuracy" in metrics and aligned(subject.labels, subject.names, real.reference.names) is None:
        raise ValueError("metrics: accuracy needs samples and real pictures of the same classes; leave it out")


def _look(features: Features, subject: Subject, progress: bool) -> tuple[Seen, Tensor]:
    """What the features see in all pictures, and the first KEPT of them."""
    kept: list[Tensor] = []

    def passing() -> Iterator[Tensor]:
        with bar(progress, -(-subject.n // BATCH), "samples") as advance:
            for batch in subject.batches():
                room = KEPT - sum(map(len, kept))
                if room > 0:
                    kept.append(batch[:room].clone())
                yield batch
                advance()

    return gather(features, passing()), torch.cat(kept) if kept else torch.empty(0)


def _batches(pictures: Tensor, progress: bool, what: str) -> Iterator[Tensor]:
    with bar(progress, -(-len(pictures) // BATCH), what) as advance:
        for batch in pictures.split(BATCH):
            yield batch
            advance()


def _over(replicates: list[Interval]) -> Interval:
    """The mean of independent replicates, and Student's interval."""
    values = torch.tensor([one.value for one in replicates], dtype=torch.float64)
    return Interval.of_few(values)


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
    unseen = real.unseen
    if real.training is not None:
        data = unseen.select(slice(0, n))
        words = f"{len(data)} real pictures of the other split"
    else:
        half = min(n, len(unseen) // 2)
        data = unseen.select(slice(0, half))
        words = f"{half} real pictures against {half} others"
        reference = gather(features, unseen.x[-half:].split(BATCH))
    seen = gather(features, data.x.split(BATCH))
    labels = aligned(data.labels, data.names, names or data.names)
    assert reference is not None
    evidence = Evidence(seen, data.x[:KEPT], labels, reference, seed, told_apart=bool(names) and labels is not None)
    possible = tuple(name for name in metrics if not (labels is None and "labels" in MEASURES[name].needs))
    return measures.take(possible, evidence), words


def _accuracy(subject: Subject, real: Real, device: str, progress: bool) -> tuple[Interval, Interval]:
    """The classification accuracy score of the samples, and of as many real pictures."""
    held = real.reference
    labels = aligned(subject.labels, subject.names, held.names)
    assert labels is not None
    score = partial(classification_accuracy_score, real=held, device=device, progress=progress)
    drawn = torch.cat(list(subject.batches()))
    own = real.unseen.select(slice(0, subject.n))
    assert own.labels is not None
    return score(drawn, labels), score(own.x, own.labels)


def _copies(evidence: Evidence, real: Real, features: Features, progress: bool) -> Copies:
    """Nearest neighbours of the pictures kept, in pixels and in features."""
    assert real.training is not None
    samples, training, held_out = evidence.kept, real.training.x, real.reference.x[:KEPT]
    seen = gather(features, _batches(training, progress, "the training set")).features
    k = len(samples)
    pixels = memorization(samples, training, held_out)
    threshold = 0.5 * pixels.threshold  # twice as near as all but 1% of held-out pictures are
    return Copies(
        pixels,
        memorization(evidence.seen.features[:k], seen, evidence.reference.features[: len(held_out)]),
        near_duplicates(training, threshold),
    )
