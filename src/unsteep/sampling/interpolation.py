"""Ways between two pictures: mixed at a noise level (Ho et al. 2020, section 4.4), and through deterministic latents.

**At a level.** Both are noised with one and the same eps, so that mixing their latents is noising their mixture,

    (1 - l) (alpha a + sigma eps) + l (alpha b + sigma eps) = alpha ((1 - l) a + l b) + sigma eps,

and the noise keeps its variance sigma^2 for every l; of two independent noises half would be left in the middle. The
reverse process goes on from that level, with the same later noise for every l.

**Through inversion** (Song, Meng & Ermon 2021, section 5.4). DDIM's step, walked from clean to noise, has the estimate
of the cleaner level:

    x_noisier = alpha_noisier x0 + sigma_noisier eps

Clean data has no eps of its own, but data with a density has -sigma score, its limit, which is 0: the first step is
x_noisier = alpha_noisier x0, at the cost of no evaluation. On Gaussian data of variance c an inverted step and the
step back multiply to cos^2 of the angle between the levels, seen as vectors (alpha sqrt(c), sigma): exact in the limit
of a fine grid, first order before. Latents mix along the great circle between them (slerp; Shoemake 1985), for a
straight line between independent noises passes through points that are too short to be noise.
"""

from __future__ import annotations

import torch
from torch import Tensor

from unsteep.core.level import NoiseLevel, add_noise, like
from unsteep.core.noise import NoiseSource
from unsteep.core.precision import arithmetic
from unsteep.core.schedules import Schedule, levels_of, steps_of
from unsteep.denoiser import Denoise
from unsteep.sampling.loop import At, Solver, sample


def levels_from(schedule: Schedule, step: int, steps: int = 0) -> NoiseLevel:
    """Levels from `step` of the chain down to the clean one, as `grid` lays them: all of them, or those of `steps`
    evenly spaced steps. A schedule that is no chain counts as one of 1000.

    ValueError for a step outside 1..T, and for more steps than there are levels of a chain.
    """
    total = steps_of(schedule)
    if not 1 <= step <= total:
        raise ValueError(f"step: expected 1 to {total}, the steps of this model's noise, got {step}")
    if steps < 0 or (levels_of(schedule) is not None and steps > step):
        raise ValueError(
            f"steps: expected 1 to {step}, as many as there are levels below step {step}, or 0 for all; got {steps}"
        )
    n = steps or step
    return schedule(torch.arange(n, -1, -1, dtype=torch.float64) / n * (step / total))


def mixed(a: Tensor, b: Tensor, weights: Tensor, level: NoiseLevel, noise: NoiseSource) -> Tensor:
    """The latents (n, *shape) at `level` of clean a and b (*shape), b's share being `weights` (n,) in [0, 1].

    Row i has the noise of seed i of `noise`: give every row the same seed.
    """
    x0 = (1 - like(weights, a[None])) * a + like(weights, a[None]) * b
    return add_noise(x0, noise.at(0).normal(x0, draw=0), level)


def interpolate(
    denoise: Denoise,
    a: Tensor,
    b: Tensor,
    weights: Tensor,
    levels: NoiseLevel,
    solver: Solver,
    seed: int = 0,
    at: At | None = None,
) -> Tensor:
    """From a to b by way of levels[0]: clean samples (n, *shape) from `mixed` latents, all with the noise of `seed`."""
    noise = NoiseSource([seed] * len(weights))
    return sample(denoise, mixed(a, b, weights, levels[0], noise), levels, solver, noise, at)


def invert(denoise: Denoise, x0: Tensor, levels: NoiseLevel) -> Tensor:
    """The x at levels[0] from which DDIM() along `levels` (noise first, clean last) comes back to x0 (b, *shape).

    To first order in the spacing of the levels; one evaluation less than there are steps. Runs under no_grad.
    """
    x = x0
    with torch.no_grad(), arithmetic():
        for i in range(len(levels) - 1, 0, -1):
            noisier, cleaner = levels[i - 1].like(x), levels[i]
            if bool(cleaner.sigma == 0):
                x = noisier.alpha * x
            else:
                estimate = denoise(x, cleaner)
                x = noisier.alpha * estimate.x0 + noisier.sigma * estimate.eps
    return x


def slerp(a: Tensor, b: Tensor, weights: Tensor) -> Tensor:
    """From a to b (*shape) at constant angular speed about the origin: (n, *shape) for `weights` (n,) in [0, 1].

    Equal norms are kept, and different ones near them while the vectors are near orthogonal, as noise is. Where the
    two have one direction, or opposite ones and so no plane of their own, it is the straight line.
    """
    weights = weights.double()
    wide_a, wide_b = (x.cpu().double().flatten() for x in (a, b))
    norms = (wide_a.norm() * wide_b.norm()).clamp(min=torch.finfo(torch.float64).tiny)
    angle = torch.acos((wide_a @ wide_b / norms).clamp(-1, 1))
    if float(angle.sin()) < 1e-6:
        share_a, share_b = 1 - weights, weights
    else:
        share_a, share_b = (torch.sin(w * angle) / torch.sin(angle) for w in (1 - weights, weights))
    return like(share_a, a[None]) * a + like(share_b, a[None]) * b
