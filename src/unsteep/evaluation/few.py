"""How good samples are where there is next to nothing to hold them against: one picture, or a few.

A model that learns one picture by heart is everybody's first check. Distances of distributions say nothing there; what
does is how far each sample is from the real picture nearest to it.
"""

from __future__ import annotations

import time
import warnings
from importlib.metadata import version

import torch
from torch import Tensor

from unsteep.evaluation.evaluate import SHOWN, Evaluation
from unsteep.evaluation.held import KEPT, Real
from unsteep.evaluation.subjects import Subject, check_alike
from unsteep.metrics.interval import Interval
from unsteep.metrics.memorization import nearest
from unsteep.training.introduction import all_the_same, constant_channels

NEAREST = "nearest"
DRAWN = 64  # samples, where nobody says how many


def nearness(samples: Tensor, real: Tensor) -> Interval:
    """The mean distance of samples uint8 (n, c, h, w), n >= 2, to the real picture nearest to each: the root mean
    square difference of their grey values, 0 to 255."""
    return Interval.of(nearest(samples, real, 1)[0][:, 0])


def evaluate_few(subject: Subject, real: Real) -> Evaluation:
    """Samples against a few real pictures."""
    began = time.monotonic()
    check_alike(subject, real.reference)
    if subject.n < 2:
        raise ValueError(f"n: expected at least 2 samples, for an interval, got {subject.n}")
    samples = torch.cat(list(subject.batches()))
    n = len(real.reference)
    which = "1 real picture: too few" if n == 1 else f"{n:,} real pictures: too few"
    if n > 1 and all_the_same(real.reference.x):
        which = f"{n:,} real pictures, all the same: too little"
    said = f"{which} for a Frechet distance and its like; what is measured is how near samples come to the nearest"
    notes = (said, *constant_channels(real.reference.x))
    for note in notes:
        warnings.warn(note, stacklevel=2)
    return Evaluation(
        values={NEAREST: nearness(samples, real.reference.x)},
        floors={},
        protocol={
            **subject.facts(),
            "samples": subject.n,
            "replicates": 1,
            "reference": real.reference.source,
            "reference pictures": n,
            "reference digest": real.reference.digest,
            "split": real.split,
            "floor": "none; 0 is a copy",
            "features": "no",
            "quantisation": "uint8",
            "unsteep": version("unsteep"),
            "torch": version("torch"),
        },
        kept=samples[:KEPT],
        real=real.reference.x[:SHOWN],
        notes=notes,
        seconds=time.monotonic() - began,
    )
