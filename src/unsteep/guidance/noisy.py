"""A classifier of noisy data, p(y | x_t): what classifier guidance follows (Dhariwal & Nichol 2021, section 4.1).

It sees x_t / sqrt(alpha^2 + sigma^2) and hears the log-SNR, on which alone that depends: trained on one schedule, it
guides a model on any other.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor, nn

from unsteep.core.level import NoiseLevel, like
from unsteep.core.precision import Precision, running
from unsteep.denoiser import heard_logsnr


class NoisyClassifier(nn.Module):
    """`network`(x (b, ...), noise_label (b,)) -> logits (b, classes), as a classifier of noisy data; `precision`: the
    network's."""

    def __init__(self, network: nn.Module, precision: Precision = "float32") -> None:
        super().__init__()
        self.network = network
        self.precision = precision

    def forward(self, x_t: Tensor, level: NoiseLevel) -> Tensor:
        """Logits (b, classes), float32, of x_t (b, ...) at `level` of shape () or (b,)."""
        x = x_t / like(level.scale, x_t)
        heard = heard_logsnr(level).expand(len(x_t)).to(x)
        with running(x_t.device, self.precision):
            return self.network(x, heard).float()

    def log_prob(self, labels: Tensor) -> Callable[[Tensor, NoiseLevel], Tensor]:
        """(x_t, level) -> log p(labels | x_t) (b,): what guidance takes the gradient of. `labels`: int64 (b,)."""

        def of(x_t: Tensor, level: NoiseLevel) -> Tensor:
            return -F.cross_entropy(self(x_t, level), labels.to(x_t.device), reduction="none")

        return of


@dataclass(frozen=True, eq=False)
class OpenedClassifier:
    """A classifier with what it knows: the `names` of its classes, and the `shape` of an example."""

    module: NoisyClassifier
    names: tuple[str, ...]
    shape: tuple[int, ...]
