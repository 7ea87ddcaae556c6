"""azula: its tutorial on MNIST (its U-Net of 16, 32, 64 by class, Karras' preconditioning, Adam at 3e-4, batch 64); its
DDIM, and its exponential Adams-Bashforth of order 3."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

import torch
from azula.denoise import KarrasDenoiser
from azula.nn.unet import UNet
from azula.noise import VPSchedule
from azula.sample import DDIMSampler, xEABSampler
from torch import Tensor, nn

from quality.recipes import Asked, Sampler

BATCH, RATE, FEATURES = 64, 3e-4, 64


class Labelled(nn.Module):
    """The network of the tutorial."""

    def __init__(self, channels: int, classes: int) -> None:
        super().__init__()
        self.unet = UNet(channels, channels, hid_channels=[16, 32, 64], hid_blocks=[2, 2, 2], mod_features=FEATURES)
        self.label_embedding = nn.Embedding(classes, FEATURES)
        self.time_embedding = nn.Sequential(nn.Linear(1, FEATURES), nn.SiLU(), nn.Linear(FEATURES, FEATURES))

    def forward(self, x: Tensor, t: Tensor, label: Tensor) -> Tensor:
        return self.unet(x, self.label_embedding(label) + self.time_embedding(t[..., None]))


class Made:
    """See `Recipe`."""

    def __init__(self, asked: Asked) -> None:
        self.asked, self.network = asked, Labelled(asked.shape[0], asked.classes)
        self.denoiser = KarrasDenoiser(self.network, VPSchedule())
        self.optimizer = torch.optim.Adam(self.denoiser.parameters(), lr=RATE)

    def step(self, spent: float) -> None:
        self.denoiser.train()
        x, label = self.asked.batch(BATCH)
        self.denoiser.loss(x, torch.rand(BATCH), label=label).backward()
        self.optimizer.step()
        self.optimizer.zero_grad()

    def samplers(self) -> Mapping[str, Sampler]:
        return {"DDIM": partial(self._sample, DDIMSampler), "xEAB": partial(self._sample, xEABSampler)}

    def _sample(self, kind: Any, n: int, calls: int) -> Tensor:
        torch.manual_seed(self.asked.seed)
        solver, parts = kind(self.denoiser.eval(), steps=calls, silent=True), []
        for size in (min(64, n - first) for first in range(0, n, 64)):
            label = torch.randint(self.asked.classes, (size,))
            parts.append(solver(solver.init((size, *self.asked.shape)), label=label))
        return torch.cat(parts)
