"""Do labelled samples show what was asked? The share of right names of a classifier that knows samples alone.

The classification accuracy score (Ravuri & Vinyals 2019): a classifier learns from samples alone, with the labels they
were asked for, and names real pictures. It falls where samples are wrong, poor, or all alike; a number of it stands
beside that of as many real training pictures, trained on in their place.
"""

from __future__ import annotations

from torch import Tensor

from unsteep.data.examples import Examples
from unsteep.features.domain import DomainNet, correct, fit
from unsteep.metrics.interval import Interval, wilson


def classification_accuracy_score(
    x: Tensor,
    labels: Tensor,
    real: Examples,
    settings: DomainNet | None = None,
    device: str = "cpu",
    progress: bool = False,
) -> Interval:
    """The share of `real` (held out from the model) that a classifier trained on pictures `x`, uint8 (n, c, h, w),
    with `labels`, int64 (n,), names rightly. With n real training pictures as `x` it is what the samples can reach.

    The interval is that of the finite test set; another seed in `settings` shows what training adds. ValueError where
    sizes or labels do not fit.
    """
    if len(real.names) < 2:
        raise ValueError(f"classification accuracy: the real pictures have no classes ({real.source}); leave it out")
    if x.shape[1:] != real.x.shape[1:] or len(labels) != len(x) or not len(x):
        raise ValueError(
            f"classification accuracy: expected pictures (n, {', '.join(map(str, real.x.shape[1:]))}) with n labels, "
            f"got {tuple(x.shape)} and {len(labels)} labels"
        )
    if int(labels.min()) < 0 or int(labels.max()) >= len(real.names):
        raise ValueError(
            f"classification accuracy: expected labels from 0 to {len(real.names) - 1}, got {int(labels.min())} to "
            f"{int(labels.max())}"
        )
    network = fit(Examples(x, labels, real.names), settings or DomainNet(), device, progress)
    return wilson(correct(network, real), len(real))
