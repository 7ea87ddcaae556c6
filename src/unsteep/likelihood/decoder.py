"""The last term of the bound, L_0 = -log p(x0 | x_now) at the last pair of levels (Ho et al. 2020, section 3.3)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from torch import Tensor

from unsteep.core.estimate import Estimate
from unsteep.core.gaussian import Variance, decoder_log_prob
from unsteep.core.level import NoiseLevel


@dataclass(frozen=True, kw_only=True)
class Decoder:
    """`levels`: how many equally spaced values data take between -1 and 1, whose bins are integrated; None for
    continuous data, which get a density. `variance`: the pair's own beta, or Ho's, where beta_tilde is 0 (see
    `decoder_log_prob`)."""

    levels: int | None = 256
    variance: Literal["pair", "ho"] = "pair"

    def log_prob(self, x0: Tensor, estimate: Estimate, levels: NoiseLevel, variance: Variance) -> Tensor:
        """log p(x0 | x_now) in nats per element; `levels` is the whole grid, clean last."""
        return decoder_log_prob(x0, estimate, levels, variance, values=self.levels, convention=self.variance)
