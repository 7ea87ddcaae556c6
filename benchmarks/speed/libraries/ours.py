"""unsteep: a run's own step; its DDIM."""

from __future__ import annotations

from torch import Tensor

from speed.libraries import Task
from unsteep import DiTConfig, Run, UNetConfig
from unsteep.data import Given
from unsteep.denoiser import Denoiser
from unsteep.model import Model, ModelConfig
from unsteep.storage.config import override
from unsteep.training.loop import train
from unsteep.training.settings import TrainConfig

NETWORKS = {
    "small": UNetConfig(width=32, multipliers=(1, 2, 2), attention=(8,), groups=8),
    "cifar10": UNetConfig(),
    "dit": DiTConfig(),
}


class Made:
    """See `Library`."""

    def __init__(self, task: Task) -> None:
        self.task = task
        data = Given.of(((task.pictures() + 1) * 127.5).round().byte())
        run = Run(
            data=data,
            model=ModelConfig(network=NETWORKS[task.size]),
            train=TrainConfig(steps=1_000_000, batch=task.batch, precision=task.precision),
        )
        run = override(run, task.settings)
        made = run.made(data.read(), task.device)
        self.network = made.state.module.network
        denoiser = made.state.ema.module
        assert isinstance(denoiser, Denoiser)
        self.model = Model(denoiser, made.description).to(precision=task.precision)
        self._records = train(made, run.train)

    def train(self) -> None:
        next(self._records)

    def sample(self, calls: int) -> Tensor:
        return self.model.sample(self.task.batch, steps=calls, solver="ddim", batch_size=self.task.batch)
