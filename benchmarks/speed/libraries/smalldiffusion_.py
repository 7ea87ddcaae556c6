"""smalldiffusion: its training_loop and its samples, by accelerate, as its examples call them."""

from __future__ import annotations

import torch
from accelerate import Accelerator
from smalldiffusion import DiT, Scaled, ScheduleDDPM, Unet, samples, training_loop
from torch import Tensor
from torch.utils.data import DataLoader

from speed.libraries import Task

UNETS = {"small": (32, (1, 2, 2), (8,)), "cifar10": (128, (1, 2, 2, 2), (16,))}


class Made:
    """See `Library`. Its loop neither clips gradients nor averages weights."""

    def __init__(self, task: Task) -> None:
        self.task, of = task, task.of
        if task.size == "dit":
            self.network = Scaled(DiT)(in_dim=of.size, channels=of.channels, patch_size=2, depth=12, num_heads=6)
        else:
            width, multipliers, attention = UNETS[task.size]
            self.network = Scaled(Unet)(
                of.size,
                of.channels,
                of.channels,
                ch=width,
                ch_mult=multipliers,
                attn_resolutions=attention,
                dropout=0.0,
            )
        self.schedule = ScheduleDDPM()
        mixed = "bf16" if task.precision == "bf16" else "no"
        self.accelerator = Accelerator(cpu=task.device == "cpu", mixed_precision=mixed)
        loader = DataLoader(task.pictures(), batch_size=task.batch, shuffle=True, drop_last=True)  # type: ignore[arg-type]
        self._steps = training_loop(loader, self.network, self.schedule, accelerator=self.accelerator)

    def train(self) -> None:
        next(self._steps).loss.item()

    def sample(self, calls: int) -> Tensor:
        levels = self.schedule.sample_sigmas(calls)
        with self.task.autocast():
            *_, x = samples(self.network, levels, batchsize=self.task.batch, accelerator=self.accelerator)
        return torch.as_tensor(x)
