"""The last term of the bound, L_0 = -log p(x0 | x_now) at the last pair of levels (Ho et al. 2020, section 3.3).

beta_tilde is 0 there, so the decoder's variance is a choice: "pair" takes the pair's own beta wherever the model's variance
is 0; "ho" is what the code of Ho et al. does, beta_tilde of the pair before, also where the model's steps use beta.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from unsteep.core.estimate import Estimate
from unsteep.core.gaussian import Variance, discretized_log_prob, reverse
from unsteep.core.level import NoiseLevel, step_variances


@dataclass(frozen=True, kw_only=True)
class Decoder:
    """`levels`: how many equally spaced values data take between -1 and 1, whose bins are integrated; None for continuous
    data, which get a density."""

    levels: int | None = 256
    variance: Literal["pair", "ho"] = "pair"

    def log_prob(self, x0: Tensor, estimate: Estimate, levels: NoiseLevel, variance: Variance) -> Tensor:
        """log p(x0 | x_now) in nats per element; `levels` is the whole grid, clean last."""
        floor, _ = step_variances(levels[-2], levels[-1])
        if self.variance == "ho":
            if len(levels) < 3:
                raise ValueError("decoder: Ho's variance is that of the pair before the last, and this grid has one pair")
            _, floor = step_variances(levels[-3], levels[-2])
            variance = "beta_tilde" if variance == "beta" else variance
        p = reverse(estimate, levels[-1], variance, floor=torch.as_tensor(floor))
        return p.log_prob(x0) if self.levels is None else discretized_log_prob(p, x0, self.levels)
