"""Every metric by its name: what it needs, which way is better, and how it is taken.

A metric is taken of `Evidence`: what was kept of pictures that streamed by, and the reference beside them. The floor of
a metric is the same metric of real pictures, as many of them, in place of the samples.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

from torch import Tensor

from unsteep.metrics import frechet, kid, manifold, ms_ssim
from unsteep.metrics.agreement import agreement
from unsteep.metrics.inception_score import inception_score
from unsteep.metrics.interval import Interval
from unsteep.metrics.motion import MOTIONS, Better
from unsteep.metrics.seen import Seen


@dataclass(frozen=True, eq=False)
class Evidence:
    """`seen`: what the features see in n pictures; `kept`: the first of them, uint8 (k, c, h, w), and `labels` of all
    n, if they have any; `reference`: what the features see in the real pictures they are held against."""

    seen: Seen
    kept: Tensor
    labels: Tensor | None
    told_apart: bool
    """Whether the features' logits are of the classes that `labels` number."""
    reference: Seen
    seed: int = 0


@dataclass(frozen=True)
class Measure:
    """`better`: which way is; `take`: the values by name; `needs`: logits, labels, or both, besides features."""

    better: Better
    take: Callable[[Evidence], Mapping[str, Interval]]
    needs: tuple[Literal["logits", "labels", "classifier"], ...] = ()
    says: str = ""


def _frechet(e: Evidence) -> dict[str, Interval]:
    x, reference = e.seen.features, e.reference.features
    return {"fid": frechet.fid(x, reference), "fid-infinity": frechet.fid_infinity(x, reference, seed=e.seed)}


def _kid(e: Evidence) -> dict[str, Interval]:
    return {"kid": kid.kid(e.seen.features, e.reference.features, seed=e.seed)}


def _score(e: Evidence) -> dict[str, Interval]:
    assert e.seen.logits is not None
    return {"is": inception_score(e.seen.logits, seed=e.seed)}


def _manifold(e: Evidence) -> dict[str, Interval]:
    found = manifold.manifold(e.seen.features, e.reference.features)
    return {name: getattr(found, name) for name in ("precision", "recall", "density", "coverage")}


def _ms_ssim(e: Evidence) -> dict[str, Interval]:
    return {"ms-ssim": ms_ssim.diversity(e.kept, seed=e.seed)}


def _intra_class(e: Evidence) -> dict[str, Interval]:
    assert e.labels is not None
    return {"intra-class": ms_ssim.diversity(e.kept, labels=e.labels[: len(e.kept)], seed=e.seed)}


def _agreement(e: Evidence) -> dict[str, Interval]:
    assert e.seen.logits is not None
    assert e.labels is not None
    return {"agreement": agreement(e.seen.logits, e.labels)}


MEASURES: dict[str, Measure] = {
    "fid": Measure("lower", _frechet, says="Frechet distance of the features (Heusel et al. 2017)"),
    "kid": Measure("lower", _kid, says="squared maximum mean discrepancy (Binkowski et al. 2018)"),
    "precision": Measure("higher", _manifold, says="samples among real ones (Kynkaanniemi et al. 2019)"),
    "recall": Measure("higher", _manifold, says="real ones among samples (Kynkaanniemi et al. 2019)"),
    "density": Measure("higher", _manifold, says="samples where real ones are dense (Naeem et al. 2020)"),
    "coverage": Measure("higher", _manifold, says="real ones with a sample beside them (Naeem et al. 2020)"),
    "is": Measure("higher", _score, ("logits",), "inception score (Salimans et al. 2016)"),
    "ms-ssim": Measure("lower", _ms_ssim, says="likeness of random pairs (Odena et al. 2017)"),
    "intra-class": Measure("lower", _intra_class, ("labels",), "likeness of pairs of one class, by MS-SSIM"),
    "agreement": Measure("higher", _agreement, ("labels", "classifier"), "share named by the features as asked"),
}

BETTER: dict[str, Better] = {
    **{name: measure.better for name, measure in MEASURES.items()},
    **{name: measure.better for name, measure in MOTIONS.items()},
    "fid-infinity": "lower",
    "lpips": "higher",
    "clip-score": "higher",
    "accuracy": "higher",
    "bits-per-dim": "lower",
    "distance": "lower",
    "energy": "lower",
    "nearest": "lower",
}


SAYS = {
    **{name: measure.says for name, measure in MEASURES.items()},
    **{name: measure.says for name, measure in MOTIONS.items()},
    "fid-infinity": "the same, extrapolated to infinitely many samples (Chong & Forsyth 2020)",
    "nearest": "root mean square difference, 0 to 255, to the nearest real picture",
    "energy": "energy distance of pixels (Szekely & Rizzo 2013)",
    "lpips": "distance of random pairs (Zhang et al. 2018)",
    "clip-score": "how well pictures fit their prompts (Hessel et al. 2021)",
    "accuracy": "of a classifier trained on the samples, on real pictures (Ravuri & Vinyals 2019)",
}

ARROWS = {"lower": "↓", "higher": "↑", "": ""}


def titled(name: str) -> str:
    """A metric's name with an arrow that says which way is better."""
    return f"{name} {ARROWS[BETTER.get(name, '')]}".rstrip()


def take(names: tuple[str, ...], evidence: Evidence) -> dict[str, Interval]:
    """The metrics in `names`, in that order, each by its name; those taken together are taken once.

    ValueError for one that needs what there is not: logits of the features, labels of the pictures.
    """
    found: dict[str, Interval] = {}
    for name in names:
        measure = MEASURES[name]
        _check(name, measure, evidence)
        if name not in found:
            found |= measure.take(evidence)
    wanted = set(names) | ({"fid-infinity"} if "fid" in names else set())
    return {name: value for name, value in found.items() if name in wanted}


def _check(name: str, measure: Measure, evidence: Evidence) -> None:
    if "logits" in measure.needs and evidence.seen.logits is None:
        raise ValueError(
            f"metrics: {name} needs features that tell classes apart, and these do not; give real pictures with "
            "classes, or leave it out"
        )
    if "labels" in measure.needs and evidence.labels is None:
        raise ValueError(f"metrics: {name} needs samples with classes, and these have none; leave it out")
    if "classifier" in measure.needs and not evidence.told_apart:
        raise ValueError(f"metrics: {name} needs features trained on the same classes; leave it out")
