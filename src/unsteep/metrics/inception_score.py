"""The Inception Score (Salimans et al. 2016, section 4): exp E_x KL(p(y | x) || p(y)), from 1 to the number of classes.

High where each picture is of one class for certain, and all classes come equally often; it knows no reference. As
published, the value is the mean over splits of the pictures, each with its own p(y): it belongs to the count per split.
Ten lines of our own, because torchmetrics' permutes by the global generator and gives the splits' deviation alone.
"""

from __future__ import annotations

import torch
from torch import Tensor

from unsteep.core.noise import permutation
from unsteep.metrics.interval import Interval


def inception_score(logits: Tensor, *, splits: int = 10, seed: int = 0) -> Interval:
    """The score of logits (n, k), n >= splits >= 2, and Student's interval over the splits, which are independent."""
    if logits.ndim != 2 or not 2 <= splits <= len(logits):
        raise ValueError(
            f"inception score: expected logits (n, classes) of at least {splits} pictures and 2 or more splits, "
            f"got {tuple(logits.shape)} and {splits} splits"
        )
    log_p = logits.double()[permutation(len(logits), seed, 0)].log_softmax(1)
    return Interval.of_few(torch.stack([_score(split) for split in log_p.tensor_split(splits)]))


def _score(log_p: Tensor) -> Tensor:
    p = log_p.exp()
    marginal = torch.xlogy(p.mean(0), p.mean(0)).sum()  # sum p(y) log p(y), 0 where a class never comes
    return (torch.xlogy(p, p).sum(1).mean() - marginal).exp()
