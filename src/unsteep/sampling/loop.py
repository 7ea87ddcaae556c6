"""From noise to data: one loop over neighbouring levels, whatever the solver.

    x_now -> x_nxt = solver.step(denoise, x_now, now, nxt, ...)

for the pairs (now, nxt) of a grid, noise first, clean last; the `nxt` of a step is the `now` of the following one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol, Self, runtime_checkable

import torch
from torch import Tensor

from unsteep.core.arguments import floats, kind, shown
from unsteep.core.estimate import Estimate
from unsteep.core.level import NoiseLevel, check_cleaner, level_of, like
from unsteep.core.noise import NoiseSource
from unsteep.core.precision import arithmetic
from unsteep.core.schedules import Schedule
from unsteep.denoiser import Denoise

At = Callable[[Tensor], NoiseLevel]


CALLED = {"denoise": "a denoiser", "at": "what gives the level of a log-SNR", "solver": "a solver, as DDIM()"}


class Solver(Protocol):
    """One step of a sampler. `noise` is this step's own stream; `memory` is what the solver returned last (None at
    first); `at` gives the level of a log-SNR, for stages between levels. No noise is added where nxt.sigma = 0."""

    def step(
        self,
        denoise: Denoise,
        x: Tensor,
        now: NoiseLevel,
        nxt: NoiseLevel,
        noise: NoiseSource,
        memory: Any,
        at: At | None,
    ) -> tuple[Tensor, Estimate, Any]: ...


@runtime_checkable
class Planning(Protocol):
    """A solver that can do at once, before the first step, what depends on the levels of all steps alone, and on the
    shape, dtype and device of x."""

    def planned(self, levels: NoiseLevel, x: Tensor) -> Self: ...


@dataclass(frozen=True)
class Step:
    """`x` at `level` after a step, and the `estimate` that the step was made from (at the level before).

    The levels are of shape (), or (b,) where each sample has its own.
    """

    x: Tensor
    estimate: Estimate
    level: NoiseLevel


@runtime_checkable
class Driver(Protocol):
    """A sampler that lays its levels as it goes, in place of a solver on a grid."""

    def walk(self, denoise: Denoise, x: Tensor, schedule: Schedule, noise: NoiseSource) -> Iterator[Step]:
        """Every step from x (b, ...) at t = 1 to clean data, whose x is the sample."""
        ...


def is_solver(one: Any) -> bool:
    """Whether it takes steps, and is not the class of one that does."""
    return not isinstance(one, type) and callable(getattr(one, "step", None))


def called(solver: object) -> str:
    """A solver in words: its own `name`, as of a driver that comes in several, or its class."""
    return str(getattr(solver, "name", type(solver).__name__))


def initial_noise(like_x: Tensor, first: NoiseLevel, noise: NoiseSource) -> Tensor:
    """Where a sampler starts: normal noise of standard deviation sqrt(alpha^2 + sigma^2) of the first level."""
    x = noise.at(0).normal(like_x, draw=0)
    return like(first.scale, x) * x


def trajectory(
    denoise: Denoise, x: Tensor, levels: NoiseLevel, solver: Solver, noise: NoiseSource, at: At | None = None
) -> Iterator[Step]:
    """Every step from levels[0] to levels[-1], starting at x (b, ...). The caller decides what to keep.

    Step i draws from stream i + 1 of `noise` (stream 0 made x). Runs under no_grad, not inference_mode: guidance may
    need gradients of its own; and out of the caller's autocast, but for networks. ValueError where a level is noisier
    than the one before it.
    """
    if level_of("levels", levels).t.ndim not in (1, 2) or len(levels) < 2:
        raise ValueError(f"levels: expected a row of at least two, got {shown(levels.t)}; make them with grid()")
    check_cleaner(levels[:-1], levels[1:])
    floats("x", x)
    kind("noise", noise, NoiseSource, "a source of noise", "make it with NoiseSource(range(4))")
    noise.check(x)
    given = {"denoise": denoise, "solver": getattr(solver, "step", None), "at": at}
    for name, value in given.items():
        whole = solver if name == "solver" else value
        if isinstance(whole, type) or not (callable(value) or (at is None and name == "at")):
            raise ValueError(f"{name}: expected {CALLED[name]}, got {shown(whole)}; give one")
    return _steps(denoise, x, levels, solver, noise, at)


def _steps(
    denoise: Denoise, x: Tensor, levels: NoiseLevel, solver: Solver, noise: NoiseSource, at: At | None
) -> Iterator[Step]:
    memory = None
    solver = solver.planned(levels, x) if isinstance(solver, Planning) else solver
    now = levels[0]
    for i in range(len(levels) - 1):
        nxt = levels[i + 1]
        with torch.no_grad(), arithmetic():  # inside the loop: a generator must not leave them on in the caller's code
            try:
                made = solver.step(denoise, x, now, nxt, noise.at(i + 1), memory, at)
            except (AttributeError, TypeError):
                _check_denoise(denoise, x, now)
                raise
        if not isinstance(made, tuple) or len(made) != 3:
            raise ValueError(
                f"solver: expected step() to return (x, estimate, memory), got {shown(made)}; return these"
            )
        x, estimate, memory = made
        yield Step(x, estimate, nxt)
        now = nxt


def _check_denoise(denoise: Denoise, x: Tensor, level: NoiseLevel) -> None:
    """ValueError where what a step has failed on is no denoiser, as a bare network."""
    try:
        answer: Any = denoise(x, level)
    except (AttributeError, TypeError) as error:
        answer = error
    if not isinstance(answer, Estimate):
        raise ValueError(
            f"denoise: expected a denoiser, which makes an Estimate of (x, level), got {type(denoise).__name__} and "
            f"{shown(answer)}; make one of a network with Denoiser(network, schedule)"
        )


def driven(denoise: Denoise, x: Tensor, schedule: Schedule, driver: Driver, noise: NoiseSource) -> Iterator[Step]:
    """Every step of a driver from x (b, ...) at t = 1, under no_grad, and out of autocast, as those of `trajectory`."""
    walk = iter(driver.walk(denoise, x, schedule, noise))
    while True:
        with torch.no_grad(), arithmetic():
            step = next(walk, None)
        if step is None:
            return
        yield step


def sample(
    denoise: Denoise, x: Tensor, levels: NoiseLevel, solver: Solver, noise: NoiseSource, at: At | None = None
) -> Tensor:
    """The x that `trajectory` ends with."""
    for step in trajectory(denoise, x, levels, solver, noise, at):
        x = step.x
    return x
