"""The training loop: any module, by any objective (Ho et al. 2020, algorithm 1, with AdamW, warm-up, clipping and an
EMA).

Everything random is a function of (seed, step, place in the batch), dropout included, and the loop's whole state is the
weights, their average, the optimizer and the step. On one machine a run stopped at step k and resumed is bit-equal to
one that was not.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from unsteep.core.noise import Draw
from unsteep.data.batch import Batch
from unsteep.objectives import Loss, Objective
from unsteep.training.ema import EMA


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """How a run trains. `batch` examples per step, in `accumulate` parts; `flip`: mirror pictures at random."""

    steps: int = 10_000
    batch: int = 64
    accumulate: int = 1
    learning_rate: float = 2e-4
    final_learning_rate: float | None = None
    warmup: int = 500
    weight_decay: float = 0.0
    clip: float = 1.0
    ema: float = 0.9999
    flip: bool = False
    precision: Literal["float32", "bf16"] = "float32"
    seed: int = 0
    preview_every: int = 1000
    checkpoint_every: int = 1000
    keep: int = 2

    def __post_init__(self) -> None:
        for name in ("steps", "batch", "accumulate", "preview_every", "checkpoint_every", "keep"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}: expected at least 1, got {getattr(self, name)}")
        for name in ("learning_rate", "clip"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name}: expected a positive number, got {getattr(self, name)}")
        for name in ("warmup", "weight_decay", "final_learning_rate"):
            if (getattr(self, name) or 0) < 0:
                raise ValueError(f"{name}: expected at least 0, got {getattr(self, name)}")
        if not 0 <= self.seed < 2**31:
            raise ValueError(f"seed: expected a whole number from 0 to {2**31 - 1}, got {self.seed}")
        if self.batch % self.accumulate:
            raise ValueError(f"accumulate: {self.accumulate} does not divide a batch of {self.batch}")

    def rate(self, step: int) -> float:
        """The learning rate of step 1, 2, ...: linear warm-up, then constant, or a half cosine to
        `final_learning_rate`."""
        peak = self.learning_rate * min(1.0, step / max(1, self.warmup))
        if self.final_learning_rate is None or step <= self.warmup:
            return peak
        done = (step - self.warmup) / max(1, self.steps - self.warmup)
        low = self.final_learning_rate
        return low + (self.learning_rate - low) * (1 + math.cos(math.pi * min(1.0, done))) / 2


class State:
    """All that changes while training: the module, its average, the optimizer, the number of steps done, and a copy
    of the objective, which may learn what times it draws."""

    def __init__(self, module: nn.Module, config: TrainConfig, objective: Objective) -> None:
        self.module = module
        self.ema = EMA(module, config.ema)
        self.optimizer = torch.optim.AdamW(
            module.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay, fused=True
        )
        self.objective = copy.deepcopy(objective)
        self.step = 0

    def observe(self, loss: Loss) -> None:
        """Shows the objective a loss whose step was taken, if it learns from them."""
        observe = getattr(self.objective, "observe", None)
        if observe is not None:
            observe(loss)

    def objective_state(self) -> dict[str, Tensor]:
        """What the objective has learned; empty for most."""
        state_dict = getattr(self.objective, "state_dict", None)
        return {} if state_dict is None else state_dict()

    def load_objective_state(self, state: dict[str, Tensor]) -> None:
        """Restores what `objective_state` returned."""
        load_state_dict = getattr(self.objective, "load_state_dict", None)
        if load_state_dict is not None:
            load_state_dict(state)


@dataclass(frozen=True)
class Record:
    """What happened in step `step`, counted from 1: the mean loss, the gradient's norm before clipping, the rate."""

    step: int
    loss: float
    gradient_norm: float
    learning_rate: float


class Diverged(ValueError):
    """The loss or its gradient is not a number; the step was not taken."""


def train(
    state: State,
    parts: Callable[[int], Iterable[tuple[Batch, Draw]]],
    config: TrainConfig,
) -> Iterator[Record]:
    """Trains until `config.steps`, yielding after each step. `parts(step)` gives the batch of step 0, 1, ... in
    parts."""
    module, optimizer = state.module, state.optimizer
    device = next(module.parameters()).device
    while state.step < config.steps:
        module.train()
        # Dropout's numbers are a function of seed and step, too. The CPU's generator hears 32 bits of them, over which
        # the golden ratio spreads neighbouring seeds far apart.
        torch.manual_seed((config.seed * 0x9E3779B1 + state.step) % 2**32)
        total, seen = torch.zeros((), device=device), []
        for batch, draw in parts(state.step):
            with torch.autocast(device.type, torch.bfloat16, enabled=config.precision == "bf16"):
                losses = state.objective(module, batch, draw)
                loss = losses.value.sum() / config.batch
            loss.backward()
            total += loss.detach()
            seen.append(losses)
        norm = nn.utils.clip_grad_norm_(module.parameters(), config.clip)
        if not bool(torch.isfinite(total + norm)):
            optimizer.zero_grad()
            raise Diverged(
                f"step {state.step + 1}: the loss is {float(total):.4g}, the norm of its gradient {float(norm):.4g}; "
                f"no update was made"
            )
        for group in optimizer.param_groups:
            group["lr"] = config.rate(state.step + 1)
        optimizer.step()
        optimizer.zero_grad()
        for losses in seen:
            state.observe(losses)
        state.step += 1
        state.ema.update(module, state.step)
        yield Record(state.step, float(total), float(norm), config.rate(state.step))
