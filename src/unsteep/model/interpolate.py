"""The way between two examples, through a model's noise (see `sampling.interpolation`).

latent    mixed at a step of the chain, with shared noise (Ho et al. 2020, section 4.4)
slerp     through deterministic latents at t = 1: DDIM inversion, the great circle between them, DDIM back
"""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor

from unsteep.core.arguments import MOST_SAMPLES, MOST_STEPS, flag, kind, shown, whole
from unsteep.core.condition import Condition
from unsteep.core.noise import NoiseSource
from unsteep.core.schedules import steps_of
from unsteep.model.given import cut, one_of, own_length
from unsteep.model.model import Model
from unsteep.model.request import request
from unsteep.sampling import DDIM, Ancestral, sample
from unsteep.sampling.interpolation import interpolate as mixed_at
from unsteep.sampling.interpolation import invert, levels_from, slerp

Method = Literal["latent", "slerp"]


def interpolate(
    model: Model,
    a: Tensor,
    b: Tensor,
    *,
    method: Method = "latent",
    step: int | None = None,
    frames: int = 9,
    steps: int = 0,
    solver: Any = None,
    label: Any = None,
    seed: int = 0,
    clip: bool = True,
    **others: Any,
) -> Any:
    """From a to b (*shape), all in the data's own units: (frames, ...).

    `step`: of the chain, at which latents are mixed; default, half of it. `steps` of the `solver` (default Ancestral())
    from there down, or of DDIM each way for slerp; 0 for all. `label` and `others`: one for every frame, as of
    `Model.sample`; default, none: two examples of different classes have none in common. `seed`: of the noise that all
    frames share. ValueError for what would be ignored by slerp, which draws nothing: `step`, `solver`, `seed`.
    """
    kind("model", model, Model, "a model", "open one with unsteep.load")
    ends = [one_of(model, one, name) for name, one in (("a", a), ("b", b))]
    if ends[0].shape != ends[1].shape:
        shapes = tuple(ends[0].shape), tuple(ends[1].shape)
        raise ValueError(f"b: expected the shape of a, {shapes[0]}, got {shapes[1]}; cut the longer one")
    asks = {**own_length(model, ends[0]), "label": label, **others}
    if not isinstance(method, str):
        raise ValueError(f"method: unknown method {shown(method)}; known: latent, slerp")
    seed, clip = whole("seed", seed), flag("clip", clip)
    steps, frames = whole("steps", steps, 0, MOST_STEPS), whole("frames", frames, most=MOST_SAMPLES)
    step = None if step is None else whole("step", step)
    if method == "latent":
        return at_level(
            model, *ends, step=step, frames=frames, steps=steps, solver=solver, seed=seed, clip=clip, **asks
        )
    if method != "slerp":
        raise ValueError(f"method: unknown method {method!r}; known: latent, slerp")
    for name, value in (("step", step), ("solver", solver), ("seed", seed or None)):
        if value is not None:
            raise ValueError(f"{name}: slerp goes through t = 1 by DDIM and draws nothing; leave it out")
    return by_inversion(model, *ends, frames=frames, steps=steps, clip=clip, **asks)


def at_level(
    model: Model,
    a: Tensor,
    b: Tensor,
    *,
    step: int | None = None,
    frames: int = 9,
    steps: int = 0,
    solver: Any = None,
    seed: int = 0,
    clip: bool = True,
    **asks: Any,
) -> Any:
    """From a to b, mixed at a step of the chain. The first and last frame are a and b noised to that step and denoised
    again."""
    schedule = model.denoiser.schedule
    share, levels = shares(frames), levels_from(schedule, half(model) if step is None else step, steps)
    x_a, x_b = model.encoded(torch.stack([a, b]))
    of = request(model, 1, seed=seed, solver=Ancestral() if solver is None else solver)  # refuses what is no solver
    condition = _asked(model, frames, asks)
    denoise = model.denoise(condition, clip)
    chosen = model.resolved(of.solver, None, 1.0, len(levels) - 1)
    x = mixed_at(denoise, x_a, x_b, share, levels, chosen, of.seeds.start, schedule.inverse)
    return cut(model, x, condition)


def by_inversion(
    model: Model, a: Tensor, b: Tensor, *, frames: int = 9, steps: int = 0, clip: bool = True, **asks: Any
) -> Any:
    """From a to b through their deterministic latents. Nothing is drawn."""
    share, levels = shares(frames), levels_from(model.denoiser.schedule, steps_of(model.denoiser.schedule), steps)
    ends = model.encoded(torch.stack([a, b]))
    latent_a, latent_b = invert(model.denoise(_asked(model, 2, asks), clip), ends, levels)
    x, condition = slerp(latent_a, latent_b, share), _asked(model, frames, asks)
    return cut(model, sample(model.denoise(condition, clip), x, levels, DDIM(), NoiseSource([0] * frames)), condition)


def shares(frames: int) -> Tensor:
    """b's share of each frame: float64 (frames,) from 0 to 1."""
    if frames < 2:
        raise ValueError(f"frames: expected at least 2, the ends of the way, got {frames}")
    return torch.linspace(0, 1, frames, dtype=torch.float64)


def half(model: Model) -> int:
    """The step in the middle of the chain."""
    return max(1, steps_of(model.denoiser.schedule) // 2)


def _asked(model: Model, n: int, asks: dict[str, Any]) -> Condition | None:
    return request(model, n, asks=asks, usual=False).condition
