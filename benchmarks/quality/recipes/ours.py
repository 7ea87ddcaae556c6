"""unsteep: its recipe fashion-mnist, by class, or array, as on a CPU; with the annealing, the warm-up and the average
of as many steps as fit; its default solver, and DDIM."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

from torch import Tensor

from quality.recipes import HELD_OUT, Asked, Sampler
from unsteep.model import Model
from unsteep.starting import configured
from unsteep.training.loop import train
from unsteep.training.settings import TrainConfig

NOMINAL = 1_000_000
"""Steps that stand for the whole time."""
WARMUP = 0.05
"""The share of the time in which the rate rises."""
AVERAGED = 30
"""The average reaches over a 30th of the steps."""


@dataclass(frozen=True, kw_only=True)
class Timed(TrainConfig):
    """Training whose learning rate follows the share of the time that is gone."""

    spent: Callable[[], float]

    def rate(self, step: int) -> float:
        return super().rate(max(1, round(NOMINAL * min(1.0, self.spent()))))


class Made:
    """See `Recipe`."""

    def __init__(self, asked: Asked) -> None:
        settings = [*asked.settings, f"train.seed={asked.seed}"]
        if asked.data.endswith(".npz"):
            run = configured("array", asked.data, [f"data.holdout={HELD_OUT}", *settings])
        else:
            run = configured("fashion-mnist", asked.data, settings)
        self.task: Any = run.made(run.data.read("train"), "cpu")
        self.network = self.task.state.module.network
        self.spent, self.seed, self.decay = 0.0, asked.seed, run.train.ema
        known = {**asdict(run.train), "steps": NOMINAL, "warmup": round(WARMUP * NOMINAL)}
        self._records = train(self.task, Timed(**known, spent=lambda: self.spent))

    def step(self, spent: float) -> None:
        self.spent = spent
        if spent:
            fit = self.task.step / spent
            self.task.state.ema.decay = min(self.decay, max(0.9, 1 - AVERAGED / max(1.0, fit)))
        next(self._records)

    def samplers(self) -> Mapping[str, Sampler]:
        model = self.task.model

        def sample(solver: str | None, n: int, calls: int) -> Tensor:
            assert isinstance(model, Model)
            return model.sample(n, steps=calls, solver=solver, seed=10_000 * self.seed)

        return {"default solver": partial(sample, None), "DDIM": partial(sample, "ddim")}
