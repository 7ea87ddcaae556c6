"""How good samples are, in numbers that state their protocol, their error, and their floor.

    value    a metric of n samples against the reference, with a 95% interval
    floor    the same metric of n real pictures that are not in the reference: what a perfect model would get

Samples are drawn once and stream through the features; beyond the features, only the first KEPT pictures are held, and
where a classifier is to learn from all of them, those lie in a file that vanishes. Where the data have a second split,
the floor is of that one; else the reference is halved at random and one half held against the other. Features that are
trained here are trained on one half of the training pictures, and the floor is of the other.
Several replicates draw samples of other seeds; the value is then their mean, with Student's interval.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from importlib.metadata import version

import torch
from torch import Tensor

from unsteep.core.noise import permutation
from unsteep.data.reading import vanishing
from unsteep.evaluation.accuracy import classification_accuracy_score
from unsteep.evaluation.held import FEWEST, KEPT, Held, Real, labels_among, watched
from unsteep.evaluation.protocol import Fact
from unsteep.evaluation.subjects import BATCH, Drawn, Subject, aligned, check_alike, check_range
from unsteep.features.looking import Features, gather
from unsteep.metrics import frechet, measures
from unsteep.metrics.interval import Interval
from unsteep.metrics.measures import MEASURES, Evidence
from unsteep.metrics.memorization import Duplicates, Memorization, memorization, near_duplicates
from unsteep.metrics.seen import Seen
from unsteep.pages.progress import bar
from unsteep.training.introduction import constant_channels

SHOWN = 48
PAIRWISE = ("lpips", "clip-score")
METRICS = (*MEASURES, "accuracy", *PAIRWISE, "memorization")
USUAL = ("fid", "kid", "precision", "recall", "density", "coverage")


@dataclass(frozen=True, eq=False)
class Pairwise:
    """Metrics by weights of their own: `each`, by name, gives values for pictures uint8 (k, c, h, w), the first of the
    samples, whose mean is the metric; `facts` about those weights go into the protocol."""

    each: Mapping[str, Callable[[Tensor], Tensor]]
    facts: Mapping[str, Fact]


@dataclass(frozen=True, eq=False)
class Copies:
    """Memorization in pixels and in features, and what the training set repeats."""

    pixels: Memorization
    features: Memorization
    duplicates: Duplicates


@dataclass(frozen=True, eq=False)
class Evaluation:
    """`values` and `floors` by metric; `protocol`: what they depend on; `kept`, `real`: the first samples and some real
    pictures, uint8; `copies`: if memorization was asked for, with the training pictures in `training`; `beside`: the
    same metrics of what needs no model, by its name."""

    values: dict[str, Interval]
    floors: dict[str, Interval]
    protocol: dict[str, Fact]
    kept: Tensor
    real: Tensor
    notes: tuple[str, ...]
    seconds: float
    copies: Copies | None = None
    training: Tensor | None = None
    beside: Mapping[str, Mapping[str, Interval]] = field(default_factory=dict)


def evaluate(
    subject: Subject,
    real: Real,
    features: Features,
    metrics: Sequence[str] = USUAL,
    *,
    names: tuple[str, ...] = (),
    replicates: int = 1,
    pairwise: Pairwise | None = None,
    seed: int = 0,
    held: Held | None = None,
    device: str = "cpu",
    progress: bool = False,
) -> Evaluation:
    """Measures `metrics` of the subject's pictures. `names`: of the classes that the features' logits tell apart.
    `pairwise`: LPIPS or CLIP scores. `held`: what is the same for all subjects of as many pictures, if it is known.
    ValueError for metrics that need what is not there.
    """
    started = time.monotonic()
    known = [name for name in metrics if name in MEASURES]
    check(subject, real, metrics, replicates)
    if pairwise is None and not set(metrics).isdisjoint(PAIRWISE):
        raise ValueError("metrics: lpips and clip-score are taken by `pairwise`, of weights of their own")
    seeded = []
    if isinstance(subject, Drawn):  # replicates share no sample
        seeded = [replace(subject, seed=subject.seed + r * subject.n) for r in range(replicates)]
    subjects: Sequence[Subject] = seeded or [subject]
    held = held or Held.of(features, real, known, subject.n, names, seed, progress)
    reference = held.reference
    taken, first, drawn = [], None, None
    for one in subjects:
        all_of_it = "accuracy" in metrics and first is None
        seen, pictures = _look(features, one, one.n if all_of_it else min(KEPT, one.n), progress)
        kept = pictures[:KEPT].clone()
        if not isinstance(one, Drawn):  # a model's are on the scale of its data, however little it learned
            check_range(kept, real.reference.x)
        evidence = Evidence(seen, kept, *labels_among(one, names), reference, seed)
        taken.append(measures.take(tuple(known), evidence))
        if first is None:
            first, drawn = evidence, pictures
    assert first is not None
    assert drawn is not None
    values = taken[0] if len(taken) == 1 else {name: _over([one[name] for one in taken]) for name in taken[0]}
    least = {name: value for name, value in held.floors.items() if name in values}
    if "accuracy" in metrics:
        values["accuracy"], least["accuracy"] = _accuracy(drawn, subject, real, device, progress)
    if pairwise is not None:
        values |= {name: Interval.of(each(first.kept)) for name, each in pairwise.each.items()}
        if "lpips" in pairwise.each:  # a CLIP score is of prompts, and real pictures have none
            least["lpips"] = Interval.of(pairwise.each["lpips"](real.unseen.x[: len(first.kept)]))
    copies = _copies(first, real, features, progress) if "memorization" in metrics else None
    too_few = frechet.too_few(subject.n, features.dimension, frechet.moments(reference.features))
    notes: tuple[str, ...] = () if too_few is None or "fid" not in known else (too_few,)
    notes += tuple(constant_channels(real.reference.x))
    for note in notes:
        warnings.warn(note, stacklevel=2)
    of = real.floor_of(subject.n)
    if of < subject.n:
        notes += (f"the floor is of {of} real pictures, for want of more, and that of a distance too high",)
    return Evaluation(
        values=values,
        floors=least,
        protocol={
            **subject.facts(),
            **({"seeds": f"{seeded[0].seed} to {seeded[-1].seed + subject.n - 1}"} if seeded else {}),
            "samples": subject.n,
            "replicates": len(subjects),
            "reference": real.reference.source,
            "reference pictures": len(real.reference),
            "reference digest": real.reference.digest,
            "split": real.split,
            "floor": held.floor_of,
            "features": features.name,
            "features digest": features.digest,
            "feature dimension": features.dimension,
            "resize": features.resize,
            **({} if pairwise is None else pairwise.facts),
            "quantisation": "uint8",
            "seed of resampling": seed,
            "unsteep": version("unsteep"),
            "torch": version("torch"),
        },
        kept=first.kept,
        real=real.reference.x[permutation(len(real.reference), 0, 0)[:SHOWN]],
        notes=notes,
        seconds=time.monotonic() - started,
        copies=copies,
        training=None if copies is None or real.training is None else real.training.x,
    )


def check(subject: Subject, real: Real, metrics: Sequence[str], replicates: int = 1) -> None:
    """ValueError before the work for what would fail after it."""
    check_alike(subject, real.reference)
    labels = subject.labels
    for name in metrics:
        if name in PAIRWISE and subject.shape[0] not in (1, 3):
            raise ValueError(
                f"metrics: {name} knows grey and colour pictures, and these have {subject.shape[0]} channels; leave it "
                "out"
            )
        if name not in METRICS:
            raise ValueError(f"metrics: unknown metric {name!r}; choose {', '.join(METRICS)}")
        if name in MEASURES and "labels" in MEASURES[name].needs and labels is None:
            raise ValueError(f"metrics: {name} needs samples with classes, and these have none; leave it out")
    if subject.n < FEWEST or len(real.reference) < FEWEST or real.floor_of(FEWEST) < FEWEST:
        least = FEWEST if real.training is not None else 4 * FEWEST  # half for features, a quarter against another
        training = found = ""
        if real.training is not None and len(real.training) < 2 * FEWEST:  # half of them for features
            training, found = f" beside {2 * FEWEST} for training", f" beside {len(real.training)}"
        raise ValueError(
            f"evaluate: expected at least {FEWEST} samples and {least} real pictures{training}, got {subject.n} and "
            f"{len(real.reference)}{found}"
        )
    if replicates < 1 or (replicates > 1 and not isinstance(subject, Drawn)):
        raise ValueError(f"replicates: expected at least 1, of a model; got {replicates}")
    if "accuracy" in metrics and aligned(labels, subject.names, real.reference.names) is None:
        raise ValueError("metrics: accuracy needs samples and real pictures of the same classes; leave it out")
    for name in ("memorization", "accuracy"):
        if name in metrics and real.training is None:
            raise ValueError(
                f"metrics: {name} needs training pictures beside held-out ones, and these data are of one split; give "
                "a source, or a path, that has two"
            )


def _look(features: Features, subject: Subject, count: int, progress: bool) -> tuple[Seen, Tensor]:
    """What the features see in all pictures, and the first `count` of them, uint8 (count, c, h, w) in a file."""
    kept = torch.from_numpy(vanishing((count, *subject.shape)))

    def passing() -> Iterator[Tensor]:
        start = 0
        with bar(progress, -(-subject.n // BATCH), "samples") as advance:
            for batch in subject.batches():
                room = kept[start : start + len(batch)]
                room.copy_(batch[: len(room)])
                start += len(batch)
                yield batch
                advance()

    return gather(features, passing()), kept


def _over(replicates: list[Interval]) -> Interval:
    """The mean of independent replicates, and Student's interval."""
    values = torch.tensor([one.value for one in replicates], dtype=torch.float64)
    return Interval.of_few(values)


def _accuracy(drawn: Tensor, subject: Subject, real: Real, device: str, progress: bool) -> tuple[Interval, Interval]:
    """The classification accuracy score of the samples, `drawn` of the subject, and of as many real pictures."""
    held = real.reference
    labels = aligned(subject.labels, subject.names, held.names)
    assert labels is not None
    score = partial(classification_accuracy_score, real=held, device=device, progress=progress)
    own = real.unseen.select(slice(0, subject.n))
    assert own.labels is not None
    return score(drawn, labels), score(own.x, own.labels)


def _copies(evidence: Evidence, real: Real, features: Features, progress: bool) -> Copies:
    """Nearest neighbours of the pictures kept, in pixels and in features."""
    assert real.training is not None
    held = permutation(len(real.reference), 0, 0)[:KEPT]
    samples, training, held_out = evidence.kept, real.training.x, real.reference.x[held]
    seen = gather(features, watched(training, progress, "the training set")).features
    k = len(samples)
    pixels = memorization(samples, training, held_out)
    threshold = 0.5 * pixels.threshold  # twice as near as all but 1% of held-out pictures are
    return Copies(
        pixels,
        memorization(evidence.seen.features[:k], seen, evidence.reference.features[held]),
        near_duplicates(training, threshold),
    )
