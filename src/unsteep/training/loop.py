"""The training loop: any module, by any objective (Ho et al. 2020, algorithm 1, with AdamW, warm-up, clipping and an
EMA).

Everything random is a function of (seed, step, place in the batch), dropout included, and the loop's whole state is the
weights, their average, the optimizer and the step. On one machine a run stopped at step k and resumed is bit-equal to
one that was not.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from unsteep.core.noise import Draw
from unsteep.core.precision import arithmetic
from unsteep.data import cache
from unsteep.data.batch import Batch
from unsteep.networks import compiling
from unsteep.networks.precision import Decision, decided, run_in
from unsteep.networks.recomputing import recomputing
from unsteep.objectives import Loss, Objective
from unsteep.training.ema import EMA
from unsteep.training.settings import TrainConfig

Parts = Iterable[tuple[Batch, Draw]]


class State:
    """What one module is while it trains: itself, its average, the optimizer, and a copy of the objective, which may
    learn what times it draws. In fp16, whose smallest gradients would vanish, the loss is scaled. `shape`: that of an
    example, which says how much work there is."""

    def __init__(self, module: nn.Module, config: TrainConfig, objective: Objective, shape: Sequence[int] = ()) -> None:
        if next(module.parameters(), None) is None:
            raise ValueError(
                f"model.network: {type(module).__name__} has no weight to train; register some as parameters"
            )
        self.module = module
        self.ema = EMA(module, config.ema)
        if config.checkpointing:
            recomputing(module)
        self.optimizer = torch.optim.AdamW(
            module.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay, fused=True
        )
        self.objective = copy.deepcopy(objective)
        self.updates = 0
        self.device = next(module.parameters()).device
        self.compile(compiling.Taken(config.compile == "on"))
        self.take(decided(config.precision, module, self.device, shape, config.batch // config.accumulate))

    def take(self, precision: Decision) -> None:
        """Runs the module, and its average, in a precision."""
        self.precision = precision
        for module in (self.module, self.ema.module):
            run_in(module, precision.precision)
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=precision.precision == "fp16")

    def compile(self, decision: compiling.Taken) -> None:
        """Compiles the module for its training steps, or not; its average never."""
        self.compiled = decision
        self.module.train()
        compiling.compile_in(self.module, decision, cache.compiled())

    @property
    def may_skip(self) -> bool:
        """Whether a gradient that is not finite may be that of a loss scaled up too far. At a scale of 1 it is not."""
        return self.scaler.is_enabled() and self.scaler.get_scale() > 1

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


class Trains(Protocol):
    """What a loop trains. `step`: how many were done, which the loop counts."""

    step: int

    @property
    def trained(self) -> Mapping[str, State]:
        """The states by name."""
        ...

    def turn(self, step: int) -> str:
        """Which of them step 0, 1, ... trains."""
        ...

    def parts(self, step: int) -> Parts:
        """The batch of step 0, 1, ... in parts, each with its randomness."""
        ...


class Single:
    """One state, trained on `batches(step)`."""

    def __init__(self, state: State, batches: Callable[[int], Parts]) -> None:
        self.trained: Mapping[str, State] = {"model": state}
        self.batches, self.step = batches, 0

    def turn(self, step: int) -> str:
        return "model"

    def parts(self, step: int) -> Parts:
        return self.batches(step)


@dataclass(frozen=True)
class Record:
    """What happened in step `step`, counted from 1: the mean loss, the gradient's norm before clipping, the rate; and
    `waited`, the seconds until its examples were there.

    `skipped`: steps so far that made no update, since the gradient overflowed in fp16 (it is None then); None in other
    precisions. `terms`: the means of the loss's parts by their names, where it has several.
    """

    step: int
    loss: float
    gradient_norm: float | None
    learning_rate: float
    skipped: int | None = None
    waited: float = 0.0
    terms: Mapping[str, float] | None = None


class Diverged(ValueError):
    """The loss or its gradient is not a number, and the step was not taken; or a run is lost. `details`: what was seen,
    for whoever looks for the cause."""

    def __init__(self, message: str, details: Mapping[str, Any] | None = None) -> None:
        super().__init__(message)
        self.details: Mapping[str, Any] = details or {}


def train(task: Trains, config: TrainConfig) -> Iterator[Record]:
    """Trains until `config.steps`, yielding after each step."""
    while task.step < config.steps:
        state = task.trained[task.turn(task.step)]
        module, optimizer = state.module, state.optimizer
        module.train()
        total, seen, shown = torch.zeros((), device=state.device), [], []
        waiting = Waiting(task.parts(task.step))
        for part, (batch, draw) in enumerate(waiting):
            with seeded_part(config.seed, task.step, part, state.device), arithmetic():
                losses = state.objective(module, batch, draw)
                loss = losses.value.sum() / config.batch
                state.scaler.scale(loss).backward()
            total += loss.detach()
            seen.append(losses)
            shown.append(batch)
        state.scaler.unscale_(optimizer)
        norm = nn.utils.clip_grad_norm_(module.parameters(), config.clip)
        taken = bool(torch.isfinite(norm))
        if not bool(torch.isfinite(total)) or not (taken or state.may_skip):
            seen_then = symptoms(module, shown, seen)
            optimizer.zero_grad()
            raise Diverged(
                f"step {task.step + 1}: the loss is {float(total):.4g}, the norm of its gradient {float(norm):.4g}; "
                f"no update was made",
                seen_then,
            )
        if taken:
            for group in optimizer.param_groups:
                group["lr"] = config.rate(task.step + 1)
            optimizer.step()
            for losses in seen:
                state.observe(losses)
            state.updates += 1
            state.ema.update(module, state.updates)
        optimizer.zero_grad()
        state.scaler.update()
        task.step += 1
        skipped = skips(task) if state.scaler.is_enabled() else None
        yield Record(
            task.step,
            float(total),
            float(norm) if taken else None,
            config.rate(task.step),
            skipped,
            waiting.seconds,
            _terms(seen, config.batch),
        )


def _terms(seen: Sequence[Loss], batch: int) -> dict[str, float] | None:
    """The means over a batch, seen in parts, of what its loss is made of; None of a loss of one part."""
    names = seen[0].terms
    if len(names) < 2:
        return None
    return {name: float(sum(loss.terms[name].detach().sum() for loss in seen)) / batch for name in names}


def trial(task: Trains, config: TrainConfig) -> float:
    """The loss that the next step would begin with: nothing is updated, and no generator moves."""
    state = task.trained[task.turn(task.step)]
    training, total = state.module.training, 0.0
    state.module.eval()
    with torch.no_grad(), arithmetic():
        for batch, draw in task.parts(task.step):
            total += float(state.objective(state.module, batch, draw).value.sum()) / config.batch
    state.module.train(training)
    return total


def taken(task: Trains, config: TrainConfig) -> TrainConfig:
    """The settings with what a new run takes where they leave it open: its precision, and whether it is compiled. Its
    states then run so."""
    first, *others = task.trained.values()
    for state in others:
        state.take(first.precision)
    compiled = compiling.decided(config.compile, first.device, lambda: expected(task, config))
    for state in task.trained.values():
        state.compile(compiled)
    return replace(config, precision=first.precision.precision, compile="on" if compiled.compiled else "off")


STEP = 3.0  # times as long as its forward pass


def expected(task: Trains, config: TrainConfig) -> float:
    """Seconds that training will take, roughly, by the time of one forward pass."""
    trial(task, config)  # the first is slower
    began = time.perf_counter()
    trial(task, config)
    return STEP * (time.perf_counter() - began) * (config.steps - task.step)


class Waiting:
    """Passes on what it iterates over, and keeps how many seconds were spent on waiting for it."""

    def __init__(self, items: Iterable[Any]) -> None:
        self._items, self.seconds = iter(items), 0.0

    def __iter__(self) -> Iterator[Any]:
        return self

    def __next__(self) -> Any:
        began = time.perf_counter()
        try:
            return next(self._items)
        finally:
            self.seconds += time.perf_counter() - began


SYMPTOMS = 8  # layers and examples that are named


def symptoms(module: nn.Module, batches: Sequence[Batch], losses: Sequence[Loss]) -> dict[str, Any]:
    """Of a step that failed: the layers with the largest weights, the examples with the largest losses and their
    times."""
    norms = {name: float(weight.detach().float().norm()) for name, weight in module.named_parameters()}
    value, t = (torch.cat([getattr(one, name).detach().float().cpu() for one in losses]) for name in ("value", "t"))
    index = torch.cat([batch.index.cpu() for batch in batches])
    broken = torch.cat([~torch.isfinite(batch.x.flatten(1)).all(1).cpu() for batch in batches])
    order = torch.argsort(value.nan_to_num(float("inf"), float("inf"), float("inf")), descending=True)[:SYMPTOMS]
    worst = sorted(norms.items(), key=lambda one: -one[1] if one[1] == one[1] else -float("inf"))[:SYMPTOMS]
    return {
        "norms of the largest weights": {name: f"{norm:.4g}" for name, norm in worst},
        "examples with the largest losses": [
            f"example {int(index[i])} at t = {float(t[i]):.4f}: {float(value[i]):.4g}" for i in order
        ],
        "examples not finite": index[broken].tolist()[:SYMPTOMS],
    }


def skips(task: Trains) -> int:
    """Steps that made no update: those of fp16 that overflowed."""
    return task.step - sum(state.updates for state in task.trained.values())


@contextmanager
def seeded_part(seed: int, step: int, part: int, device: torch.device) -> Iterator[None]:
    """Dropout's numbers as a function of (seed, step, part); the generators of the caller are left as they were.

    The CPU's generator hears 32 bits of them, over which odd multipliers near the golden ratio spread neighbours far
    apart.
    """
    elsewhere = None if device.type == "cpu" else torch.get_device_module(device)
    before = torch.get_rng_state(), None if elsewhere is None else elsewhere.get_rng_state()
    torch.manual_seed((seed * 0x9E3779B1 + step + part * 0x85EBCA6B) % 2**32)
    try:
        yield
    finally:
        torch.set_rng_state(before[0])
        if elsewhere is not None and before[1] is not None:
            elsewhere.set_rng_state(before[1])
