"""diffusers: the step of its example train_unconditional.py, with the average; its DDIMScheduler."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from diffusers import DDIMScheduler, DDPMScheduler, DiTTransformer2DModel, UNet2DModel
from diffusers.optimization import get_scheduler
from diffusers.training_utils import EMAModel
from torch import Tensor

from speed.libraries import Task

UNETS: dict[str, dict[str, Any]] = {
    "small": {
        "block_out_channels": (32, 64, 64),
        "down_block_types": ("DownBlock2D", "DownBlock2D", "AttnDownBlock2D"),
        "up_block_types": ("AttnUpBlock2D", "UpBlock2D", "UpBlock2D"),
        "norm_num_groups": 8,
    },
    "cifar10": {
        "block_out_channels": (128, 256, 256, 256),
        "down_block_types": ("DownBlock2D", "AttnDownBlock2D", "DownBlock2D", "DownBlock2D"),
        "up_block_types": ("UpBlock2D", "UpBlock2D", "AttnUpBlock2D", "UpBlock2D"),
    },
}


def network_of(task: Task) -> Any:
    """The network: one head of attention, as in the published google/ddpm-cifar10-32."""
    of = task.of
    if task.size == "dit":
        return DiTTransformer2DModel(
            num_attention_heads=6, attention_head_dim=64, in_channels=of.channels, num_layers=12, sample_size=of.size,
            num_embeds_ada_norm=1,
        )  # fmt: skip
    return UNet2DModel(
        sample_size=of.size, in_channels=of.channels, out_channels=of.channels, layers_per_block=2,
        attention_head_dim=None, downsample_padding=0, flip_sin_to_cos=False, freq_shift=1, **UNETS[task.size],
    )  # fmt: skip


class Made:
    """See `Library`."""

    def __init__(self, task: Task) -> None:
        self.task, self.pictures = task, task.pictures().to(task.device)
        self.network = network_of(task).to(task.device)
        self.schedule = DDPMScheduler(num_train_timesteps=1000)
        self.optimizer = torch.optim.AdamW(
            self.network.parameters(), lr=1e-4, betas=(0.95, 0.999), weight_decay=1e-6, eps=1e-8
        )
        self.rates = get_scheduler("cosine", self.optimizer, num_warmup_steps=500, num_training_steps=1_000_000)
        self.average = EMAModel(self.network.parameters(), decay=0.9999, use_ema_warmup=True, power=0.75)

    def answer(self, x: Tensor, t: Tensor) -> Tensor:
        """The network's, which is told the one class there is where it wants one."""
        if self.task.size != "dit":
            return self.network(x, t).sample
        labels = torch.zeros(len(x), dtype=torch.int64, device=x.device)
        return self.network(x, timestep=t.expand(len(x)), class_labels=labels).sample

    def train(self) -> None:
        self.network.train()
        x = self.pictures[torch.randint(len(self.pictures), (self.task.batch,))]
        noise = torch.randn_like(x)
        t = torch.randint(0, 1000, (self.task.batch,), device=x.device)
        with self.task.autocast():
            loss = F.mse_loss(self.answer(self.schedule.add_noise(x, noise, t), t).float(), noise)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.network.parameters(), 1.0)
        self.optimizer.step()
        self.rates.step()
        self.optimizer.zero_grad()
        self.average.step(self.network.parameters())
        loss.item()  # its progress bar shows it

    @torch.no_grad()
    def sample(self, calls: int) -> Tensor:
        self.network.eval()
        solver = DDIMScheduler.from_config(self.schedule.config)
        solver.set_timesteps(calls)
        x = torch.randn(self.task.of.shape(self.task.batch), device=self.task.device)
        for t in solver.timesteps:
            with self.task.autocast():
                said = self.answer(x, t)
            x = solver.step(said, t, x).prev_sample
        return x
