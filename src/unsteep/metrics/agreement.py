"""Agreement: the share of labelled samples that a classifier of real pictures names as they were asked. It is blind to
samples that are all alike."""

from __future__ import annotations

from torch import Tensor

from unsteep.metrics.interval import Interval, wilson


def agreement(logits: Tensor, labels: Tensor) -> Interval:
    """The share of samples that `logits` (n, k) name as was asked, `labels` (n,)."""
    if len(logits) != len(labels) or not len(labels):
        raise ValueError(f"agreement: expected a label for each sample, got {len(labels)} for {len(logits)}")
    return wilson(int((logits.argmax(1) == labels).sum()), len(labels))
