"""denoising-diffusion-pytorch: the step of its Trainer; its own DDIM. The network is its own, of as many parameters."""

from __future__ import annotations

import torch
from denoising_diffusion_pytorch import GaussianDiffusion, Unet
from ema_pytorch import EMA
from torch import Tensor

from speed.libraries import Task

UNETS = {"small": (24, (1, 2, 4)), "cifar10": (64, (1, 2, 4, 8))}


class Made:
    """See `Library`."""

    def __init__(self, task: Task) -> None:
        self.task, (width, multipliers) = task, UNETS[task.size]
        self.pictures = ((task.pictures() + 1) / 2).to(task.device)
        self.network = Unet(width, dim_mults=multipliers, channels=task.of.channels)
        self.diffusion = GaussianDiffusion(self.network, image_size=task.of.size, sampling_timesteps=20).to(task.device)
        self.optimizer = torch.optim.Adam(self.diffusion.parameters(), lr=1e-4, betas=(0.9, 0.99))
        self.average = EMA(self.diffusion, beta=0.995, update_every=10)

    def train(self) -> None:
        self.diffusion.train()
        x = self.pictures[torch.randint(len(self.pictures), (self.task.batch,))]
        with self.task.autocast():
            loss = self.diffusion(x)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.diffusion.parameters(), 1.0)
        self.optimizer.step()
        self.optimizer.zero_grad()
        self.average.update()
        loss.item()

    def sample(self, calls: int) -> Tensor:
        self.diffusion.eval()
        self.diffusion.sampling_timesteps = calls
        with self.task.autocast():
            return self.diffusion.sample(batch_size=self.task.batch)
