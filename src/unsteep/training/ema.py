"""The exponential moving average of a module's weights, which sampling uses (Ho et al. 2020, appendix B).

    average <- d_n average + (1 - d_n) weights,     d_n = min(decay, (1 + n) / (10 + n)) at update n = 1, 2, ...

The warm-up of d_n keeps the random first weights from staying in the average for 1 / (1 - decay) steps.
"""

from __future__ import annotations

import copy

import torch
from torch import nn

from unsteep.networks.wrapping import inside


class EMA:
    """`module` is a copy of the trained one that holds the averages; buffers are copied."""

    def __init__(self, module: nn.Module, decay: float) -> None:
        if not 0 <= decay < 1:
            raise ValueError(f"train.ema: expected a decay from 0 (no averaging) to below 1, got {decay}")
        self.decay = decay
        self.module = copy.deepcopy(inside(module)).eval().requires_grad_(False)

    @torch.no_grad()
    def update(self, module: nn.Module, n: int) -> None:
        """Update number n, from 1."""
        decay = min(self.decay, (1 + n) / (10 + n))
        averages: list[torch.Tensor] = list(self.module.parameters())
        weights: list[torch.Tensor] = list(module.parameters())
        torch._foreach_lerp_(averages, weights, 1 - decay)
        for kept, new in zip(self.module.buffers(), module.buffers(), strict=True):
            kept.copy_(new)
