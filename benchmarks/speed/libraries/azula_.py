"""azula: the loop and the wrapper of its tutorials, its own networks of as many parameters as ours, its DDIMSampler."""

from __future__ import annotations

import torch
from azula.denoise import KarrasDenoiser
from azula.nn.dit import DiT
from azula.nn.unet import UNet
from azula.noise import VPSchedule
from azula.sample import DDIMSampler
from torch import Tensor, nn
from torch.nn import functional as F

from speed.libraries import Task

UNETS = {"small": ((28, 56, 112), (2, 2, 2), 64), "cifar10": ((112, 224, 448), (3, 3, 3), 256)}
WIDTH, DEPTH, PATCH = 384, 14, 2


class Timed(nn.Module):
    """A network of its own that hears the noise level as in its tutorials."""

    def __init__(self, network: nn.Module, features: int, patch: int = 0) -> None:
        super().__init__()
        self.network, self.patch = network, patch
        self.time_embedding = nn.Sequential(nn.Linear(1, features), nn.SiLU(), nn.Linear(features, features))

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        modulation = self.time_embedding(t[..., None])
        if not self.patch:
            return self.network(x, modulation)
        small = F.pixel_unshuffle(x, self.patch)
        tokens = self.network(small.flatten(2).transpose(1, 2), modulation)
        return F.pixel_shuffle(tokens.transpose(1, 2).unflatten(2, small.shape[2:]), self.patch)


def network_of(task: Task) -> Timed:
    """At a size."""
    channels = task.of.channels
    if task.size == "dit":
        inside = channels * PATCH**2
        dit = DiT(inside, inside, mod_features=WIDTH, hid_channels=WIDTH, hid_blocks=DEPTH, attention_heads=6)
        return Timed(dit, WIDTH, PATCH)
    widths, blocks, features = UNETS[task.size]
    return Timed(UNet(channels, channels, hid_channels=widths, hid_blocks=blocks, mod_features=features), features)


class Made:
    """See `Library`. Its loop neither clips gradients nor averages weights."""

    def __init__(self, task: Task) -> None:
        self.task, self.pictures = task, task.pictures().to(task.device)
        self.network = network_of(task)
        self.denoiser = KarrasDenoiser(self.network, VPSchedule()).to(task.device)
        self.optimizer = torch.optim.Adam(self.denoiser.parameters(), lr=3e-4)

    def train(self) -> None:
        self.denoiser.train()
        x = self.pictures[torch.randint(len(self.pictures), (self.task.batch,))]
        with self.task.autocast():
            loss = self.denoiser.loss(x, torch.rand(len(x), device=x.device))
        loss.backward()
        self.optimizer.step()
        self.optimizer.zero_grad()
        loss.item()

    def sample(self, calls: int) -> Tensor:
        solver = DDIMSampler(self.denoiser.eval(), steps=calls, silent=True)
        x = solver.init(self.task.of.shape(self.task.batch), device=self.task.device)
        with self.task.autocast():
            return solver(x)
