"""Guidance that keeps the contrast (Lin et al. 2024, section 3.4): strong guidance inflates x0, and over-exposes it.

    x0 = phi (std(x0_plain) / std(x0_guided)) x0_guided + (1 - phi) x0_guided

with std over all entries of a sample. Lin et al. do so to what their network says; here it is x0, so that what comes
out depends on no choice of kind.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from unsteep.core import masked
from unsteep.core.estimate import Estimate
from unsteep.core.level import NoiseLevel, like
from unsteep.denoiser import Denoise
from unsteep.guidance.branches import Guided


@dataclass(frozen=True)
class Rescale:
    """`guided` with the standard deviation of each sample's x0 brought towards the plain one's: 0 <= `phi` <= 1 of the
    way, of which Lin et al. take 0.7. No further network calls. A sample without any contrast stays as it is."""

    guided: Guided
    phi: float = 0.7

    def __post_init__(self) -> None:
        if not 0 <= self.phi <= 1:
            raise ValueError(f"phi: expected a number from 0 (no rescaling) to 1 (all of it), got {self.phi}")

    def __call__(self, x_t: Tensor, level: NoiseLevel) -> Estimate:
        return self.pair(x_t, level)[0]

    @property
    def plain(self) -> Denoise:
        """What is guided."""
        return self.guided.plain

    def pair(self, x_t: Tensor, level: NoiseLevel) -> tuple[Estimate, Estimate]:
        """(guided and rescaled, plain)."""
        guided, plain = self.guided.pair(x_t, level)
        x0 = guided.x0
        ours, theirs = (masked.std(one, guided.valid) for one in (x0, plain.x0))
        ratio = torch.where(ours > 0, theirs / ours, 1)
        return guided.replace_x0(x0 * like(self.phi * ratio + (1 - self.phi), x0)), plain
