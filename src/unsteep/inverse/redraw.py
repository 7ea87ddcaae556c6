"""A picture drawn again from part of the way to noise (SDEdit; Meng et al. 2022):

    x_t = alpha x0 + sigma eps  at t = strength,  then the reverse process from there

The more noise, the less of the picture is left: at strength 0 it is itself, and at 1 what alpha leaves of it, which is
nothing only on schedules that end in pure noise.
"""

from __future__ import annotations

import math

from torch import Tensor

from unsteep.core.level import add_noise
from unsteep.core.noise import NoiseSource
from unsteep.core.schedules import Schedule, steps_of
from unsteep.denoiser import Denoise
from unsteep.sampling.interpolation import levels_from
from unsteep.sampling.loop import Solver, sample


def redraw(
    denoise: Denoise,
    x0: Tensor,
    schedule: Schedule,
    strength: float,
    steps: int,
    solver: Solver,
    noise: NoiseSource,
) -> Tensor:
    """x0 (b, ...) noised to t = `strength` in [0, 1] and denoised again in `steps`, evenly in t; 0: every step there.

    On a chain, and one of 1000 steps where the schedule is none, it starts from `step_of` the strength.
    """
    step = step_of(schedule, strength)
    if step == 0:
        return x0
    levels = levels_from(schedule, step, steps)
    x = add_noise(x0, noise.at(0).normal(x0, draw=0), levels[0])
    return sample(denoise, x, levels, solver, noise, schedule.inverse)


def step_of(schedule: Schedule, strength: float) -> int:
    """The first step of the chain whose t is at least `strength`."""
    if not 0 <= strength <= 1:
        raise ValueError(f"strength: expected a time from 0, the picture itself, to 1, pure noise; got {strength}")
    return math.ceil(round(strength * steps_of(schedule), 6))
