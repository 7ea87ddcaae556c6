"""smalldiffusion: its example fashion_mnist_unet.py (log-linear levels, AdamW at 7e-4, average, mirrored pictures), at
batch 64 in place of 1024, of which too few steps would fit; its own samples with gam=1.6, and DDIM."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from functools import partial

import torch
from smalldiffusion import Scaled, ScheduleLogLinear, Unet, samples, training_loop
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from quality.recipes import Asked, Sampler

BATCH, RATE, DECAY = 64, 7e-4, 0.999


class Mirrored(Dataset[Tensor]):
    """Pictures, mirrored at random."""

    def __init__(self, pictures: Tensor) -> None:
        self.pictures = pictures

    def __len__(self) -> int:
        return len(self.pictures)

    def __getitem__(self, i: int) -> Tensor:
        return self.pictures[i].flip(-1) if torch.rand(()) < 0.5 else self.pictures[i]


class Made:
    """See `Recipe`."""

    def __init__(self, asked: Asked) -> None:
        self.asked, self.done = asked, 0
        self.schedule = ScheduleLogLinear(sigma_min=0.01, sigma_max=20, N=800)
        self.network = Scaled(Unet)(
            asked.shape[1], asked.shape[0], asked.shape[0], ch=64, ch_mult=(1, 1, 2), attn_resolutions=(14,)
        )
        self.average = copy.deepcopy(self.network)
        loader = DataLoader(Mirrored(asked.pictures), batch_size=BATCH, shuffle=True)
        self._steps = training_loop(loader, self.network, self.schedule, lr=RATE)

    @torch.no_grad()
    def step(self, spent: float) -> None:
        with torch.enable_grad():
            next(self._steps)
        self.done += 1
        decay = min(DECAY, (1 + self.done) / (10 + self.done))
        torch._foreach_lerp_(list(self.average.parameters()), list(self.network.parameters()), 1 - decay)

    def samplers(self) -> Mapping[str, Sampler]:
        return {"gam 1.6": partial(self._sample, 1.6), "DDIM": partial(self._sample, 1.0)}

    def _sample(self, gam: float, n: int, calls: int) -> Tensor:
        torch.manual_seed(self.asked.seed)
        levels, parts = self.schedule.sample_sigmas(calls), []
        for size in (min(64, n - first) for first in range(0, n, 64)):
            *_, x = samples(self.average, levels, gam=gam, batchsize=size)
            parts.append(x)
        return torch.cat(parts)
