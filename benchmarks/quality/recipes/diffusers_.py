"""diffusers: its example train_unconditional.py (batch 16, AdamW at 1e-4 with 500 steps of warm-up and a cosine,
average, eps), the U-Net of its course for 28x28; DPM-Solver++ and DDIM."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from diffusers import DDIMScheduler, DDPMScheduler, DPMSolverMultistepScheduler, UNet2DModel
from diffusers.training_utils import EMAModel
from torch import Tensor

from quality.recipes import Asked, Sampler, cosine

BATCH, RATE, WARMUP = 16, 1e-4, 500


class Made:
    """See `Recipe`."""

    def __init__(self, asked: Asked) -> None:
        self.asked, self.done = asked, 0
        self.network = UNet2DModel(
            sample_size=asked.shape[1],
            in_channels=asked.shape[0],
            out_channels=asked.shape[0],
            layers_per_block=2,
            block_out_channels=(32, 64, 64),
            down_block_types=("DownBlock2D", "AttnDownBlock2D", "AttnDownBlock2D"),
            up_block_types=("AttnUpBlock2D", "AttnUpBlock2D", "UpBlock2D"),
        )
        self.schedule = DDPMScheduler(num_train_timesteps=1000)
        self.optimizer = torch.optim.AdamW(
            self.network.parameters(), lr=RATE, betas=(0.95, 0.999), weight_decay=1e-6, eps=1e-8
        )
        self.average = EMAModel(self.network.parameters(), decay=0.9999, use_ema_warmup=True, power=0.75)

    def step(self, spent: float) -> None:
        self.network.train()
        x, _ = self.asked.batch(BATCH)
        noise, t = torch.randn_like(x), torch.randint(0, 1000, (BATCH,))
        loss = F.mse_loss(self.network(self.schedule.add_noise(x, noise, t), t).sample, noise)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.network.parameters(), 1.0)
        self.done += 1
        for group in self.optimizer.param_groups:
            group["lr"] = RATE * min(1.0, self.done / WARMUP) * cosine(spent)
        self.optimizer.step()
        self.optimizer.zero_grad()
        self.average.step(self.network.parameters())

    def samplers(self) -> Mapping[str, Sampler]:
        self.average.copy_to(self.network.parameters())
        return {
            "DPM-Solver++": partial(self._sample, DPMSolverMultistepScheduler),
            "DDIM": partial(self._sample, DDIMScheduler),
        }

    @torch.no_grad()
    def _sample(self, kind: Any, n: int, calls: int) -> Tensor:
        self.network.eval()
        solver = kind.from_config(self.schedule.config)
        solver.set_timesteps(calls)
        x = torch.randn(n, *self.asked.shape, generator=torch.Generator().manual_seed(self.asked.seed))
        for t in solver.timesteps:
            said = torch.cat([self.network(part, t).sample for part in solver.scale_model_input(x, t).split(64)])
            x = solver.step(said, t, x).prev_sample
        return x
