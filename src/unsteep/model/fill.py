"""Filling in: what is missing from an example, as a model would have it.

repaint    the surroundings are put in at every step, and stretches of steps are walked again to make the filling
           fit (Lugmayr et al. 2022; `inverse.repaint`)
pigdm      the model is guided by the gradient of what is known (Song et al. 2023; `inverse.posterior`), in fewer
           but dearer calls
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal

import torch
from torch import Tensor

from unsteep.core.arguments import MOST_SAMPLES, MOST_STEPS, kind, number, shown, whole
from unsteep.core.noise import NoiseSource
from unsteep.core.schedules import steps_of
from unsteep.guidance import Clip
from unsteep.guidance.setting import Guidance
from unsteep.inverse import Kept, Mask, PiGDM
from unsteep.inverse.posterior import unit_variance
from unsteep.inverse.repaint import fill as repainted
from unsteep.inverse.repaint import passes
from unsteep.model.given import after, cut, joined, one_of
from unsteep.model.model import Model
from unsteep.model.request import Request
from unsteep.pages.progress import bar
from unsteep.sampling import Step, initial_noise, trajectory

Method = Literal["repaint", "pigdm"]
METHODS: tuple[Method, ...] = ("repaint", "pigdm")
REPAINT_STEPS = 50
RESAMPLES = 5


def fill(
    model: Model,
    picture: Tensor,
    mask: Tensor,
    n: int = 8,
    *,
    label: Any = None,
    prompt: Any = None,
    given: Tensor | None = None,
    guidance: float | Guidance = 1.0,
    method: Method = "repaint",
    steps: int | None = None,
    solver: Any = None,
    jump: int | None = None,
    resamples: int | None = None,
    left: float | None = None,
    seed: int = 0,
    batch_size: int = 64,
    progress: bool = False,
    **others: Any,
) -> Any:
    """n ways to fill in one example (*shape) in the data's own units, those of the seeds from `seed` on; what is known
    stays exactly as it is.

    `mask`: bool, of the example's shape, or 1 along a dimension, or of its last two: true where to fill in. `label`,
    `prompt`, `given` (an aligned picture) and `others`: as of `Model.sample`; what is not named is none. `steps`:
    default 50 for repaint and 20 for pigdm, or the chain's where it has fewer. `solver`: default, ancestral with the
    variance beta_tilde; for repaint, where nothing is remembered from step to step, a multistep method is its first
    step. `jump`: steps of a stretch that is walked again, default a tenth; `resamples`: how often, default 5; both for
    repaint alone. `left`: for pigdm alone, the share that is left, where the estimate of x0 is known, of the variance
    that it would have if no two numbers knew of each other; default 1. Less pulls harder towards what is known, as fits
    sequences, whose frames are alike. ValueError where nothing or everything is to be filled in, and for what does not
    fit the model.
    """
    kind("model", model, Model, "a model", "open one with unsteep.load")
    if not isinstance(method, str) or method not in METHODS:
        raise ValueError(f"method: unknown method {shown(method)}; known: {', '.join(METHODS)}")
    whole("batch_size", batch_size, 1, MOST_SAMPLES)
    original = one_of(model, picture, "picture")
    known = known_by(model, mask, tuple(original.shape))
    usual = min(REPAINT_STEPS, steps_of(model.denoiser.schedule)) if method == "repaint" else model.default_steps
    n = whole("n", n, most=MOST_SAMPLES)
    for name, value in (("jump", jump), ("resamples", resamples)):
        if value is not None and method != "repaint":
            raise ValueError(f"{name}: {method} walks no stretch again; leave it out, or take method=repaint")
    resamples = RESAMPLES if resamples is None else whole("resamples", resamples, 1, MOST_STEPS)
    if left is not None and method != "pigdm":
        raise ValueError(f"left: {method} is guided by no gradient; leave it out, or take method=pigdm")
    left = 1.0 if left is None else number("left", left, 1e-3, 1)
    asks = {"label": label, "prompt": prompt, **others}
    steps = usual if steps is None else steps
    of = after(model, original, n, asks, given, seed=seed, guidance=guidance, steps=steps, solver=solver)
    jump = max(1, steps // 10) if jump is None else whole("jump", jump, 1)
    if method == "repaint" and resamples > 1 and jump >= steps:
        raise ValueError(f"jump: expected fewer than the {steps} steps, got {jump}; take more steps, or resamples=1")
    each = sum(stop - start for start, stop in passes(steps, jump, resamples)) if method == "repaint" else steps
    x0, done = model.encoded(original[None]), []
    with model.fitting(), bar(progress, -(-n // batch_size) * each, "filling in") as advance:
        for start in range(0, n, batch_size):
            part = of.select(slice(start, start + batch_size))
            wide = x0.expand(part.n, *x0.shape[1:])
            walk = (
                _repainted(model, wide, known, part, jump, resamples)
                if method == "repaint"
                else _guided(model, x0, known, part, left)
            )
            for step in walk:
                x = step.x
                advance()
            filled = torch.where(known.to(x.device), x0, x)  # whatever the last step is
            done.append(cut(model, filled, part.condition))
    return joined(done)


def known_by(model: Model, mask: Tensor, shape: tuple[int, ...]) -> Tensor:
    """What is kept of an example of this shape, bool, to broadcast with one inside the model: where the mask is false,
    and in the padding of a sequence. ValueError for a mask
    of another type or shape, and for one of all or nothing."""
    if not isinstance(mask, Tensor) or mask.dtype != torch.bool:
        got = mask.dtype if isinstance(mask, Tensor) else type(mask).__name__
        raise ValueError(f"mask: expected bools, true where to fill in, got {got}; compare it, as mask > 127")
    wide = mask[(None,) * max(0, len(shape) - mask.ndim)]
    if wide.ndim != len(shape) or any(a not in (1, b) for a, b in zip(wide.shape, shape, strict=True)):
        raise ValueError(f"mask: expected one of {shape}, or of its last two, got {tuple(mask.shape)}")
    if bool(mask.all()) or not bool(mask.any()):
        what = "all is to be filled in, so nothing is kept" if bool(mask.all()) else "nothing is to be filled in"
        raise ValueError(f"mask: {what}; set it where something is missing")
    missing = model.space.shape[0] - shape[0]  # of a sequence, whose frames come first
    if missing <= 0 or wide.shape[0] == 1:
        return ~wide
    return torch.cat([~wide, wide.new_ones(missing, *wide.shape[1:])])


def _repainted(model: Model, x0: Tensor, known: Tensor, of: Request, jump: int, resamples: int) -> Iterator[Step]:
    assert of.steps is not None
    chosen = model.resolved(of.solver, of.condition, of.guidance, of.steps)
    levels = model.levels(None, of.steps, chosen, of.guidance)
    denoise, noise = model.denoise(of.condition, guidance=of.guidance), NoiseSource(of.seeds)
    at = model.denoiser.schedule.inverse
    return repainted(denoise, x0, known, levels, chosen, noise, at, jump_length=jump, resamples=resamples)


def _guided(model: Model, x0: Tensor, known: Tensor, of: Request, left: float) -> Iterator[Step]:
    assert of.steps is not None
    chosen = model.resolved(of.solver, of.condition, of.guidance, of.steps)
    levels = model.levels(None, of.steps, chosen, of.guidance)
    mask, noise = Mask(known), NoiseSource(of.seeds)
    guided = model.denoise(of.condition, clip=False, guidance=of.guidance)
    denoise: Any = PiGDM(guided, mask, mask.forward(x0), r2=lambda level: left * unit_variance(level))
    if model.space.bounds is not None:
        denoise = Clip(denoise, *model.space.bounds)
    x = initial_noise(x0.expand(of.n, *x0.shape[1:]), levels[0], noise)
    return trajectory(Kept(denoise, mask, x0), x, levels, chosen, noise, model.denoiser.schedule.inverse)
